"""Parsing: what is malformed (docs/architecture.md), and what is read of what is not.

Oracle: for every kind of frame, the number of bytes that its headers need, counted by hand.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.packet import Raw
from servernf_support import ether

from servernf.python.packet import NO_PORT, PacketView

LONG = Raw(b"\0" * 64)
QUOTE = IP(src="1.1.1.1", dst="2.2.2.2")


def loads(frame: bytes) -> PacketView | None:
    view = PacketView()
    return view if view.load(frame) else None


@pytest.mark.parametrize(
    ("frame", "needed"),
    [
        (ether(Raw(b"")), 14),
        (ether(Dot1Q(vlan=1, type=0x1234)), 18),
        (ether(Dot1AD(vlan=1) / Dot1Q(vlan=2, type=0x1234)), 22),
        (ether(Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / IP()), 22),  # the third is payload
        (ether(ARP()), 42),
        (ether(Dot1Q(vlan=1) / ARP()), 46),
        (ether(IP(proto=132) / LONG), 34),
        (ether(IP(proto=132, options=b"\x01" * 8) / LONG), 42),
        (ether(IP() / TCP() / LONG), 54),
        (ether(IP() / UDP(len=15) / LONG), 42),
        (ether(IP() / UDP(len=16) / LONG), 50),
        (ether(IP(frag=1, proto=6) / LONG), 34),
        (ether(IP(flags=1) / UDP(len=16) / LONG), 50),
        (ether(IP() / ICMP(type=8) / LONG), 42),
        (ether(IP() / ICMP(type=3) / QUOTE / UDP() / LONG), 70),
        (ether(IP() / ICMP(type=11) / QUOTE / TCP() / LONG), 70),
        (ether(IP() / ICMP(type=12) / IP(proto=47) / LONG), 62),
        (ether(IP() / ICMP(type=3) / IP(proto=17, frag=1) / LONG), 62),
        (ether(IP() / ICMP(type=3) / IP(proto=17, options=b"\x01" * 4) / LONG), 62),
        (ether(IP() / ICMP(type=5) / QUOTE / UDP() / LONG), 42),
        (ether(IPv6(nh=59) / LONG), 54),
        (ether(IPv6() / TCP() / LONG), 74),
        (ether(IPv6() / UDP(len=16) / LONG), 70),
        (ether(IPv6(nh=0) / LONG), 54),
        (ether(IPv6() / IPv6ExtHdrFragment(nh=6) / TCP() / LONG), 82),
        (ether(IPv6() / IPv6ExtHdrFragment(nh=6, offset=1) / LONG), 62),
        (ether(IPv6(nh=58) / Raw(b"\x80" + b"\0" * 63)), 62),
        (ether(IPv6(nh=58) / Raw(b"\x01" + b"\0" * 63)), 102),
        (ether(IPv6(nh=58) / Raw(b"\x04" + b"\0" * 63)), 102),
        (ether(IPv6(nh=58) / Raw(b"\x05" + b"\0" * 63)), 62),
        (ether(IPv6() / ICMPv6ND_NS(tgt="::1") / Raw(b"\x01\x01" + b"\0" * 6)), 86),
        (ether(IPv6() / ICMPv6ND_NS(tgt="::1")), 62),
        (ether(IPv6(nh=1) / LONG), 54),  # ICMP is not a protocol of IPv6
        (ether(IP(proto=58) / LONG), 34),
    ],
)
def test_a_frame_must_hold_the_headers_it_announces(frame: bytes, needed: int):
    assert [size for size in range(len(frame) + 1) if loads(frame[:size])] == list(
        range(needed, len(frame) + 1)
    )


def test_versions_and_header_length():
    frame = bytearray(ether(IP() / UDP() / LONG))
    for first, good in ((0x45, True), (0x44, False), (0x55, False), (0x4F, True)):
        frame[14] = first
        assert (loads(bytes(frame)) is not None) is good
    frame = bytearray(ether(IPv6() / UDP() / LONG))
    frame[14] = 0x40
    assert loads(bytes(frame)) is None


def test_where_the_packet_ends():
    padded = ether(IP() / UDP(sport=1, dport=2) / Raw(b"x" * 8)) + b"padding"
    view = loads(padded)
    assert view is not None
    assert (view.end, view.l3, view.l4) == (50, 14, 34)
    for length, end in ((0, 34), (28, 42), (65535, len(padded))):
        frame = bytearray(padded)
        frame[16:18] = length.to_bytes(2, "big")
        view = loads(bytes(frame))
        assert view is not None
        assert view.end == end


def test_fragments_and_ports():
    for offset, more, ports in ((0, 0, True), (0, 1, True), (1, 1, False), (1, 0, False)):
        four = loads(ether(IP(frag=offset, flags=more, proto=17) / UDP(sport=7) / LONG))
        fragment = IPv6ExtHdrFragment(nh=17, offset=offset, m=more)
        six = loads(ether(IPv6() / fragment / UDP(sport=7) / LONG))
        for view in (four, six):
            assert view is not None
            assert view.protocol == 17
            assert view.source_port == (7 if ports else NO_PORT)
            assert (view.l4 > 0) is ports
            assert view.later_fragment is (offset > 0)
            assert view.first_fragment is (offset == 0 and more == 1)


def test_nothing_is_left_of_the_frame_before():
    view = PacketView()
    assert view.load(ether(IPv6() / IPv6ExtHdrFragment(nh=17, offset=1) / LONG))
    assert view.load(ether(ARP()))
    fresh = loads(ether(ARP()))
    assert fresh is not None
    for name in ("version", "protocol", "source", "destination", "source_port", "l4"):
        assert getattr(view, name) == getattr(fresh, name), name
    assert not view.later_fragment


def test_the_type_behind_tags():
    view = loads(ether(Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(src="1.2.3.4") / UDP() / LONG))
    assert view is not None
    assert (view.ether_type, view.version, view.source) == (0x0800, 4, 0x01020304)
    view = loads(ether(Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / IP()))
    assert view is not None
    assert (view.ether_type, view.version) == (0x8100, 0)
