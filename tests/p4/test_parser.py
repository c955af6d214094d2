"""The parser: what it accepts survives byte for byte, what it announces and lacks is dropped.

Oracle: docs/architecture.md, "Malformed"; each frame's shortest well-formed length is written here.
"""

from __future__ import annotations

import random

import pytest
from edge_switch import (
    FABRIC_PORT,
    HOST_MAC,
    OTHER_HOST_PORT,
    EdgeSwitch,
    ether,
    forwarding,
    segment,
)
from finsy.proto import p4r
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from orchestrator.model.entries import Between, Ternary
from servernf.wire import nsh
from servernf.wire.addresses import device_mac

V4 = {"src": "10.0.1.11", "dst": "198.51.100.13"}
V6 = {"src": "2001:db8:1::11", "dst": "2001:db8:2::13"}
QUOTED = bytes(IP(**V4) / UDP(sport=5, dport=6))
QUOTED_6 = bytes(IPv6(**V6) / UDP(sport=5, dport=6))

# Frame, and the bytes behind the Ethernet header that it must have not to be malformed.
FRAMES: dict[str, tuple[Packet | bytes, int]] = {
    "tcp": (IP(**V4) / TCP(options=[("MSS", 1460)]) / Raw(b"data"), 40),
    "udp with payload": (IP(**V4) / UDP() / Raw(b"0123456789"), 36),
    "udp, 7 bytes": (IP(**V4) / UDP() / Raw(b"0123456"), 28),
    "udp, empty": (IP(**V4) / UDP(), 28),
    "icmp echo": (IP(**V4) / ICMP() / Raw(b"ping"), 28),
    "icmp redirect": (IP(**V4) / ICMP(type=5) / Raw(QUOTED), 28),
    "icmp error": (IP(**V4) / ICMP(type=3) / Raw(QUOTED), 56),
    "icmp error quoting gre": (IP(**V4) / ICMP(type=11) / Raw(bytes(IP(**V4, proto=47))), 48),
    "icmp error quoting a fragment": (
        IP(**V4) / ICMP(type=12) / Raw(bytes(IP(**V4, proto=17, frag=3)) + b"x" * 8),
        48,
    ),
    "igmp": (IP(**V4, proto=2) / Raw(b"x" * 8), 20),
    "options": (IP(**V4, options=IPOption_RR()) / TCP(), 44),
    "longest options": (
        IP(**V4, options=IPOption_RR(routers=["0.0.0.0"] * 9)) / UDP(),
        68,
    ),
    "first fragment": (IP(**V4, flags="MF") / UDP(len=64) / Raw(b"x" * 24), 36),
    "later fragment": (IP(**V4, frag=9, proto=6) / Raw(b"x"), 20),
    "ipv6 tcp": (IPv6(**V6) / TCP(), 60),
    "ipv6 udp": (IPv6(**V6) / UDP() / Raw(b"12345678"), 56),
    "ipv6 echo": (IPv6(**V6) / ICMPv6EchoRequest(), 48),
    "ipv6 error": (IPv6(**V6) / ICMPv6DestUnreach() / Raw(QUOTED_6), 96),
    "ipv6 first fragment": (IPv6(**V6) / IPv6ExtHdrFragment(nh=6, m=1) / Raw(bytes(TCP())), 68),
    "ipv6 later fragment": (IPv6(**V6) / IPv6ExtHdrFragment(nh=6, offset=9) / Raw(b"x"), 48),
    "ipv6 destination options": (IPv6(**V6) / IPv6ExtHdrDestOpt() / TCP(), 40),
    "solicitation": (
        IPv6(**V6) / ICMPv6ND_NS(tgt="fd00::1") / ICMPv6NDOptSrcLLAddr(lladdr=HOST_MAC),
        72,
    ),
    "solicitation without option": (IPv6(**V6) / ICMPv6ND_NS(tgt="fd00::1"), 48),
    "arp": (ARP(pdst="10.0.1.99"), 28),
    "vlan": (Dot1Q(vlan=5) / IP(**V4) / TCP(), 44),
    "two vlans": (Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(**V4) / TCP(), 48),
    "two vlans, ipv6": (Dot1Q(vlan=5) / Dot1Q(vlan=6) / IPv6(**V6) / TCP(), 68),
    "three vlans": (Dot1Q(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / IP(**V4), 8),
}


@pytest.fixture(scope="module")
def switch() -> EdgeSwitch:
    made, _ = forwarding()
    made.add("flowtag_arrival.paths", {"spi": 1, "si": 1}, "enter", {"segment": segment(1)})
    return made


def malformed(switch: EdgeSwitch) -> int:
    assert switch.soft.pipeline is not None
    (packets,) = (
        c[0]
        for name, c in switch.soft.pipeline.state.counters.items()
        if name.endswith("malformed")
    )
    return packets[0]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_survives_as_it_is(switch: EdgeSwitch, name: str) -> None:
    frame = bytes(ether(FRAMES[name][0]))
    assert switch.send(frame) == [(OTHER_HOST_PORT, frame)]


@pytest.mark.parametrize("name", FRAMES)
def test_cut_anywhere_it_is_dropped_or_passes_as_it_is(switch: EdgeSwitch, name: str) -> None:
    payload, least = FRAMES[name]
    frame = bytes(ether(payload))
    for length in range(len(frame) + 1):
        before = malformed(switch)
        cut = frame[:length]
        whole = length >= 14 + least
        assert switch.send(cut) == ([(OTHER_HOST_PORT, cut)] if whole else []), length
        assert malformed(switch) - before == (not whole), length


@pytest.mark.parametrize("name", ["udp with payload", "two vlans", "icmp error", "arp"])
def test_a_tagged_frame_is_cut_as_an_untagged_one(switch: EdgeSwitch, name: str) -> None:
    payload, least = FRAMES[name]
    frame = nsh.encode(nsh.Tag(device_mac(7), device_mac(3), 1, 1), bytes(ether(payload)))
    for length in range(len(frame) + 1):
        cut = frame[:length]
        whole = length >= nsh.TAG_BYTES + 14 + least
        expected = [(OTHER_HOST_PORT, cut[nsh.TAG_BYTES :])] if whole else []
        assert switch.send(cut, FABRIC_PORT) == expected, length


@pytest.mark.parametrize(
    "first_byte", [0x44, 0x40, 0x55, 0x65, 0x05], ids=["ihl 4", "ihl 0", "5", "6", "0"]
)
def test_ipv4_of_another_version_or_too_short(switch: EdgeSwitch, first_byte: int) -> None:
    frame = bytearray(bytes(ether(IP(**V4) / TCP())))
    frame[14] = first_byte
    assert switch.send(bytes(frame)) == []


@pytest.mark.parametrize("first_byte", [0x40, 0x00, 0x70])
def test_ipv6_of_another_version(switch: EdgeSwitch, first_byte: int) -> None:
    frame = bytearray(bytes(ether(IPv6(**V6) / TCP())))
    frame[14] = first_byte
    assert switch.send(bytes(frame)) == []


@pytest.mark.parametrize("ether_type", [0x88B5, 0x8847, 0x88CC, 0x0000, 0x0600, 0xFFFF, 46])
def test_unknown_ether_types_survive(switch: EdgeSwitch, ether_type: int) -> None:
    frame = bytes(ether(b""))[:12] + ether_type.to_bytes(2, "big") + bytes(range(200))
    for length in (14, 15, 60, len(frame)):
        assert switch.send(frame[:length]) == [(OTHER_HOST_PORT, frame[:length])]


def test_padding_and_jumbo_frames_survive(switch: EdgeSwitch) -> None:
    for payload in (bytes(ether(ARP())) + bytes(18), bytes(ether(IP(**V4) / UDP())) + bytes(9000)):
        assert switch.send(payload) == [(OTHER_HOST_PORT, payload)]


def test_random_bytes_never_stop_the_switch(switch: EdgeSwitch) -> None:
    chance = random.Random(17)
    whole = [bytes(ether(payload)) for payload, _ in FRAMES.values()]
    for _ in range(1500):
        frame = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 6)):
            frame[chance.randrange(len(frame))] = chance.getrandbits(8)
        cut = bytes(frame[: chance.randrange(len(frame) + 1)])
        for port in (1, FABRIC_PORT):
            switch.send(cut, port)  # asserts that nothing went wrong inside
    frame = bytes(ether(IP(**V4) / TCP()))
    assert switch.send(frame) == [(OTHER_HOST_PORT, frame)]


class TestWhatMatchesSee:
    """Fields behind VLAN tags, options and fragments, as the filters get them."""

    @pytest.mark.parametrize(
        "name", ["tcp", "options", "vlan", "two vlans", "ipv6 tcp", "ipv6 first fragment"]
    )
    def test_ports_are_found(self, name: str) -> None:
        switch, at = forwarding()
        for table in ("acl.ipv4", "acl.ipv6"):
            ports = {"l4": Ternary(1, 3), "dst_port": Between(80, 80), "src_port": Between(20, 20)}
            switch.add(table, {"segment": at, **ports}, "deny", {}, 1)
        assert switch.send(ether(FRAMES[name][0])) == []
        assert switch.hits("acl.ipv4") + switch.hits("acl.ipv6") == 1

    @pytest.mark.parametrize(
        "name", ["ipv6 destination options", "ipv6 later fragment", "later fragment", "igmp"]
    )
    def test_or_are_none(self, name: str) -> None:
        switch, at = forwarding()
        for table in ("acl.ipv4", "acl.ipv6"):
            switch.add(table, {"segment": at, "l4": Ternary(1, 3)}, "deny", {}, 1)
        assert len(switch.send(ether(FRAMES[name][0]))) == 1

    def test_behind_a_third_tag_nothing_is_read(self) -> None:
        switch, at = forwarding()
        switch.add("acl.ipv4", {"segment": at}, "deny", {}, 1)
        switch.add(
            "acl.other", {"segment": at, "ether_type": Ternary(0x8100, 0xFFFF)}, "permit", {}, 2
        )
        assert len(switch.send(ether(FRAMES["three vlans"][0]))) == 1
        assert switch.hits("acl.other") == 1


def test_a_packet_out_leaves_as_it_is(switch: EdgeSwitch) -> None:
    frame = bytes(Ether(type=0x88B5)) + b"from the controller"
    message = p4r.PacketOut(payload=frame)
    for header in switch.schema.p4info.controller_packet_metadata:
        if header.preamble.name == "packet_out":
            for field in header.metadata:
                value = 2 if field.name == "egress_port" else 0
                message.metadata.add(metadata_id=field.id, value=bytes([value]))
    assert switch.soft.packet_out(message) == [(2, frame)]
