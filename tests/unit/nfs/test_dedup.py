"""dedup: which packets are copies, how long, how many; and that the workers' runtime does the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nf_bench import Bench, Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Raw

from orchestrator.nfs.base import lookup

DATA = IP(src="10.0.1.11", dst="198.51.100.13", id=7) / UDP(sport=1, dport=2) / Raw(b"reading 1")


def test_the_second_copy_is_dropped_whatever_its_way_was() -> None:
    bench = Bench("dedup", {})
    assert bench.passes("inside", DATA)
    other_way = DATA.copy()
    other_way.ttl, other_way.tos = 9, 0xB8
    assert not bench.passes("inside", other_way)
    assert bench.passes("outside", DATA), "the directions do not know each other"
    for changed in ({"id": 8}, {"dst": "198.51.100.14"}):
        other = DATA.copy()
        other.fields |= changed
        assert bench.passes("inside", other)
    assert bench.passes("inside", DATA / Raw(b"!"))


def test_the_window_counts_from_the_copy_that_passed() -> None:
    bench = Bench("dedup", {"window_ms": 20})
    assert bench.passes("inside", DATA)
    bench.wait(0.019)
    assert not bench.passes("inside", DATA)
    bench.wait(0.001)
    assert bench.passes("inside", DATA)


def test_equal_acks_and_what_is_not_ip_pass() -> None:
    bench = Bench("dedup", {})
    ack = IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=1, dport=2, flags="A", ack=5)
    for packet in (ack, ARP(pdst="10.0.0.1")):
        assert all(bench.passes("inside", packet) for _ in range(4)), "a sender counts equal ACKs"
    assert bench.passes("inside", ack / Raw(b"x"))
    assert not bench.passes("inside", ack / Raw(b"x"))


def test_memory_is_bounded() -> None:
    bench = Bench("dedup", {"max_packets": 2})
    packets = [DATA / Raw(bytes([n])) for n in range(3)]
    for packet in packets:
        assert bench.passes("inside", packet)
    assert bench.passes("inside", packets[0]), "the oldest went"
    assert not bench.passes("inside", packets[2])


def test_bad_configs() -> None:
    for config in ({"window_ms": 0}, {"window_ms": 0.5}, {"max_packets": 0}, {"window": 3}):
        with pytest.raises(ValidationError):
            lookup("dedup").Config.model_validate(config)


@pytest.mark.slow
def test_the_runtime_does_the_same() -> None:
    both = Both("dedup", window_ms=5, max_packets=40)
    rng, recent, dropped = random.Random(3), list[bytes](), 0
    ping: Any = ether(IP(src="10.0.1.1", dst="10.0.1.2") / ICMP())
    for frame in (bytes(ping), *mixed_frames(3000, 5)):
        both.now_us += rng.choice((0, 100, 1000))
        recent = [*recent[-30:], frame]
        dropped += not both.send(rng.choice(("inside", "outside")), rng.choice(recent))
    assert dropped > 300
