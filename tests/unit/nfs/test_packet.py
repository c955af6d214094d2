"""Packet: what is malformed, what is read, and checksums against scapy's own computation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, IPOption_NOP, UDPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from orchestrator.model.checksums import updated_checksum
from orchestrator.model.packet import Packet

ETHER = Ether(dst="06:00:00:00:00:01", src="0a:00:00:00:00:01")
PORT = st.integers(0, 65535)
ADDRESS = st.integers(0, (1 << 32) - 1)
ADDRESS6 = st.integers(0, (1 << 128) - 1)


def v4(number: int) -> str:
    return ".".join(map(str, number.to_bytes(4, "big")))


def v6(number: int) -> str:
    text = number.to_bytes(16, "big").hex()
    return ":".join(text[i : i + 4] for i in range(0, 32, 4))


def rebuilt(frame: bytes) -> bytes:
    """The frame with every checksum computed anew by scapy."""
    packet: ScapyPacket = Ether(frame)
    for layer in (IP, TCP, UDP, ICMP):
        if packet.haslayer(layer):
            del packet[layer].chksum
    if packet.haslayer(ICMPv6EchoRequest):
        del packet[ICMPv6EchoRequest].cksum
    return bytes(packet)


# Malformed


def whole(*layers: Any) -> bytes:
    packet = ETHER
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


HEADERS = [
    ("ethernet", bytes(ETHER / Raw(b"x")), 14),
    ("vlan", whole(Dot1Q(vlan=5, type=0x1234)), 18),
    ("two vlans", whole(Dot1Q(vlan=5), Dot1Q(vlan=6, type=0x1234)), 22),
    ("arp", whole(ARP()), 42),
    ("ipv4", whole(IP(proto=99)), 34),
    ("ipv4 options", whole(IP(proto=99, options=[IPOption_NOP()] * 4)), 38),
    ("ipv6", whole(IPv6(nh=99)), 54),
    ("ipv6 fragment", whole(IPv6(), IPv6ExtHdrFragment(nh=99)), 62),
    ("tcp", whole(IP(), TCP()), 54),
    ("udp", whole(IP(), UDP()), 42),
    ("udp with 8 bytes of payload", whole(IP(), UDP(), Raw(b"12345678")), 50),
    ("icmp", whole(IP(), ICMP()), 42),
    ("icmpv6", whole(IPv6(), ICMPv6EchoRequest()), 62),
    ("quoted udp", whole(IP(), ICMP(type=3), IPerror(), UDPerror()), 70),
    ("quoted other", whole(IP(), ICMP(type=11), IPerror(proto=99)), 62),
    ("quoted options", whole(IP(), ICMP(type=12), IPerror(ihl=6, proto=17)), 62),
    ("quoted ipv6", whole(IPv6(nh=58), Raw(b"\x01" + bytes(7)), IPv6(nh=17), UDP()), 110),
    ("quoted ipv6 options", whole(IPv6(nh=58), Raw(b"\x01" + bytes(7)), IPv6(nh=60)), 102),
    ("solicitation", whole(IPv6(nh=58, plen=32), Raw(b"\x87" + bytes(31))), 86),
]


@pytest.mark.parametrize(("name", "frame", "needed"), HEADERS, ids=[h[0] for h in HEADERS])
def test_a_frame_may_end_behind_its_headers_and_nowhere_before(
    name: str, frame: bytes, needed: int
) -> None:
    assert Packet.parse(frame[:needed]).malformed is None
    for size in range(needed):
        why = Packet.parse(frame[:size]).malformed
        # At its very start an IP payload is no header yet, when the protocol is cut off with it.
        assert why is not None, f"{name}: {size} bytes"
        assert "ends inside" in why


@pytest.mark.parametrize(
    "frame",
    [
        whole(IP(version=5)),
        whole(IP(ihl=4)),
        bytes(Ether(type=0x86DD) / Raw(bytes(40))),
    ],
)
def test_no_ip_header(frame: bytes) -> None:
    assert "no IP" in str(Packet.parse(frame).malformed)


@pytest.mark.parametrize(
    "frame",
    [
        whole(IP(frag=1, proto=6), Raw(b"x")),
        whole(IPv6(), IPv6ExtHdrFragment(nh=6, offset=1), Raw(b"x")),
        whole(IP(proto=58), Raw(b"x")),
        whole(IPv6(nh=1), Raw(b"x")),
        whole(IPv6(nh=0), Raw(b"x")),
        whole(Dot1Q(), Dot1Q(), Dot1Q(type=0x0800)),
        whole(IP(), UDP(len=15)),
    ],
)
def test_below_this_nothing_is_parsed(frame: bytes) -> None:
    packet = Packet.parse(frame)
    assert packet.malformed is None
    assert packet.later_fragment == (not packet.has_ports) or packet.protocol not in (6, 17)


@given(st.binary(max_size=120))
def test_any_bytes_survive(frame: bytes) -> None:
    packet = Packet.parse(frame)
    assert packet.to_bytes() == frame
    assert packet.copy().to_bytes() == frame


def test_fields_of_a_tagged_tcp_segment() -> None:
    packet = Packet.parse(
        whole(
            Dot1Q(vlan=5, prio=3),
            IP(src="10.0.0.1", dst="10.0.0.2", ttl=9, id=77),
            TCP(sport=1, dport=2, seq=3, ack=4, flags="SA"),
            Raw(b"data"),
        )
        + b"padding"
    )
    assert packet.vlans == (3 << 13 | 5,)
    assert (packet.version, packet.protocol, packet.ttl, packet.identification) == (4, 6, 9, 77)
    assert (packet.src, packet.dst) == (0x0A000001, 0x0A000002)
    assert (packet.src_port, packet.dst_port, packet.tcp_flags) == (1, 2, 0x12)
    assert (packet.tcp_seq, packet.tcp_ack, packet.payload) == (3, 4, b"data")


# Checksums


@given(src=ADDRESS, new=ADDRESS, port=PORT, new_port=PORT, data=st.binary(max_size=40))
def test_rewritten_tcp_has_scapys_checksums(
    src: int, new: int, port: int, new_port: int, data: bytes
) -> None:
    packet = Packet.parse(
        whole(IP(src=v4(src), dst="198.51.100.13"), TCP(sport=port, dport=80), Raw(data))
    )
    packet.rewrite(src=new, src_port=new_port)
    assert (packet.src, packet.src_port) == (new, new_port)
    assert packet.to_bytes() == rebuilt(packet.to_bytes())


@given(dst=ADDRESS6, new=ADDRESS6, new_port=PORT, ttl=st.integers(1, 255))
def test_rewritten_udp_over_ipv6_has_scapys_checksum(
    dst: int, new: int, new_port: int, ttl: int
) -> None:
    packet = Packet.parse(
        whole(IPv6(src="2001:db8::1", dst=v6(dst)), UDP(sport=1, dport=2), Raw(b"x"))
    )
    packet.rewrite(dst=new, dst_port=new_port, ttl=ttl)
    assert (packet.dst, packet.dst_port, packet.ttl) == (new, new_port, ttl)
    assert packet.to_bytes() == rebuilt(packet.to_bytes())


@given(src=ADDRESS6, new=ADDRESS6, new_id=PORT)
def test_rewritten_icmpv6_echo(src: int, new: int, new_id: int) -> None:
    packet = Packet.parse(
        whole(IPv6(src=v6(src), dst="2001:db8::1"), ICMPv6EchoRequest(id=5, data=b"abc"))
    )
    packet.rewrite(src=new, icmp_id=new_id)
    assert packet.to_bytes() == rebuilt(packet.to_bytes())


@given(src=ADDRESS, new=ADDRESS, new_id=PORT)
def test_rewritten_icmp_echo(src: int, new: int, new_id: int) -> None:
    packet = Packet.parse(whole(IP(src=v4(src), dst="10.0.0.1"), ICMP(id=5), Raw(b"abc")))
    packet.rewrite(src=new, icmp_id=new_id)
    assert packet.to_bytes() == rebuilt(packet.to_bytes())


@given(quoted=ADDRESS, new=ADDRESS, port=PORT, checksum=st.integers(1, 65535))
@settings(max_examples=50)
def test_rewritten_quotation(quoted: int, new: int, port: int, checksum: int) -> None:
    inner = IP(src=v4(quoted), dst="198.51.100.13") / UDP(sport=9, dport=53, chksum=checksum)
    packet = Packet.parse(whole(IP(dst=v4(quoted)), ICMP(type=3, code=3), Raw(bytes(inner))))
    packet.rewrite_quoted(src=new, port=port)
    assert (packet.quoted_src, packet.quoted_ports) == (new, (port, 53))
    scapy = Ether(packet.to_bytes())
    carried = bytes(scapy[ICMP].payload)
    assert carried[:20] == bytes(IP(src=v4(new), dst="198.51.100.13", len=28, proto=17))[:20]
    del scapy[ICMP].chksum
    assert bytes(scapy) == packet.to_bytes()


def test_udp_checksum_zero_stays_zero() -> None:
    packet = Packet.parse(whole(IP(src="10.0.0.1"), UDP(sport=1, dport=2, chksum=0)))
    packet.rewrite(src=1, src_port=9)
    assert packet.to_bytes()[40:42] == b"\0\0"


def test_udp_checksum_that_becomes_zero_is_sent_as_ones() -> None:
    packet = Packet.parse(
        whole(IP(src="10.0.0.1", dst="10.0.0.2"), UDP(sport=1, dport=2, chksum=0x1234))
    )
    packet.rewrite(src_port=1 + 0x1234)  # the one port that makes the sum vanish
    assert packet.to_bytes()[40:42] == b"\xff\xff"


def test_wrong_checksums_stay_wrong() -> None:
    packet = Packet.parse(whole(IP(src="10.0.0.1", chksum=1), TCP(chksum=2)))
    packet.rewrite(src=0x0A000002)
    assert packet.to_bytes() != rebuilt(packet.to_bytes())


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [(0xDD2F, 0x5555, 0x3285, 0x0000)],
    ids=["RFC 1624, section 4"],
)
def test_the_rfcs_own_example(before: int, old: int, new: int, after: int) -> None:
    assert updated_checksum(before, [(old, new)]) == after


def test_later_fragments_keep_their_data() -> None:
    frame = whole(IP(frag=10, proto=6), Raw(b"0123456789abcdefghij"))
    packet = Packet.parse(frame)
    packet.rewrite(src=1)
    assert packet.to_bytes()[34:] == frame[34:]
    assert (packet.src_port, packet.tcp_flags, packet.icmp_type) == (None, None, None)
