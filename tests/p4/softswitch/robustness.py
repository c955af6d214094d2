"""A day of malformed input in minutes: the switch must neither fault, hang nor grow.

    python tests/p4/softswitch/robustness.py [--packets 1000000] [--messages 10000] [--seed 1]

Packets are random, or seeds with bytes changed, cut, doubled or joined, on all
of this folder's programs and the shipped pipelines. Messages are P4Runtime
writes and reads that were right before their bytes were changed. Prints one
JSON line; exit code 1 on a fault, a slow packet or growing memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE.parents[1] / "unit" / "softswitch"), str(HERE.parent / "fuzz")]

import fuzz  # noqa: E402
import softswitch_support as support  # noqa: E402
from finsy.proto import p4i, p4r  # noqa: E402
from fuzz_entries import EntryMaker, replication  # noqa: E402
from google.protobuf.message import DecodeError  # noqa: E402

from orchestrator.errors import ReportedError  # noqa: E402
from orchestrator.softswitch.switch import SoftSwitch  # noqa: E402

PROGRAMS = ("router", "features", "externs")
SLOW_S = 2.0


def resident_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def switches(rng: random.Random) -> list[tuple[SoftSwitch, p4i.P4Info]]:
    out: list[tuple[SoftSwitch, p4i.P4Info]] = []
    for name in PROGRAMS:
        switch, info = SoftSwitch(), support.p4info(name)
        switch.load(support.program(name), info)
        out.append((switch, info))
    for target in fuzz.shipped():
        switch = fuzz.fresh(target)
        fuzz.our_codes(switch, target.setup)
        out.append((switch, target.info))
    for switch, info in out:
        fuzz.our_codes(switch, [*EntryMaker(info, rng).entries(10), *replication()])
    return out


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    frame = bytearray(rng.choice(seeds))
    if kind == 1:
        return bytes(frame[: rng.randrange(len(frame) + 1)])
    if kind == 2:
        return bytes(frame) + rng.choice(seeds)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(frame))
        if kind == 3:
            frame[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 4:
            frame[at] ^= 1 << rng.randrange(8)
        else:
            frame[at:at] = frame[at : at + rng.randrange(8)]
    return bytes(frame)


def packets(count: int, rng: random.Random) -> dict[str, Any]:
    """Malformed packets on every program in turn."""
    ready = switches(rng)
    seeds = [support.udp_frame(), support.udp_frame(vlan=9, options=b"\1" * 8)]
    seeds += [support.op_frame(op, 2, 3, rng.randbytes(24)) for op in range(22)]
    seeds += [fuzz.ip_frame(rng) for _ in range(200)]
    slowest = 0.0
    marks: list[float] = []
    for i in range(count):
        switch, _ = ready[i % len(ready)]
        frame = mutate(rng, seeds)
        start = time.perf_counter()
        switch.process((0, 1, 2, 3, 7, 510, 511)[i % 7], frame)
        slowest = max(slowest, time.perf_counter() - start)
        if i % max(1, count // 20) == 0:
            for each, _ in ready:
                each.packet_ins.clear()
            gc.collect()
            marks.append(resident_mb())
    faults = {
        switch.counters.last_fault.split(" (")[0]
        for switch, _ in ready
        # An assertion of the program is its own doing: BMv2 aborts there.
        if switch.counters.faults and "AssertionError" not in switch.counters.last_fault
    }
    return {
        "packets": count,
        "faults": sorted(faults),
        "loops_cut": sum(s.counters.loops_cut for s, _ in ready),
        "slowest_ms": round(slowest * 1000, 1),
        "memory_mb": [round(m) for m in marks],
    }


def messages(count: int, rng: random.Random) -> dict[str, Any]:
    """Mutated P4Runtime messages; only refusals that name their reason are allowed."""
    ready = switches(rng)
    made = applied = refused = undecodable = 0
    crashes: set[str] = set()
    marks: list[float] = []
    while made < count:
        switch, info = ready[made % len(ready)]
        maker = EntryMaker(info, rng)
        updates: list[Any] = [*maker.entries(2), *replication()]
        if not updates:
            continue
        update = rng.choice(updates)
        update.type = rng.choice((0, 1, 1, 2, 3))
        raw = bytearray(update.SerializeToString())
        for _ in range(rng.randrange(4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if rng.random() < 0.1:
            raw = bytearray(rng.randbytes(rng.randrange(60)))
        made += 1
        try:
            message = p4r.Update.FromString(bytes(raw))
        except DecodeError:
            undecodable += 1
            continue
        try:
            switch.write([message])
            applied += 1
        except ReportedError:
            refused += 1
        except Exception as e:
            crashes.add(f"write: {type(e).__name__}: {e}: {bytes(raw).hex()}")
        try:
            for _ in switch.read(message.entity):
                pass
        except ReportedError:
            pass
        except Exception as e:
            crashes.add(f"read: {type(e).__name__}: {e}: {bytes(raw).hex()}")
        if made % max(1, count // 10) == 0:
            gc.collect()
            marks.append(resident_mb())
    return {
        "messages": made,
        "applied": applied,
        "refused": refused,
        "undecodable": undecodable,
        "crashes": sorted(crashes),
        "memory_mb": [round(m) for m in marks],
    }


def verdict(result: dict[str, Any]) -> list[str]:
    problems = [*result.get("faults", ()), *result.get("crashes", ())]
    if result.get("slowest_ms", 0) > SLOW_S * 1000:
        problems.append(f"a packet took {result['slowest_ms']} ms")
    marks = result["memory_mb"]
    # Memos and pools fill in the first third; from then on memory is flat.
    settled = marks[len(marks) // 3 :]
    if settled and settled[-1] > settled[0] * 1.1 + 10:
        problems.append(f"memory grew: {marks}")
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    cli.add_argument("--packets", type=int, default=1_000_000)
    cli.add_argument("--messages", type=int, default=10_000)
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args(argv)
    rng = random.Random(args.seed)
    start = time.monotonic()
    results = [packets(args.packets, rng), messages(args.messages, rng)]
    problems = [p for r in results for p in verdict(r)]
    seconds = round(time.monotonic() - start)
    print(json.dumps({"results": results, "problems": problems, "seconds": seconds}))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
