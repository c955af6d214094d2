"""What a block of the edge pipeline costs a packet on C: from memory, on one core, in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from engine import FLOWS, _least, _nanoseconds
from figures import Missing, Result, figure
from finsy.proto import p4r
from scapy.layers.inet import IP, UDP

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "p4"))

from edge_switch import (
    GRAPH,
    PEER_MAC,
    EdgeSwitch,
    ether,
    forwarding,
    ip_number,
    mac_number,
    segment,
    tagged,
)

from orchestrator.model.entries import Exact, Lpm, Meter, TableEntry
from servernf.wire.addresses import GATEWAY_MAC

SRC, DST = "10.0.1.11", "198.51.100.13"
GATED = segment(1 | 1 << 13)


def _gated() -> EdgeSwitch:
    switch = EdgeSwitch()
    switch.classify(GATED)
    switch.deliver_all(GATED)
    return switch


def _acl() -> EdgeSwitch:
    switch, at = forwarding()
    switch.add("acl.ipv4", {"segment": at}, "permit", {}, 9)
    return switch


def _rewrite() -> EdgeSwitch:
    switch, at = forwarding()
    address = {"address": ip_number("203.0.113.9")}
    switch.add("rewrite.src_ipv4", {"segment": at, "src": ip_number(SRC)}, "set_src_ipv4", address)
    return switch


def _route() -> EdgeSwitch:
    switch = EdgeSwitch()
    at, behind = segment(1), segment(2)
    switch.classify(at)
    switch.deliver_all(behind, mac=PEER_MAC)
    switch.add("route.segments_routed", {"segment": at}, "route_here", {"gateway_mac": GATEWAY_MAC})
    hop = {"mac": mac_number(PEER_MAC), "gateway_mac": GATEWAY_MAC, "segment": behind}
    switch.add(
        "route.ipv4", {"segment": at, "dst": Lpm(ip_number(DST) & ~255, 24)}, "next_hop", hop
    )
    return switch


def _mark() -> EdgeSwitch:
    switch = _gated()
    switch.add("mark.segments", {"segment": GATED}, "set_dscp", {"dscp": 9})
    return switch


def _policer() -> EdgeSwitch:
    switch = _gated()
    enough = Meter(1 << 31, 1 << 31, 1 << 31, 1 << 31)
    entry = TableEntry(
        "policer.segments", (("segment", Exact(GATED)),), "policer.police", (), 0, "bench", enough
    )
    message = switch.schema.encode(entry, "bench")
    entity = p4r.Entity(table_entry=message)
    switch.write(p4r.Update(type=p4r.Update.INSERT, entity=entity))
    return switch


def _tag() -> EdgeSwitch:
    switch, at = EdgeSwitch(), segment(1)
    switch.classify(at)
    tagged(switch, at)
    return switch


def _watch() -> EdgeSwitch:
    """Each packet is decided on, none is watched."""
    switch = _tag()
    nobody = {"key0": 1, "key1": 2, "below": 0}
    switch.add("trajectory_sample.manifests", {"graph": GRAPH}, "watch", nobody)
    return switch


PROCESSES = 4
"""Of each: where its tables come to lie makes some tens of nanoseconds."""
GATE, TAG = "gate of seldom blocks", "dispatch, flowtag"
BLOCKS: dict[str, Callable[[], EdgeSwitch]] = {
    "port, classify, deliver": lambda: forwarding()[0],
    "acl": _acl,
    "rewrite": _rewrite,
    "route": _route,
    GATE: _gated,
    "mark": _mark,
    "policer": _policer,
    TAG: _tag,
    "trajectory": _watch,
}


@figure("engine_block_ns", unit="ns")
def engine_block_ns() -> Result:
    """A packet from host to host, and one that meets an entry of a block besides."""
    frames = [
        bytes(ether(IP(src=SRC, dst=DST) / UDP(sport=1024 + i, dport=53) / bytes(18)))
        for i in range(FLOWS)
    ]
    switches = [(name, make()) for _ in range(PROCESSES) for name, make in BLOCKS.items()]
    for name, switch in switches:
        if switch.fast is None:
            raise Missing("no C compiler (cc) is installed")
        assert len(switch.send(frames[0])) == 1, name

    def measured(switch: EdgeSwitch) -> Callable[[], float]:
        assert switch.fast is not None
        fast = switch.fast
        return lambda: _nanoseconds(fast, frames)

    least = _least(*(measured(switch) for _, switch in switches), rounds=20)
    least_ns: dict[str, float] = {}
    for (name, _), ns in zip(switches, least, strict=True):
        least_ns[name] = min(ns, least_ns.get(name, ns))
    first = next(iter(least_ns))
    all_of = {name: round(ns) for name, ns in least_ns.items() if name != first}
    return {"value": round(least_ns[first]), "compared_with": all_of, "flows": FLOWS}
