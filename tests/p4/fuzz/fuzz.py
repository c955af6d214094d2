"""Differential fuzzing: random packets and entries, both engines of softswitch against BMv2.

    python tests/p4/fuzz/fuzz.py [--packets 100000] [--seed 1] [--shipped-only]

Half of the packets go through the shipped pipelines (p4src/build), half
through generated programs (needs p4c-bm2-ss). Needs BMv2 and root. A packet
whose outputs differ is minimised: entries that do not matter are taken away,
then bytes. Also the answers to the entries' writes are compared, as applied or
refused. The C engine (where there is a compiler) must do exactly what the Python
engine does, but for programs that it refuses. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT)]

import fuzz_program  # noqa: E402
from finsy.proto import p4i, p4r  # noqa: E402
from fuzz_bmv2 import BMV2, PORTS, Oracle, Outputs, oracle  # noqa: E402
from fuzz_entries import EntryMaker, canonical, replication  # noqa: E402
from google.protobuf import text_format  # noqa: E402

from orchestrator.errors import UnsupportedFeature  # noqa: E402
from orchestrator.softswitch.entity_errors import WriteError  # noqa: E402
from orchestrator.softswitch.fast.building import compiler  # noqa: E402
from orchestrator.softswitch.fast.switch import FastSwitch  # noqa: E402
from orchestrator.softswitch.switch import SoftSwitch  # noqa: E402

P4C = shutil.which("p4c-bm2-ss")
BATCH = 24
BUILD = ROOT / "p4src" / "build"


@dataclass(frozen=True, slots=True)
class Target:
    """A program under test; `hide` blanks what cannot agree (clocks)."""

    name: str
    raw: bytes
    info: p4i.P4Info
    frame: Callable[[random.Random], bytes]
    pools: dict[str, Sequence[int]] = field(default_factory=dict)
    hide: Callable[[int, bytes], bytes] = lambda port, frame: frame
    setup: Sequence[p4r.Update] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    target: Target
    updates: Sequence[p4r.Update]
    port: int
    frame: bytes
    ours: Outputs
    theirs: Outputs

    def __str__(self) -> str:
        shown = "\n".join(text_format.MessageToString(u, as_one_line=True) for u in self.updates)
        ours = {p: [f.hex() for f in fs] for p, fs in self.ours.items()}
        theirs = {p: [f.hex() for f in fs] for p, fs in self.theirs.items()}
        return (
            f"{self.target.name}: port {self.port} frame {self.frame.hex()}\n"
            f"  softswitch {ours}\n  bmv2       {theirs}\n  entries:\n{shown}"
        )


def fresh(target: Target) -> SoftSwitch:
    switch = SoftSwitch()
    switch.load(json.loads(target.raw), target.info)
    return switch


@contextmanager
def fresh_fast(target: Target, *, wanted: bool = True) -> Iterator[FastSwitch | None]:
    """The C engine with a program; None where it is not wanted, cannot be or refuses the program."""
    if not wanted or compiler() is None:
        yield None
        return
    with FastSwitch() as switch:
        try:
            switch.load(json.loads(target.raw), target.info)
        except UnsupportedFeature:
            yield None
            return
        yield switch


def our_codes(switch: SoftSwitch | FastSwitch, updates: Sequence[p4r.Update]) -> list[int]:
    try:
        switch.write(updates)
    except WriteError as e:
        return [0 if error is None else error.code for error in e.errors]
    return [0] * len(updates)


def screened(
    target: Target,
    switch: SoftSwitch,
    port: int,
    frames: Sequence[bytes],
    fast: FastSwitch | None = None,
) -> tuple[list[bytes], Outputs]:
    """Frames that do not go round for ever (BMv2 would never let them go), and their outputs.

    EnginesDiffer if C does anything else.
    """
    out: Outputs = {}
    usable: list[bytes] = []
    for frame in frames:
        cut = switch.counters.loops_cut
        sent = switch.process(port, frame)
        if fast is not None:
            both = (sent, fast.process(port, frame))
            python, c = ([(p, target.hide(p, f).hex()) for p, f in out] for out in both)
            if python != c:
                raise EnginesDiffer(
                    f"{target.name}: port {port} frame {frame.hex()}\n  Python {python}\n"
                    f"  C      {c}"
                )
        if switch.counters.loops_cut != cut:
            continue
        usable.append(frame)
        for to, each in sent:
            if to in PORTS and len(each) >= 14:
                out.setdefault(to, []).append(target.hide(to, each))
    return usable, out


class EnginesDiffer(Exception):
    """C does not do what Python does; in words."""


def same(a: Outputs, b: Outputs) -> bool:
    return {p: Counter(f) for p, f in a.items() if f} == {p: Counter(f) for p, f in b.items() if f}


def hidden(target: Target, got: Outputs) -> Outputs:
    return {p: [target.hide(p, f) for f in frames] for p, frames in got.items()}


class Fuzzer:
    def __init__(self, bmv2: Oracle, seed: int, log: Callable[[str], None]) -> None:
        self.bmv2 = bmv2
        self.rng = random.Random(seed)
        self.log = log
        self.packets = self.sent = self.write_differences = self.unrepeated = 0
        self.fast_packets = self.fast_differences = self.fast_refused = 0
        self.differences: list[Difference] = []

    def round(self, target: Target, packets: int, entries: int) -> None:
        """One set of entries and `packets` packets."""
        maker = EntryMaker(target.info, self.rng, target.pools)
        updates = [*target.setup, *maker.entries(entries)]
        with fresh_fast(target) as fast:
            self.fast_refused += fast is None
            try:
                self.exchange(target, packets, updates, fast)
            except EnginesDiffer as told:
                self.fast_differences += 1
                self.log(str(told))

    def exchange(
        self, target: Target, packets: int, updates: list[p4r.Update], fast: FastSwitch | None
    ) -> None:
        switch = fresh(target)
        self.bmv2.load(target.raw, target.info)
        ours, theirs = our_codes(switch, updates), self.bmv2.write(updates)
        if fast is not None and our_codes(fast, updates) != ours:
            raise EnginesDiffer(f"{target.name}: the answers to writes differ")
        for update, a, b in zip(updates, ours, theirs, strict=True):
            if bool(a) != bool(b):
                self.write_differences += 1
                text = text_format.MessageToString(update, as_one_line=True)
                self.log(f"{target.name}: write: softswitch {a}, bmv2 {b}: {text}")
        while packets > 0:
            port = self.rng.choice(PORTS[:3])
            frames = [target.frame(self.rng) for _ in range(min(BATCH, packets))]
            packets -= len(frames)
            frames, expected = screened(target, switch, port, frames, fast)
            self.packets += len(frames)
            self.fast_packets += len(frames) * (fast is not None)
            count = sum(map(len, expected.values()))
            self.sent += count
            extra = 0.05 if packets <= 0 else 0.0
            got = hidden(target, self.bmv2.exchange(port, frames, count, extra))
            if not same(expected, got):
                self.narrow(target, updates, port, frames, (expected, got))
                return
        if switch.counters.faults:
            raise AssertionError(f"{target.name}: {switch.counters.last_fault}")

    def narrow(
        self,
        target: Target,
        updates: list[p4r.Update],
        port: int,
        frames: Sequence[bytes],
        first: tuple[Outputs, Outputs],
    ) -> None:
        """Find the packet of a batch that differs, and minimise it."""
        outputs = self.batch_differs(target, updates, port, frames)
        if outputs is None:
            # Not from a fresh start: what packets before it left behind, or one lost on the way.
            self.unrepeated += 1
            lost = sum(map(len, first[0].values())) - sum(map(len, first[1].values()))
            self.log(
                f"{target.name}: a batch differed once and not from a fresh start "
                f"({lost} frames fewer than expected): state of earlier packets, or frames lost"
            )
            return
        for frame in frames:
            if self.batch_differs(target, updates, port, [frame]) is not None:
                difference = self.minimise(target, updates, port, frame)
                self.differences.append(difference)
                self.log(str(difference))
                return
        self.differences.append(Difference(target, updates, port, b"".join(frames), *outputs))
        self.log(f"no packet alone, but the batch: {self.differences[-1]}")

    def batch_differs(
        self, target: Target, updates: Sequence[p4r.Update], port: int, frames: Sequence[bytes]
    ) -> tuple[Outputs, Outputs] | None:
        """Both outputs from a fresh start, if they differ."""
        switch = fresh(target)
        our_codes(switch, updates)
        self.bmv2.load(target.raw, target.info)
        self.bmv2.write(updates)
        frames, expected = screened(target, switch, port, frames)
        count = sum(map(len, expected.values()))
        got = hidden(target, self.bmv2.exchange(port, frames, count, 0.1))
        return None if same(expected, got) else (expected, got)

    def minimise(
        self, target: Target, updates: list[p4r.Update], port: int, frame: bytes
    ) -> Difference:
        size = max(1, len(updates) // 2)
        while updates:
            at = 0
            while at < len(updates):
                fewer = updates[:at] + updates[at + size :]
                if self.batch_differs(target, fewer, port, [frame]) is not None:
                    updates = fewer
                else:
                    at += size
            if size == 1:
                break
            size = max(1, size // 2)
        while (
            len(frame) > 14 and self.batch_differs(target, updates, port, [frame[:-1]]) is not None
        ):
            frame = frame[:-1]
        for i in range(len(frame)):
            zeroed = frame[:i] + b"\0" + frame[i + 1 :]
            if frame[i] and self.batch_differs(target, updates, port, [zeroed]) is not None:
                frame = zeroed
        outputs = self.batch_differs(target, updates, port, [frame])
        ours, theirs = outputs or ({}, {})
        return Difference(target, updates, port, frame, ours, theirs)


# ------------------------------------------------------------------ programs


def ip_frame(rng: random.Random) -> bytes:
    """Ethernet with what the shipped pipelines parse, right or wrong in places."""
    macs = bytes.fromhex("020000000001020000000009ffffffffffff020000010000")
    at = rng.randrange(4) * 6
    head = macs[at : at + 6] + bytes.fromhex("0200000000") + bytes([rng.randrange(4)])
    address = bytes([rng.choice((10, 20)), rng.randrange(3), 0, rng.randrange(4)])
    other = bytes([10, rng.randrange(3), 0, rng.randrange(4)])
    protocol = rng.choice((6, 17, 17, 1, 58, 47))
    ports = struct.pack(">HH", rng.choice((80, 81, 1234, 53)), rng.choice((80, 85, 90, 443)))
    body = ports + (
        struct.pack(">IIBBHHH", rng.getrandbits(32), 5, 0x50, rng.randrange(64), 99, 7, 0)
        if protocol == 6
        else struct.pack(">HH", 8 + rng.randrange(20), rng.choice((0, 4660)))
    )
    if protocol in (1, 58):
        body = bytes([rng.choice((0, 3, 8, 11, 135)), 0]) + rng.randbytes(6)
    body += rng.randbytes(rng.randrange(40))
    kind = rng.randrange(10)
    if kind == 0:
        arp = bytes.fromhex("08060001080006040001") + head[6:] + address + bytes(6) + other
        packet = head + arp + bytes(18)
    elif kind < 3:
        source, target = bytes(12) + address, bytes(12) + other
        tail = struct.pack(">IHBB", 0x60000000, len(body), protocol, rng.choice((0, 1, 64)))
        packet = head + b"\x86\xdd" + tail + source + target + body
    else:
        options = rng.choice((b"", b"", b"", b"\1\1\1\1"))
        fragment = rng.choice((0, 0, 0, 0x2000, 5))
        ip = struct.pack(
            ">BBHHHBBH",
            0x45 + len(options) // 4,
            rng.choice((0, 184)),
            20 + len(options) + len(body),
            rng.getrandbits(16),
            fragment,
            rng.choice((0, 1, 2, 64)),
            protocol,
            rng.getrandbits(16),
        )
        packet = head + b"\x08\x00" + ip + address + other + options + body
    if rng.random() < 0.2:
        packet = packet[:12] + b"\x81\x00" + struct.pack(">H", rng.randrange(4)) + packet[12:]
    if rng.random() < 0.15:
        nsh = struct.pack(
            ">HBBIIIII",
            (rng.choice((0, 1, 63)) << 6 | 6),
            1,
            3,
            (0xC001 << 8) | rng.choice((255, 1, 0)),
            rng.getrandbits(32),
            rng.getrandbits(32),
            0,
            0,
        )
        packet = head + b"\x89\x4f" + nsh + packet
    if rng.random() < 0.15:
        spot = rng.randrange(12, len(packet))
        packet = packet[:spot] + bytes([rng.randrange(256)]) + packet[spot + 1 :]
    if rng.random() < 0.1:
        packet = packet[: rng.randrange(14, len(packet))]
    return packet


SAMPLE_CLOCK, SAMPLE_HEAD = 11, 17
"""Where the clock of a sampled copy (clone session 100, port 7) starts, and where it ends."""


def hide_clock(port: int, frame: bytes) -> bytes:
    """NSH context word 3 is the ingress time, in a frame or in a sampled copy of one."""
    if frame[12:14] == b"\x89\x4f":
        return frame[:34] + b"TIME" + frame[38:]
    if port == 7 and len(frame) > SAMPLE_HEAD:
        return frame[:SAMPLE_CLOCK] + hide_clock(0, frame[SAMPLE_HEAD:])
    return frame


POOLS: dict[str, Sequence[int]] = {
    "ingress_port": (1, 2, 3),
    "segment": (1, 2, 3),
    "graph": (1, 2),
    "src": (0x0A000000, 0x0A010001, 0x14000001),
    "dst": (0x0A000000, 0x0A010001, 0x0A020003),
    "src_port": (80, 81, 1234),
    "dst_port": (80, 85, 90),
    "protocol": (6, 17, 1),
    "spi": (0xC001,),
    "si": (255, 1),
    "device": (0x020000010000,),
    "next_segment": (1, 2, 3),
    "first_segment": (1, 2, 3),
}


def edge_setup(info: p4i.P4Info) -> list[p4r.Update]:
    """Entries by which most packets get somewhere in the edge pipeline."""
    tables = {t.preamble.name: t for t in info.tables}
    actions = {a.preamble.name: a for a in info.actions}
    out: list[p4r.Update] = []

    def add(
        table: str, action: str, params: Sequence[int] = (), priority: int = 0, **match: Any
    ) -> None:
        update = p4r.Update(type=p4r.Update.INSERT)
        e = update.entity.table_entry
        e.table_id, e.priority = tables[table].preamble.id, priority
        for f in tables[table].match_fields:
            if f.name not in match:
                continue
            m, v = e.match.add(field_id=f.id), match[f.name]
            if f.match_type == p4i.MatchField.EXACT:
                m.exact.value = canonical(v)
            elif f.match_type == p4i.MatchField.LPM:
                m.lpm.value, m.lpm.prefix_len = canonical(v[0]), v[1]
            elif f.match_type == p4i.MatchField.RANGE:
                m.range.low, m.range.high = canonical(v[0]), canonical(v[1])
            elif f.match_type == p4i.MatchField.TERNARY:
                m.ternary.value, m.ternary.mask = canonical(v[0]), canonical(v[1])
            else:
                m.optional.value = canonical(v)
        e.action.action.action_id = actions[action].preamble.id
        for p, v in zip(actions[action].params, params, strict=True):
            e.action.action.params.add(param_id=p.id, value=canonical(v))
        out.append(update)

    add("ingress.port.ports", "ingress.port.host_facing", (1,), ingress_port=1)
    add("ingress.port.ports", "ingress.port.fabric_facing", (1,), ingress_port=2)
    add("ingress.port.ports", "ingress.port.host_facing", (1,), ingress_port=3)
    arp = ("ingress.neighbor.arp", "ingress.neighbor.answer_arp", (0x020000000077,))
    add(*arp, ingress_port=1, target=(0x0A000001, 32))
    classify = "ingress.classify"
    for table, port in (("ipv4", 1), ("ipv4", 3), ("other", 1)):
        add(f"{classify}.{table}", f"{classify}.{table}.admit", (3,), 1000, ingress_port=port)
    add(f"{classify}.epoch", f"{classify}.run", (2,), graph=3)
    version = {"graph": 3, "epoch": 2}
    for port in (1, 3):
        add(
            f"{classify}.sources_ipv4",
            f"{classify}.sources_ipv4.allow",
            **version,
            ingress_port=port,
        )
    spoofed = (f"{classify}.sources_ipv4", f"{classify}.sources_ipv4.refuse")
    add(*spoofed, **version, ingress_port=3, src=(0x0A000000, 10))
    add(
        f"{classify}.first_ipv4",
        f"{classify}.first_ipv4.enter",
        (5,),
        1000,
        **version,
        ingress_port=1,
    )
    add(
        f"{classify}.first_ipv4",
        f"{classify}.first_ipv4.enter",
        (7,),
        1001,
        **version,
        ingress_port=3,
        dst_port=(80, 90),
    )
    add(
        f"{classify}.first_other",
        f"{classify}.first_other.enter",
        (5,),
        1000,
        **version,
        ingress_port=1,
    )
    watch = ("ingress.trajectory_sample.manifests", "ingress.trajectory_sample.watch")
    add(*watch, (1, 2, 1 << 30), graph=3)
    add("ingress.acl.ipv4", "ingress.acl.ipv4.deny", (), 1009, segment=5, dst_port=(81, 85))
    add("ingress.acl.ipv4", "ingress.acl.ipv4.permit", (), 1001, segment=5)
    add("ingress.route.segments_routed", "ingress.route.route_here", (1,), segment=5)
    add(
        "ingress.route.ipv4",
        "ingress.route.ipv4.next_hop",
        (1, 2, 6),
        segment=5,
        dst=(0x0A000000, 8),
    )
    add(
        "ingress.route.ipv4",
        "ingress.route.ipv4.next_hop",
        (1, 2, 8),
        segment=5,
        dst=(0x0A020000, 16),
    )
    add("ingress.dispatch.spread", "ingress.dispatch.by_pair", segment=6)
    add("ingress.deliver.mac", "ingress.deliver.to_port", (4,), segment=8, dst=1)
    add("ingress.deliver.mac", "ingress.deliver.to_port", (4,), segment=7, dst=0x020000000001)
    arrival = ("ingress.flowtag_arrival.paths", "ingress.flowtag_arrival.enter", (8,))
    add(*arrival, spi=0xC001, si=255)
    add("ingress.port.ports", "ingress.port.server_facing", (1,), ingress_port=4)
    origins = ("ingress.flowtag_arrival.origins", "ingress.flowtag_arrival.accept_tag")
    add(*origins, ingress_port=4, mac=0x020000010000, spi=0xC001, si=255)
    fabric = "ingress.fabric.devices"
    add(fabric, "ingress.fabric.forward", (2,), device=(0x020000010000, 40))
    add(fabric, "ingress.fabric.recirculate_here", device=(0x020000010100, 40))
    for i in range(4):
        device = 0x020000010000 + (0x100 if i == 3 else 0) + i
        to = ("ingress.dispatch.next", "ingress.dispatch.next.to_device", (device, 0xC001, 255, i))
        add(*to, segment=6, hash=(i << 14, 2))
    return out


SETUPS: dict[str, Callable[[p4i.P4Info], list[p4r.Update]]] = {"edge_v1model": edge_setup}


def shipped() -> list[Target]:
    targets: list[Target] = []
    for path in sorted(BUILD.glob("*.p4info.txtpb")):
        name = path.name.removesuffix(".p4info.txtpb")
        info = text_format.Parse(path.read_text(), p4i.P4Info())
        setup = replication()
        setup[1].entity.packet_replication_engine_entry.clone_session_entry.session_id = 100
        if name in SETUPS:
            try:
                setup += SETUPS[name](info)
            except KeyError as e:
                print(f"{name}: the pipeline has changed, no entry for {e}", file=sys.stderr)
        raw = (BUILD / f"{name}.json").read_bytes()
        targets.append(Target(name, raw, info, ip_frame, POOLS, hide_clock, setup))
    return targets


def generated(seed: int) -> Target | None:
    """A random program, or None when p4c does not take it."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        source, out, info = (Path(folder) / n for n in ("g.p4", "g.json", "g.txtpb"))
        source.write_text(fuzz_program.ProgramMaker(seed).make())
        command = [str(P4C), "--p4runtime-files", str(info), "-o", str(out), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None
        p4info = text_format.Parse(info.read_text(), p4i.P4Info())
        # Names of scratch files must not make two runs differ.
        raw = re.sub(rb"/tmp/fuzz\w+/", b"", out.read_bytes())
    return Target(f"generated {seed}", raw, p4info, fuzz_program.frame, {}, setup=replication())


def run(
    packets: int, seed: int, log: Callable[[str], None], *, programs: bool = True, each: int = 400
) -> dict[str, Any]:
    """Fuzz until `packets` packets have passed; a summary."""
    start = time.monotonic()
    with oracle() as bmv2:
        fuzzer = Fuzzer(bmv2, seed, log)
        ready = shipped()
        made = skipped = 0
        number = seed * 1_000_003
        while fuzzer.packets < packets:
            for target in ready:
                fuzzer.round(target, min(each, packets), 12)
            if programs and P4C is not None:
                number += 1
                target = generated(number)
                if target is None:
                    skipped += 1
                    continue
                made += 1
                fuzzer.round(target, min(each, packets), 8)
    return {
        "packets": fuzzer.packets,
        "outputs": fuzzer.sent,
        "shipped": [t.name for t in ready],
        "generated_programs": made,
        "not_compiled": skipped,
        "differences": len(fuzzer.differences),
        "unrepeated_batches": fuzzer.unrepeated,
        "write_differences": fuzzer.write_differences,
        "c_packets": fuzzer.fast_packets,
        "c_refused_rounds": fuzzer.fast_refused,
        "c_differences": fuzzer.fast_differences,
        "seconds": round(time.monotonic() - start, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    cli.add_argument("--packets", type=int, default=100_000)
    cli.add_argument("--seed", type=int, default=1)
    cli.add_argument("--each", type=int, default=400, help="packets a program and set of entries")
    cli.add_argument("--shipped-only", action="store_true", help="no generated programs")
    args = cli.parse_args(argv)
    if BMV2 is None:
        print("simple_switch_grpc is not on PATH", file=sys.stderr)
        return 4
    # A stopped run leaves no interfaces behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    summary = run(
        args.packets,
        args.seed,
        lambda text: print(text, flush=True),
        programs=not args.shipped_only,
        each=args.each,
    )
    print(json.dumps(summary))
    return int(any(summary[f"{what}differences"] for what in ("", "write_", "c_")))


if __name__ == "__main__":
    sys.exit(main())
