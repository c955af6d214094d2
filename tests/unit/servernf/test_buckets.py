"""Buckets: the switch's hash, and how a pool is dealt."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from servernf.python.network_function import INSIDE, OUTSIDE, create
from servernf.python.packet import PacketView
from servernf.wire.buckets import BUCKETS, bucket_of, bucket_ports, crc16, hash_of, pool_buckets
from servernf.wire.errors import InputError

VECTORS = (  # (address, hash): what tests/p4/test_block_dispatch.py sees a switch dispatch by
    ("10.0.1.11", 0x8F43),
    ("203.0.113.1", 0xB4DB),
    ("2001:db8::1", 0xACB4),
)


def test_the_hash_is_the_switches() -> None:
    assert crc16(b"123456789") == 0xBB3D  # CRC-16/ARC's check value
    for address, expected in VECTORS:
        assert hash_of(int(ip_address(address))) == expected


def test_a_pool_is_dealt_whole_and_once() -> None:
    for low, high, buckets in ((1024, 65535, 64), (5000, 5099, 4), (7, 7, 1), (1, 65535, 1024)):
        dealt = [bucket_ports(low, high, at, at, buckets) for at in range(buckets)]
        assert dealt[0][0] == low
        assert dealt[-1][1] == high
        assert all(a[1] + 1 == b[0] for a, b in pairwise(dealt))
    assert [pool_buckets(ports) for ports in (1, 64, 127, 128, 64_512)] == [1, 1, 1, 2, 64]


def test_an_inside_has_ports_of_its_bucket() -> None:
    nat = create("napt", "g/n", {"addresses": ["203.0.113.1"], "buckets": BUCKETS})
    packet = PacketView()
    for host in range(1, 120):
        inside = f"10.0.0.{host}"
        assert packet.load(
            bytes(Ether() / IP(src=inside, dst="192.0.2.1") / UDP(sport=53, dport=9))
        )
        assert nat.process(packet, INSIDE, 0) == OUTSIDE
        bucket = bucket_of(int(ip_address(inside)))
        low, high = bucket_ports(1024, 65535, bucket, bucket, BUCKETS)
        assert low <= packet.source_port <= high


@pytest.mark.parametrize("buckets", [0, 3, 2048, "64"])
def test_other_numbers_of_buckets_are_refused(buckets: object) -> None:
    with pytest.raises(InputError, match="buckets"):
        create("napt", "g/n", {"addresses": ["203.0.113.1"], "buckets": buckets})


def test_more_buckets_than_ports_are_refused() -> None:
    with pytest.raises(InputError, match="buckets: 8 are more than there are ports, 4"):
        create("napt", "g/n", {"addresses": ["203.0.113.1"], "ports": [1, 4], "buckets": 8})
