"""hash_lb: the bucket of a flow by CRC-32 mod 251, and the destination that is in it.

Oracle: zlib's CRC-32 over the documented bytes; scapy sums the rewritten packet.
"""

from __future__ import annotations

import random
import struct
from ipaddress import ip_address
from zlib import crc32

import pytest
from edge_switch import EdgeSwitch, ether, segment, summed
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw
from test_block_mark import gated

BUCKETS = 251


def balancing(kind: str) -> EdgeSwitch:
    """Bucket n of IPv4 goes to 10.9.0.n, of IPv6 to 2001:db8::n."""
    switch = gated("hash_lb.segments", kind)
    at = segment(1 | 1 << 13)
    for bucket in range(BUCKETS):
        for version, base in ((4, 0x0A090000), (6, 0x20010DB8 << 96)):
            table = f"hash_lb.buckets_ipv{version}"
            keys = {"segment": at, "bucket": bucket}
            switch.add(table, keys, f"set_dst_ipv{version}", {"address": base | bucket})
    return switch


def bucket_of(src: str, dst: str, rest: bytes = b"") -> int:
    key = b"".join(int(ip_address(a)).to_bytes(16, "big") for a in (src, dst))
    return crc32(key + rest) % BUCKETS


@pytest.mark.parametrize("kind", ["by_addresses", "by_ports"])
def test_bucket_and_checksums(kind: str) -> None:
    switch, rng = balancing(kind), random.Random(4)
    for _ in range(60):
        src, dst = str(ip_address(rng.getrandbits(32))), "203.0.113.10"
        sport, dport = rng.randrange(65536), rng.randrange(65536)
        layer, protocol = rng.choice(((TCP, 6), (UDP, 17)))
        rest = struct.pack("!HHB", sport, dport, protocol) if kind == "by_ports" else b""
        wanted = f"10.9.0.{bucket_of(src, dst, rest)}"
        l4 = layer(sport=sport, dport=dport) / b"12345678"
        got = switch.one(ether(IP(src=src, dst=dst) / l4))[1]
        assert got.hex() == bytes(ether(IP(src=src, dst=wanted) / l4)).hex()
        src6, dst6 = str(ip_address(rng.getrandbits(128))), "2001:db8:ff::10"
        wanted6 = str(ip_address(0x20010DB8 << 96 | bucket_of(src6, dst6, rest)))
        got = switch.one(ether(IPv6(src=src6, dst=dst6) / l4))[1]
        assert got == bytes(ether(IPv6(src=src6, dst=wanted6) / l4))
        assert got == summed(got)


@pytest.mark.parametrize(
    "packet",
    [
        IP(flags="MF") / UDP(sport=1, dport=2) / b"12345678",
        IP(frag=3, proto=17) / b"12345678",
        IP() / ICMP() / b"ping",
        IP(proto=132) / b"12345678",
    ],
    ids=["first fragment", "later fragment", "echo", "other"],
)
def test_no_ports_are_asked_where_some_packets_of_the_flow_have_none(packet: Packet) -> None:
    packet.src, packet.dst = "198.51.100.1", "203.0.113.10"
    got = IP(balancing("by_ports").one(ether(packet))[1][14:])
    assert got.dst == f"10.9.0.{bucket_of(packet.src, packet.dst)}"


def test_an_icmp_error_goes_where_its_flow_goes() -> None:
    quoted = IP(src="203.0.113.10", dst="198.51.100.1") / UDP() / b"12345678"
    error = IP(src="192.0.2.1", dst="203.0.113.10") / ICMP(type=3, code=4) / quoted
    got = IP(balancing("by_addresses").one(ether(error))[1][14:])
    assert got.dst == f"10.9.0.{bucket_of('198.51.100.1', '203.0.113.10')}"


@pytest.mark.parametrize("kind", ["by_addresses", "by_ports"])
@pytest.mark.parametrize("layer", [TCP, UDP, ICMP])
def test_an_icmp_error_goes_where_its_flow_goes_quote_and_all(kind: str, layer: type) -> None:
    client, virtual, router = "198.51.100.1", "203.0.113.10", "192.0.2.9"
    switch = balancing(kind)
    ask = layer(id=7) if layer is ICMP else layer(sport=4000, dport=80)
    _, request = switch.one(ether(IP(src=client, dst=virtual) / ask / b"12345678"))
    backend = str(ip_address(request[30:34]))
    answer = layer(type=0, id=7) if layer is ICMP else layer(sport=80, dport=4000)

    def error(source: str) -> bytes:
        about = bytes(IP(src=source, dst=client) / answer / bytes(900))[:28]
        return bytes(ether(IP(src=router, dst=source) / ICMP(type=3, code=4) / Raw(about)))

    assert switch.one(error(virtual))[1].hex() == error(backend).hex()


def test_of_an_icmp_error_about_others_the_quote_stays() -> None:
    about = bytes(IP(src="203.0.113.99", dst="198.51.100.1") / UDP())
    packet = IP(src="192.0.2.9", dst="203.0.113.10") / ICMP(type=11) / Raw(about)
    got = balancing("by_addresses").one(ether(packet))[1]
    assert got[14 + 28 :] == about
    assert got == summed(got)
