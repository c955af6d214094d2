"""Figures of the softswitch: lookup cost of a large ACL, write rate, and BMv2 beside it.

The ratio and BMv2's figure are of in-memory and of veth traffic: each says in `compared_with` what
stood against it.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import Missing
from finsy.proto import p4r
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "p4" / "fuzz")]

import fuzz  # noqa: E402
from fuzz_bmv2 import BMV2, PORTS, Oracle, oracle  # noqa: E402
from fuzz_entries import canonical  # noqa: E402

from orchestrator.softswitch.switch import SoftSwitch  # noqa: E402

RULES = ROOT.parent / "shared" / "data" / "classbench" / "acl1_10k.rules"
ACL = "ingress.acl.ipv4"


def _edge() -> fuzz.Target:
    targets = [t for t in fuzz.shipped() if t.name == "edge_v1model"]
    if not targets:
        raise Missing("p4src/build has no edge_v1model")
    return targets[0]


def _rule(target: fuzz.Target, line: str, priority: int) -> p4r.Update:
    """One ClassBench line as an entry of the ACL of segment 5."""
    words = [w.strip() for w in line.split("\t") if w.strip()]

    def prefix(text: str) -> tuple[int, int]:
        address, _, length = text.lstrip("@").partition("/")
        value = 0
        for part in address.split("."):
            value = value << 8 | int(part)
        mask = (0xFFFFFFFF << (32 - int(length))) & 0xFFFFFFFF
        return value & mask, mask

    table = next(t for t in target.info.tables if t.preamble.name == ACL)
    ids = {f.name: f.id for f in table.match_fields}
    update = p4r.Update(type=p4r.Update.INSERT)
    e = update.entity.table_entry
    e.table_id, e.priority = table.preamble.id, priority
    e.match.add(field_id=ids["segment"]).exact.value = canonical(5)
    protocol, mask = (int(x, 16) for x in words[4].split("/"))
    for name, (value, bits) in (
        ("src", prefix(words[0])),
        ("dst", prefix(words[1])),
        ("protocol", (protocol & mask, mask)),
    ):
        if bits:
            m = e.match.add(field_id=ids[name])
            m.ternary.value, m.ternary.mask = canonical(value), canonical(bits)
    for name, text in (("src_port", words[2]), ("dst_port", words[3])):
        low, high = (int(x) for x in text.split(":"))
        if (low, high) != (0, 0xFFFF):
            m = e.match.add(field_id=ids[name])
            m.range.low, m.range.high = canonical(low), canonical(high)
    e.action.action.action_id = next(
        a.preamble.id for a in target.info.actions if a.preamble.name == "ingress.acl.ipv4.permit"
    )
    return update


def _rules(target: fuzz.Target) -> list[p4r.Update]:
    if not RULES.exists():
        raise Missing(f"{RULES} is not there")
    lines = [line for line in RULES.read_text().splitlines() if line.strip()]
    return [_rule(target, line, len(lines) - i) for i, line in enumerate(lines)]


def _frames(count: int) -> list[bytes]:
    """One 60-byte UDP frame a flow, routed and dispatched by `fuzz.edge_setup`'s entries."""
    first = bytes(
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:09")
        / IP(src="20.0.0.0", dst="10.0.0.1")
        / UDP(sport=50000, dport=60000)
        / Raw(b"x" * 18)
    )
    return [first[:26] + (0x14000000 + i).to_bytes(4, "big") + first[30:] for i in range(count)]


def _microseconds(switch: SoftSwitch, frames: Sequence[bytes]) -> float:
    """Best of five rounds, a packet."""
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        for i in range(0, len(frames), 64):
            switch.process_batch(1, frames[i : i + 64])
        best = min(best, time.perf_counter() - start)
    return best / len(frames) * 1e6


def softswitch_acl10k_ratio() -> dict[str, Any]:
    """Packet rate with acl1_10k.rules in the pipeline's ACL over the rate with it empty."""
    target = _edge()
    updates = _rules(target)
    acl_id = updates[0].entity.table_entry.table_id
    # The filters' own entries of the setup stay out: empty means empty.
    setup = [u for u in target.setup if u.entity.table_entry.table_id != acl_id]
    full, empty = fuzz.fresh(target), fuzz.fresh(target)
    full.write([*setup, *updates])
    empty.write(setup)
    few, many = _frames(1024), _frames(16_000)
    with_rules, without = _microseconds(full, few), _microseconds(empty, few)
    new_flows = _once(full, many), _once(empty, many)
    return {
        "name": "softswitch_acl10k_ratio",
        "value": round(without / with_rules, 3),
        "unit": "ratio",
        "compared_with": {
            "empty_acl_us_per_packet": round(without, 2),
            "acl1_10k_us_per_packet": round(with_rules, 2),
            "flows": len(few),
            "every_packet_a_new_flow_ratio": round(new_flows[1] / new_flows[0], 3),
        },
    }


def _once(switch: SoftSwitch, frames: Sequence[bytes]) -> float:
    """Microseconds a packet when no packet's flow was seen before."""
    start = time.perf_counter()
    for i in range(0, len(frames), 64):
        switch.process_batch(1, frames[i : i + 64])
    return (time.perf_counter() - start) / len(frames) * 1e6


def softswitch_write_rate() -> dict[str, Any]:
    """Entries a second that the P4Runtime entity layer accepts, in batches of 1,000."""
    target = _edge()
    switch = fuzz.fresh(target)
    table = next(t for t in target.info.tables if t.preamble.name == "ingress.route.ipv4")
    ids = {f.name: f.id for f in table.match_fields}
    action = next(
        a for a in target.info.actions if a.preamble.name == "ingress.route.ipv4.next_hop"
    )
    batches: list[list[p4r.Update]] = []
    for start in range(0, 50_000, 1000):
        batch: list[p4r.Update] = []
        for i in range(start, start + 1000):
            update = p4r.Update(type=p4r.Update.INSERT)
            e = update.entity.table_entry
            e.table_id = table.preamble.id
            e.match.add(field_id=ids["segment"]).exact.value = canonical(5)
            m = e.match.add(field_id=ids["dst"])
            m.lpm.value, m.lpm.prefix_len = canonical((i + 1) << 8), 24
            e.action.action.action_id = action.preamble.id
            for p, v in zip(action.params, (1, 2, 6), strict=True):
                e.action.action.params.add(param_id=p.id, value=canonical(v))
            batch.append(update)
        batches.append(batch)
    # As the switch's process does: long-lived entries are not scanned for cycles.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    try:
        begin = time.perf_counter()
        for batch in batches:
            switch.write(batch)
        seconds = time.perf_counter() - begin
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return {
        "name": "softswitch_write_rate",
        "value": round(50_000 / seconds),
        "unit": "entries/s",
        "compared_with": {
            "batch": 1000,
            "table": "ingress.route.ipv4",
            "bmv2": "48,000/s LPM in batches of 500 to 1,000 (field notes)",
        },
    }


def _bmv2_rate(bmv2: Oracle, frames: Sequence[bytes], seconds: float) -> float:
    """Packets a second that come back while at most 32 are under way."""
    done, at = 0, 0
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        batch = frames[at : at + 32]
        at = (at + 32) % (len(frames) - 32)
        got = bmv2.exchange(1, batch, len(batch), 0)
        done += sum(map(len, got.values()))
    return done / (time.monotonic() - start)


def softswitch_vs_bmv2() -> dict[str, Any]:
    """Packet rate of the softswitch over BMv2's: same pipeline, entries and frames, same run.

    Both get batches of 32 and the next one when all are back, the softswitch in its own process on
    the same kind of veth pairs.
    """
    if BMV2 is None:
        raise Missing("simple_switch_grpc is not installed")
    if os.geteuid() != 0:
        raise Missing("veth interfaces need root")
    target = _edge()
    setup = [u for u in target.setup if not _samples(u, target)]
    frames = [f[:30] + bytes([10, 2, 0, 1]) + f[34:] for f in _frames(1024)]
    # Straight to a host of this switch: one packet out for one in.
    frames = [bytes(5) + b"\1" + f[6:] for f in frames]
    ours = fuzz.fresh(target)
    ours.write(setup)
    sent = ours.process_batch(1, frames[:32])
    if len(sent) != 32 or any(port not in PORTS for port, _ in sent):
        raise Missing("the pipeline does not forward this figure's frames any more")
    with oracle() as bmv2:
        bmv2.load(target.raw, target.info)
        bmv2.write(setup)
        theirs = _bmv2_rate(bmv2, frames, 4)
    rate = _softswitch_rate(target, setup, frames, 4)
    return {
        "name": "softswitch_vs_bmv2",
        "value": round(rate / theirs, 3),
        "unit": "ratio",
        "compared_with": {
            "softswitch_pps": round(rate),
            "bmv2_pps": round(theirs),
            "bmv2": shutil.which("simple_switch_grpc"),
            "softswitch_in_memory_us": round(_microseconds(ours, frames), 1),
        },
    }


def _samples(update: p4r.Update, target: fuzz.Target) -> bool:
    tables = {t.preamble.id: t.preamble.name for t in target.info.tables}
    return tables.get(update.entity.table_entry.table_id, "").endswith("manifests")


def _softswitch_rate(
    target: fuzz.Target, setup: Sequence[p4r.Update], frames: Sequence[bytes], seconds: float
) -> float:
    with oracle(engine="python") as switch:
        switch.load(target.raw, target.info)
        switch.write(setup)
        return _bmv2_rate(switch, frames, seconds)


if __name__ == "__main__":
    random.seed(1)
    for measure in (softswitch_acl10k_ratio, softswitch_write_rate, softswitch_vs_bmv2):
        try:
            print(measure())
        except Missing as e:
            print(f"{measure.__name__}: {e}")
