"""rewrite: one address for another, and the checksums that cover it (RFC 1624).

Oracle: scapy sums the rewritten packet from scratch.
"""

from __future__ import annotations

import random

import pytest
from edge_switch import EdgeSwitch, ether, forwarding, ip_number, summed
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

OLD, NEW, PEER = "10.0.1.11", "203.0.113.77", "198.51.100.13"
OLD6, NEW6, PEER6 = "2001:db8:1::11", "2001:db8:ffff:1234::77", "2001:db8:2::13"


def rewriting(old: str = OLD, new: str = NEW) -> EdgeSwitch:
    switch, at = forwarding()
    version = 6 if ":" in old else 4
    for field in ("src", "dst"):
        switch.add(
            f"rewrite.{field}_ipv{version}",
            {"segment": at, field: ip_number(old)},
            f"set_{field}_ipv{version}",
            {"address": ip_number(new)},
        )
        switch.add(
            f"rewrite.quoted_{field}_ipv{version}",
            {"segment": at, field: ip_number(old)},
            f"set_quoted_{field}_ipv{version}",
            {"address": ip_number(new)},
        )
    return switch


L4 = {
    "tcp": TCP(sport=1, dport=2, seq=7) / Raw(b"data!"),
    "udp": UDP(sport=1, dport=2) / Raw(b"odd"),
    "icmp": ICMP(id=3, seq=4) / Raw(b"ping"),
    "other": Raw(b"no known protocol"),
}
L4_V6 = {"tcp": L4["tcp"], "udp": L4["udp"], "icmpv6": ICMPv6EchoRequest(id=3, seq=4, data=b"ping")}


@pytest.mark.parametrize("l4", L4.values(), ids=L4)
@pytest.mark.parametrize("tagged", [False, True])
def test_ipv4(l4: Packet, tagged: bool) -> None:
    switch = rewriting()
    proto = {} if not isinstance(l4, Raw) else {"proto": 99}
    for way, expected in (
        (IP(src=OLD, dst=PEER, **proto), IP(src=NEW, dst=PEER, **proto)),
        (IP(src=PEER, dst=OLD, **proto), IP(src=PEER, dst=NEW, **proto)),
    ):
        vlan = Dot1Q(vlan=3) if tagged else None
        sent = ether(vlan / way / l4 if vlan else way / l4)
        wanted = ether(vlan / expected / l4 if vlan else expected / l4)
        got = switch.one(sent)[1]
        assert got.hex() == bytes(wanted).hex()
        assert got == summed(got)


@pytest.mark.parametrize("l4", L4_V6.values(), ids=L4_V6)
def test_ipv6(l4: Packet) -> None:
    switch = rewriting(OLD6, NEW6)
    for way, expected in (
        (IPv6(src=OLD6, dst=PEER6), IPv6(src=NEW6, dst=PEER6)),
        (IPv6(src=PEER6, dst=OLD6), IPv6(src=PEER6, dst=NEW6)),
    ):
        got = switch.one(ether(way / l4))[1]
        assert got.hex() == bytes(ether(expected / l4)).hex()
        assert got == summed(got)


def test_source_and_destination_of_one_packet() -> None:
    got = rewriting().one(ether(IP(src=OLD, dst=OLD) / L4["tcp"]))[1]
    assert got.hex() == bytes(ether(IP(src=NEW, dst=NEW) / L4["tcp"])).hex()


def test_a_miss_changes_nothing() -> None:
    switch = rewriting()
    for payload in (IP(src="10.0.1.12", dst=PEER) / L4["tcp"], ARP(psrc=OLD, pdst=OLD)):
        frame = bytes(ether(payload))
        assert switch.one(frame)[1] == frame


def test_another_segment_changes_nothing() -> None:
    switch, at = forwarding()
    switch.add(
        "rewrite.src_ipv4",
        {"segment": at + 1, "src": ip_number(OLD)},
        "set_src_ipv4",
        {"address": ip_number(NEW)},
    )
    frame = bytes(ether(IP(src=OLD, dst=PEER) / L4["udp"]))
    assert switch.one(frame)[1] == frame


def test_no_udp_checksum_stays_none() -> None:
    sent = ether(IP(src=OLD, dst=PEER) / UDP(sport=1, dport=2, chksum=0) / Raw(b"x"))
    got = Ether(rewriting().one(sent)[1])
    assert got[IP].src == NEW
    assert got[UDP].chksum == 0
    assert bytes(got) == summed(bytes(got))


def test_a_udp_checksum_that_becomes_0_is_sent_as_ffff() -> None:
    """Two payload bytes are chosen such that the rewritten datagram sums to 0."""
    probe = Ether(bytes(ether(IP(src=NEW, dst=PEER) / UDP(sport=1, dport=2) / Raw(b"\0\0"))))
    data = probe[UDP].chksum.to_bytes(2, "big")
    sent = ether(IP(src=OLD, dst=PEER) / UDP(sport=1, dport=2) / Raw(data))
    assert Ether(rewriting().one(sent)[1])[UDP].chksum == 0xFFFF


def test_a_wrong_checksum_stays_wrong() -> None:
    """By as much as it was: the rewrite never hides a damaged packet."""
    good = ether(IP(src=OLD, dst=PEER) / L4["tcp"])
    bad = good.copy()
    bad[TCP].chksum ^= 0x0101
    assert bytes(bad) != bytes(good)
    got = rewriting().one(bad)[1]
    assert got != summed(got)


def test_a_later_fragment_has_no_checksum_but_its_header() -> None:
    payload = bytes(range(64))
    sent = ether(IP(src=OLD, dst=PEER, frag=3, proto=6) / Raw(payload))
    got = rewriting().one(sent)[1]
    assert got == bytes(ether(IP(src=NEW, dst=PEER, frag=3, proto=6) / Raw(payload)))


ROUTER, ROUTER6 = "192.0.2.9", "2001:db8:9::9"
QUOTED_L4 = {
    "tcp": TCP(sport=5, dport=6, seq=7),
    "udp": UDP(sport=5, dport=6) / Raw(bytes(500)),
    "udp without checksum": UDP(sport=5, dport=6, chksum=0),
    "echo": ICMP(id=3, seq=4),
}


@pytest.mark.parametrize("l4", QUOTED_L4.values(), ids=QUOTED_L4)
@pytest.mark.parametrize("source", [OLD, ROUTER])
@pytest.mark.parametrize("back", [False, True])
def test_headers_quoted_in_icmp_errors(l4: Packet, source: str, back: bool) -> None:
    """Of an error about what went the other way the quoted source or destination follows."""
    switch = rewriting()

    def error(address: str) -> bytes:
        about = IP(src=PEER, dst=address, ttl=9) / l4 if back else IP(src=address, dst=PEER) / l4
        outer = {OLD: address}.get(source, source)
        ends = {"src": outer, "dst": PEER} if back else {"src": PEER, "dst": address}
        return bytes(ether(IP(**ends) / ICMP(type=3, code=4) / Raw(bytes(IP(bytes(about)))[:28])))

    got = switch.one(error(OLD))[1]
    wanted = bytearray(error(NEW))
    if "tcp" in l4.summary().lower():  # its checksum is not among the eight bytes
        assert len(wanted) == 14 + 28 + 28
    assert got.hex() == wanted.hex()


@pytest.mark.parametrize("source", [OLD6, ROUTER6])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("kind", ["udp", "icmpv6", "gre"])
def test_headers_quoted_in_icmpv6_errors(source: str, back: bool, kind: str) -> None:
    l4 = {
        "udp": UDP(sport=5, dport=6) / Raw(bytes(400)),
        "icmpv6": ICMPv6EchoRequest(id=3, seq=4),
        "gre": Raw(b"\0\0\x08\0abcd"),
    }[kind]
    nh = {"nh": 47} if kind == "gre" else {}
    switch = rewriting(OLD6, NEW6)

    def error(address: str) -> bytes:
        ways = {"src": PEER6, "dst": address} if back else {"src": address, "dst": PEER6}
        about = bytes(IPv6(**ways, **nh) / l4)
        outer = {OLD6: address}.get(source, source)
        ends = {"src": outer, "dst": PEER6} if back else {"src": PEER6, "dst": address}
        return bytes(ether(IPv6(**ends) / ICMPv6PacketTooBig(mtu=1280) / Raw(about)))

    assert switch.one(error(OLD6))[1].hex() == error(NEW6).hex()


@pytest.mark.parametrize("seed", range(4))
def test_random_packets(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        old, new = (f"{chance.randrange(1, 224)}.{chance.randrange(256)}.0.{i}" for i in (1, 2))
        switch = rewriting(old, new)
        data = Raw(chance.randbytes(chance.randrange(60)))
        l4 = chance.choice([TCP, UDP])(sport=chance.getrandbits(16), dport=chance.getrandbits(16))
        ip = {"id": chance.getrandbits(16), "ttl": chance.randrange(1, 256)}
        got = switch.one(ether(IP(src=old, dst=PEER, **ip) / l4 / data))[1]
        assert got.hex() == bytes(ether(IP(src=new, dst=PEER, **ip) / l4 / data)).hex()
