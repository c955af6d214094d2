"""The gated blocks on BMv2: the same entries and frames give the same frames as in the softswitch.

Clones, recirculation and meters are where two implementations of v1model could part.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from edge_switch import HOST_PORT, OTHER_HOST_PORT, EdgeSwitch, ether, ip_number, segment
from finsy.proto import p4r
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from orchestrator.model.entries import Exact, Lpm, Meter, TableEntry, Ternary
from orchestrator.targets.pipelines import SHIPPED, p4info
from servernf.wire import nsh, reports
from servernf.wire.addresses import COLLECTOR_CORE, device_mac
from servernf.wire.records import RecordKind

sys.path.append(str(Path(__file__).parent / "fuzz"))

from fuzz_bmv2 import BMV2, Oracle, oracle

pytestmark = [
    pytest.mark.skipif(BMV2 is None, reason="simple_switch_grpc is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for veth interfaces"),
]
GATED = 1 << 13
AT, THEN = segment(1 | GATED), segment(2 | GATED)
VIP = "203.0.113.10"


@pytest.fixture(scope="module")
def bmv2() -> Generator[Oracle, None, None]:
    with oracle() as started:
        yield started


class Twins(EdgeSwitch):
    """A softswitch and a BMv2 that are given the same."""

    def __init__(self, bmv2: Oracle) -> None:
        self.bmv2 = bmv2
        edge = SHIPPED.build("edge", "bmv2")
        bmv2.load(edge.device_config, p4info(edge))
        super().__init__()
        self.classify(AT)
        self.deliver_all(AT)
        self.deliver_all(THEN, HOST_PORT)

    def write(self, update: p4r.Update) -> None:
        super().write(update)
        assert self.bmv2.write([update]) == [0]

    def send(self, frame: Ether | bytes, port: int = HOST_PORT) -> list[tuple[int, bytes]]:
        expected = super().send(frame, port)
        got = self.bmv2.exchange(port, [bytes(frame)], len(expected), 0.02)
        left = [(number, data) for number, frames in got.items() for data in frames]
        assert Counter(left) == Counter(expected)
        return expected


FRAMES = [
    ether(IP(tos=3, ttl=9, dst=VIP) / TCP(dport=80) / b"data"),
    ether(IP(tos=0xFC, dst=VIP, options=b"\x01" * 4) / UDP(dport=80) / b"12345678"),
    ether(Dot1Q(vlan=5, prio=3) / IPv6(tc=0x2F, hlim=200) / UDP() / b"12345678"),
    ether(Dot1Q(vlan=6) / Dot1Q(vlan=5) / IP(dst=VIP, flags="MF") / UDP() / b"12345678"),
    ether(Dot1Q(vlan=7) / Dot1Q(vlan=6) / Dot1Q(vlan=5) / IP() / UDP()),
    ether(IP(dst=VIP) / ICMP(type=3) / IP(src=VIP, dst="9.9.9.9") / UDP() / b"12345678"),
    ether(ARP(op=2)),
]
ENTRIES: dict[str, tuple[str, str, dict[str, int]]] = {
    "dscp": ("mark.segments", "set_dscp", {"dscp": 46}),
    "require ttl": ("mark.segments", "require_ttl", {"low": 10, "high": 64}),
    "limit ttl": ("mark.segments", "limit_ttl", {"low": 10, "high": 64}),
    "push": ("untag.segments", "push", {"ether_type": 0x88A8, "pcp": 5, "vid": 100}),
    "push last": ("tag.segments", "push", {"ether_type": 0x8100, "pcp": 1, "vid": 1}),
    "pop": ("tag.segments", "pop_any", {"strict": 0}),
    "pop one": ("untag.segments", "pop", {"vid": 5, "strict": 1}),
    "mirror": ("mirror.segments", "copy_to", {"segment": THEN}),
}


@pytest.mark.parametrize("what", ENTRIES)
def test_one_entry(what: str, bmv2: Oracle) -> None:
    table, action, params = ENTRIES[what]
    switch = Twins(bmv2)
    switch.add(table, {"segment": AT}, action, params)
    assert sum(len(switch.send(frame)) for frame in FRAMES) >= 1


@pytest.mark.parametrize("kind", ["by_addresses", "by_ports"])
def test_hash_lb(kind: str, bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    switch.add("hash_lb.segments", {"segment": AT}, kind)
    for bucket in range(251):
        for version in (4, 6):
            table = f"hash_lb.buckets_ipv{version}"
            keys = {"segment": AT, "bucket": bucket}
            switch.add(table, keys, f"set_dst_ipv{version}", {"address": 0x0A000000 | bucket})
    for number in range(10):
        switch.send(ether(IP(src=f"10.0.0.{number}", dst=VIP) / TCP(sport=number) / b"data"))
    for frame in FRAMES:
        switch.send(frame)


def test_policer(bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    size = len(bytes(FRAMES[0]))
    entry = TableEntry(
        "policer.segments",
        (("segment", Exact(AT)),),
        "policer.police",
        (),
        0,
        "test",
        Meter(1, 2 * size, 1, 4 * size),
    )
    entity = p4r.Entity(table_entry=switch.schema.encode(entry, "test"))
    switch.write(p4r.Update(type=p4r.Update.INSERT, entity=entity))
    switch.add("policer.colours", {"segment": AT, "colour": 1}, "set_dscp", {"dscp": 10})
    switch.add("policer.colours", {"segment": AT, "colour": 2}, "deny", {})
    left = [switch.send(FRAMES[0]) for _ in range(5)]
    assert [Ether(sent[0][1])[IP].tos if sent else None for sent in left] == [3, 3, 43, 43, None]
    wanted = p4r.Entity()
    wanted.table_entry.table_id = switch.schema.table("policer.segments").id
    wanted.table_entry.meter_config.SetInParent()
    request = p4r.ReadRequest(device_id=1, entities=[wanted])
    (response,) = bmv2.stub.Read(request, timeout=120)
    (only,) = response.entities
    assert switch.schema.decode(only.table_entry)[1].meter == entry.meter
    counted = p4r.Entity()
    counted.table_entry.table_id = switch.schema.table("policer.colours").id
    counted.table_entry.counter_data.SetInParent()
    request = p4r.ReadRequest(device_id=1, entities=[counted])
    (response,) = bmv2.stub.Read(request, timeout=120)
    packets = [e.table_entry.counter_data.packet_count for e in response.entities]
    assert sorted(packets) == [1, 2]


@pytest.mark.parametrize("pops", [False, True])
def test_rules_by_vlan_before_and_behind_a_pop(pops: bool, bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    if pops:
        switch.add("untag.segments", {"segment": AT}, "pop_any", {"strict": 0})
    untagged, five = Ternary(0, 0x1FFF), Ternary(1 << 12 | 5, 0x1FFF)
    for priority, (table, vlan) in enumerate(
        (
            ("acl.ipv4", untagged),
            ("acl.ipv6", five),
            ("split.ipv4", five),
            ("split.other", untagged),
        ),
        start=1,
    ):
        switch.add(table, {"segment": AT, "vlan": vlan}, "deny", {}, priority)
    left = [len(switch.send(frame)) for frame in FRAMES]
    # Behind the pop the frame of VLAN 6 shows 5; one with three tags is not popped.
    assert sum(left) == (0 if pops else 2), left


def test_a_mirror_with_changes_on_both_ways(bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    switch.add("mirror.segments", {"segment": AT}, "copy_to", {"segment": THEN})
    switch.add("mark.segments", {"segment": AT}, "set_dscp", {"dscp": 1})
    switch.add("mark.segments", {"segment": THEN}, "set_dscp", {"dscp": 2})
    keys = {"key0": 1, "key1": 2, "below": 0xFFFFFFFF}
    switch.add("trajectory_sample.manifests", {"graph": 5}, "watch", keys)
    for frame in FRAMES:
        assert {port for port, _ in switch.send(frame)} == {HOST_PORT, OTHER_HOST_PORT}


@pytest.mark.parametrize("pushed", [False, True])
def test_vxlan(pushed: bool, bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    params = {"mac": 0x060000000001, "src": 1, "dst": ip_number(VIP), "checksum": 0x1234}
    switch.add("tunnel.segments", {"segment": AT}, "encap", {**params, "vni": 7, "segment": THEN})
    if pushed:
        push = {"ether_type": 0x8100, "pcp": 0, "vid": 5}
        switch.add("tag.segments", {"segment": AT}, "push", push)
    for frame in FRAMES[:3]:
        ((port, outer),) = switch.send(frame)
        assert port == HOST_PORT
        assert Ether(outer)[VXLAN].vni == 7


def test_vxlan_decap(bmv2: Oracle) -> None:
    switch = Twins(bmv2)
    params = {"dst": ip_number(VIP), "vni": 7, "segment": THEN}
    switch.add("tunnel.segments", {"segment": AT}, "decap", params)
    for frame in FRAMES:
        for vni in (7, 8):
            outer = ether(IP(dst=VIP) / UDP(dport=4789, chksum=0) / VXLAN(vni=vni, flags=8) / frame)
            assert switch.send(outer) == ([(HOST_PORT, bytes(frame))] if vni == 7 else [])
        switch.send(frame)


COLLECTOR, WAY, TAGGED = device_mac(3, core=COLLECTOR_CORE), 3, 4
"""The CLE's collector, the port to it, and one that tagged frames come from."""
KEY = (0x0BADC0DE, 0xFEEDF00D)


class Watched(Twins):
    """Both tell a witness of all packets of graph 5."""

    def __init__(self, bmv2: Oracle) -> None:
        super().__init__(bmv2)
        for port in (WAY, TAGGED):
            self.add("port.ports", {"ingress_port": port}, "fabric_facing", {"switch_id": 7})
        params = {"collector": COLLECTOR, "boot": 1, "key0": KEY[0], "key1": KEY[1]}
        self.add("record.collectors", {"graph": 5}, "tell", params)
        watch = {"number": 1, "key0": 1, "key1": 2, "packets": 1 << 32, "flows": 0}
        self.add("witness.epochs", {"graph": 5}, "watch", watch)
        way = {"device": Lpm(COLLECTOR & ~0xFFFF, 32)}
        self.add("fabric.devices", way, "forward", {"port": WAY})

    def reports(self, frame: Ether | bytes, port: int) -> list[RecordKind]:
        """Kinds of what is told, by both alike but for their clocks and what is numbered first."""
        ours = EdgeSwitch.send(self, frame, port)
        theirs = self.bmv2.exchange(port, [bytes(frame)], len(ours), 0.05)
        both = ours, [(number, data) for number, frames in theirs.items() for data in frames]
        seen: list[tuple[Counter[object], list[int]]] = []
        for sent in both:
            told = [data for _, data in sent if reports.is_report(data)]
            assert all(reports.is_authentic(data, KEY) for data in told)
            plain = [(number, data) for number, data in sent if not reports.is_report(data)]
            made = [reports.decode(data) for data in told]
            timeless = [
                replace(r, arrival_us=0, number=0, ingress_us=r.ingress_us if r.path else 0)
                for r in made
            ]
            seen.append((Counter[object]([*plain, *timeless]), sorted(r.number for r in made)))
        assert seen[0] == seen[1]
        return sorted(reports.decode(data).kind for _, data in ours if reports.is_report(data))


def test_reports(bmv2: Oracle) -> None:
    switch = Watched(bmv2)
    for frame in FRAMES:
        assert switch.reports(frame, HOST_PORT) == [RecordKind.ENTRY, RecordKind.EXIT]
    path = {"spi": 5 << 14 | 4, "si": 250}
    switch.add("flowtag_arrival.paths", path, "enter", {"segment": AT})
    for si, told in ((250, RecordKind.EXIT), (249, RecordKind.DROP)):
        tag = nsh.Tag(device_mac(7), device_mac(3), 5 << 14 | 4, si, label=9, ingress_us=8, flow=3)
        frame = nsh.encode(tag, bytes(FRAMES[0]))
        assert switch.reports(frame, TAGGED) == sorted([told, RecordKind.HOP])


def test_reports_of_a_mirrors_copy(bmv2: Oracle) -> None:
    switch = Watched(bmv2)
    switch.add("mirror.segments", {"segment": AT}, "copy_to", {"segment": THEN})
    for frame in FRAMES:
        told = [RecordKind.ENTRY, RecordKind.EXIT, RecordKind.EXIT]
        assert switch.reports(frame, HOST_PORT) == told
