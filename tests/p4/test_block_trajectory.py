"""trajectory: label and sampling decision.

Oracle: the label is recomputed in Python from scapy's fields; the decision is wire.prf's, whose own
oracle is the authors' vectors (tests/unit/servernf/test_prf.py).
"""

from __future__ import annotations

import ipaddress
import random
import struct
import zlib
from typing import Any

import pytest
from edge_switch import FABRIC_PORT, GRAPH, EdgeSwitch, ether, forwarding, segment, tagged
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from orchestrator.model import ids
from orchestrator.model.entries import Lpm
from servernf.wire import nsh, prf
from servernf.wire.addresses import device_mac

KEY0, KEY1 = 0x01234567, 0x89ABCDEF


def labelled(frame: Packet | bytes) -> int:
    """The label that the ingress switch writes."""
    switch, at = forwarding()
    tagged(switch, at)
    tag, _ = nsh.decode(switch.one(frame)[1]) or pytest.fail("no tag")
    return tag.label


def label_of(
    src: str = "",
    dst: str = "",
    ether_type: int = 0x0800,
    protocol: int = 0,
    ports: tuple[int, int] = (0, 0),
    length_and_id: int = 0,
    position: bytes = bytes(8),
) -> int:
    """CRC-32 over the invariant fields, as p4src/blocks/trajectory.p4 says."""

    def address(text: str) -> bytes:
        return (int(ipaddress.ip_address(text)) if text else 0).to_bytes(16, "big")

    fields = struct.pack(">HBHHI", ether_type, protocol, *ports, length_and_id)
    return zlib.crc32(address(src) + address(dst) + fields + position)


def flow_of(src: str, dst: str, protocol: int, ports: tuple[int, int] = (0, 0)) -> int:
    """CRC-16/ARC over addresses, protocol and ports, bit by bit."""
    register = 0
    addresses = b"".join(int(ipaddress.ip_address(a)).to_bytes(16, "big") for a in (src, dst))
    for byte in addresses + struct.pack(">BHH", protocol, *ports):
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register


V4 = {"src": "10.0.1.11", "dst": "198.51.100.13"}
V6 = {"src": "2001:db8:1::11", "dst": "2001:db8:2::13"}
FRAMES: dict[str, tuple[Any, int]] = {
    "tcp": (
        IP(**V4, id=77) / TCP(sport=5, dport=80, seq=0x01020304, ack=0x05060708) / Raw(b"hello"),
        label_of(
            **V4,
            protocol=6,
            ports=(5, 80),
            length_and_id=45 << 16 | 77,
            position=bytes.fromhex("0102030405060708"),
        ),
    ),
    "udp": (
        IP(**V4, id=78) / UDP(sport=5, dport=53) / Raw(b"01234567 and more"),
        label_of(
            **V4,
            protocol=17,
            ports=(5, 53),
            length_and_id=45 << 16 | 78,
            position=b"01234567",
        ),
    ),
    "udp, short": (
        IP(**V4, id=79) / UDP(sport=5, dport=53) / Raw(b"0123456"),
        label_of(**V4, protocol=17, ports=(5, 53), length_and_id=35 << 16 | 79),
    ),
    "icmp echo": (
        IP(**V4, id=80) / ICMP(id=0x1234, seq=0x5678),
        label_of(
            **V4,
            protocol=1,
            ports=(8, 0),  # type and code
            length_and_id=28 << 16 | 80,
            position=bytes.fromhex("0000000012345678"),
        ),
    ),
    "later fragment": (
        IP(**V4, id=81, frag=5, proto=17) / Raw(b"x" * 16),
        label_of(**V4, protocol=17, length_and_id=36 << 16 | 81),
    ),
    "vlan": (
        Dot1Q(vlan=5) / IP(**V4, id=82) / UDP(sport=1, dport=2, chksum=0),
        label_of(**V4, protocol=17, ports=(1, 2), length_and_id=28 << 16 | 82),
    ),
    "ipv6 tcp": (
        IPv6(**V6) / TCP(sport=5, dport=80, seq=9),
        label_of(
            **V6,
            ether_type=0x86DD,
            protocol=6,
            ports=(5, 80),
            length_and_id=20 << 16,
            position=bytes([0, 0, 0, 9, 0, 0, 0, 0]),
        ),
    ),
    "ipv6 fragment": (
        IPv6(**V6) / IPv6ExtHdrFragment(nh=17, offset=3, id=0xAABBCCDD) / Raw(b"x" * 8),
        label_of(**V6, ether_type=0x86DD, protocol=17, length_and_id=(16 << 16) ^ 0xAABBCCDD),
    ),
    "icmpv6 echo": (
        IPv6(**V6) / ICMPv6EchoRequest(id=3, seq=4),
        label_of(
            **V6,
            ether_type=0x86DD,
            protocol=58,
            ports=(128, 0),
            length_and_id=8 << 16,
            position=bytes([0, 0, 0, 0, 0, 3, 0, 4]),
        ),
    ),
    "icmp error": (
        IP(src="192.0.2.1", dst=V4["src"], id=83)
        / ICMP(type=11, unused=0)
        / Raw(bytes(IP(**V4) / UDP(sport=5, dport=6))),
        label_of(V4["dst"], V4["src"], protocol=1, ports=(11, 0), length_and_id=56 << 16 | 83),
    ),
    "arp": (
        ARP(pdst="10.0.1.99"),
        label_of(ether_type=0x0806, length_and_id=0x00000001 ^ 0x00000001),
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_label_is_over_the_invariant_fields(name: str) -> None:
    payload, expected = FRAMES[name]
    assert labelled(ether(payload)) == expected


def test_frames_that_are_not_ip_differ_by_their_macs() -> None:
    a, b = (
        Ether(dst="06:00:00:00:00:01", src=f"0a:00:00:00:00:{i:02x}", type=0x88B5) / Raw(b"x" * 46)
        for i in (1, 2)
    )
    assert labelled(a) == label_of(ether_type=0x88B5, length_and_id=1 ^ 1)
    assert labelled(b) == label_of(ether_type=0x88B5, length_and_id=1 ^ 2)


def test_what_devices_change_is_not_in_the_label() -> None:
    one, other = (
        ether(IP(**V4, id=7, ttl=ttl, tos=tos) / UDP(sport=1, dport=2, chksum=sum_) / Raw(b"data"))
        for ttl, tos, sum_ in ((64, 0, 1), (63, 0xB8, 2))
    )
    assert labelled(one) == labelled(other)


def test_packets_of_one_flow_differ() -> None:
    flow = [
        ether(IP(**V4, id=1) / TCP(sport=5, dport=80, seq=1000 + 1448 * i) / Raw(b"x" * 1448))
        for i in range(40)
    ]
    assert len({labelled(frame) for frame in flow}) == 40


class TestSampling:
    """Every switch decides for itself, from the label alone."""

    @staticmethod
    def watching(rate: float, graph: int = GRAPH) -> EdgeSwitch:
        switch = EdgeSwitch()
        switch.add(
            "trajectory_sample.manifests",
            {"graph": graph},
            "watch",
            {"key0": KEY0, "key1": KEY1, "below": min(int(rate * 2**32), 2**32 - 1)},
        )
        switch.add("fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", {"port": 9})
        return switch

    @staticmethod
    def transit(label: int, graph: int = GRAPH) -> bytes:
        spi = ids.PATH.pack(graph, 4)
        tag = nsh.Tag(device_mac(9), device_mac(3), spi, 250, label=label)
        return nsh.encode(tag, bytes(ether(b"x" * 46)))

    @staticmethod
    def samples(switch: EdgeSwitch) -> list[dict[str, int]]:
        info = switch.schema.p4info.controller_packet_metadata
        names = {m.id: m.name for h in info if h.preamble.name == "packet_in" for m in h.metadata}
        headers = [
            {names[m.metadata_id]: int.from_bytes(m.value, "big") for m in packet.metadata}
            for packet in switch.soft.packet_ins
        ]
        switch.soft.packet_ins.clear()
        return headers

    @pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 1.0])
    def test_the_decision_is_the_prfs(self, rate: float) -> None:
        switch = self.watching(rate)
        threshold = min(int(rate * 2**32), 2**32 - 1)
        chance = random.Random(11)
        labels = [0, 1, 2**31, 2**32 - 1, *(chance.getrandbits(32) for _ in range(600))]
        for label in labels:
            switch.one(self.transit(label), FABRIC_PORT)
        expected = [label for label in labels if prf.sampled(KEY0, KEY1, label, threshold)]
        assert [sample["label"] for sample in self.samples(switch)] == expected
        assert bool(expected) is (rate > 0)

    def test_a_sample_says_where_and_when(self) -> None:
        switch = self.watching(1.0)
        switch.now_ns += 5_000_000
        switch.one(self.transit(99), FABRIC_PORT)
        (sample,) = self.samples(switch)
        sample.pop("_pad", None)
        assert sample == {
            "ingress_port": FABRIC_PORT,
            "reason": 1,
            "label": 99,
            "spi": ids.PATH.pack(GRAPH, 4),
            "si": 250,
            "timestamp_us": 6_000,
        }

    def test_the_frame_itself_shows_nothing(self) -> None:
        watched, not_watched = self.watching(1.0), self.watching(0.0)
        frame = self.transit(99)
        assert watched.one(frame, FABRIC_PORT) == not_watched.one(frame, FABRIC_PORT)

    def test_other_graphs_have_other_secrets(self) -> None:
        switch = self.watching(1.0, GRAPH)
        switch.one(self.transit(99, GRAPH + 1), FABRIC_PORT)
        assert self.samples(switch) == []

    def test_ingress_and_transit_agree(self) -> None:
        """The first switch's own decision is by the label that it writes."""
        at = segment(1)
        ingress, transit = self.watching(0.3), self.watching(0.3)
        ingress.classify(at)
        mac = {"mac": device_mac(9), "spi": ids.PATH.pack(GRAPH, 4), "si": 250}
        ingress.add("dispatch.next", {"segment": at}, "to_device", {**mac, "traffic_class": 0})
        for number in range(80):
            frame = ether(IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=1, dport=2))
            sent = ingress.one(frame)[1]
            transit.one(sent, FABRIC_PORT)
        first, second = ([s["label"] for s in self.samples(s)] for s in (ingress, transit))
        assert first == second
        assert 5 < len(first) < 50

    def test_dropped_before_the_first_segment_is_no_sample(self) -> None:
        switch = self.watching(1.0)
        assert switch.send(ether(IP() / UDP())) == []
        assert self.samples(switch) == []


@pytest.mark.parametrize(
    ("frame", "flow"),
    [
        (IP(**V4, id=1) / TCP(sport=5, dport=80, seq=1), flow_of(*V4.values(), 6, (5, 80))),
        (IP(**V4, id=9) / TCP(sport=5, dport=80, seq=7), flow_of(*V4.values(), 6, (5, 80))),
        (IP(**V4) / UDP(sport=5, dport=53) / Raw(b"x"), flow_of(*V4.values(), 17, (5, 53))),
        (IPv6(**V6) / UDP(sport=5, dport=53) / Raw(b"x"), flow_of(*V6.values(), 17, (5, 53))),
        (IP(**V4, frag=9, proto=17) / Raw(b"later"), flow_of(*V4.values(), 17)),
        (IP(**V4, proto=50) / Raw(b"other"), flow_of(*V4.values(), 50)),
    ],
)
def test_the_tag_says_the_flow(frame: Packet, flow: int) -> None:
    switch, at = forwarding()
    tagged(switch, at)
    tag, _ = nsh.decode(switch.one(ether(frame))[1]) or pytest.fail("no tag")
    assert tag.flow == flow
