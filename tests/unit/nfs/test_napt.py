"""napt: the clauses of RFC 4787, 5382 and 5508 that the architecture asks for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from nf_bench import Bench, Both, ether
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, UDPerror
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Raw
from tcp_talk import Sent, TcpTalk

from orchestrator.model.elements import PoolShare
from orchestrator.nfs.napt import Napt, NaptConfig
from orchestrator.nfs.napt_reference import fair_limit

POOL = ["203.0.113.1", "203.0.113.2"]  # 10.0.1.11 is number 11 mod 2 = 1: the second


def napt(**config: Any) -> Bench:
    return Bench("napt", {"addresses": POOL, **config})


def out_udp(
    src: str = "10.0.1.11", sport: int = 5000, dst: str = "198.51.100.13", dport: int = 53
) -> Any:
    return IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(b"x")


def in_udp(dport: int = 5000, src: str = "198.51.100.13", sport: int = 53) -> Any:
    return IP(src=src, dst=POOL[1]) / UDP(sport=sport, dport=dport)


def external(bench: Bench, packet: Any) -> tuple[str, int]:
    sent = bench.send("inside", packet)
    assert sent is not None
    assert sent[0] == "outside"
    return sent[1][IP].src, sent[1][UDP].sport


def test_mapping_is_endpoint_independent_and_keeps_the_port() -> None:
    """RFC 4787 REQ-1, REQ-3."""
    bench = napt()
    assert external(bench, out_udp()) == (POOL[1], 5000)
    assert external(bench, out_udp(dst="192.0.2.1", dport=99)) == (POOL[1], 5000)


def test_a_taken_port_gives_the_next_one_and_the_range_wraps() -> None:
    bench = napt(ports=[5000, 5002])
    assert external(bench, out_udp(sport=5001)) == (POOL[1], 5001)
    assert external(bench, out_udp("10.0.1.13", 5001)) == (POOL[1], 5002)
    assert external(bench, out_udp("10.0.1.15", 5002)) == (POOL[1], 5000)
    assert not bench.passes("inside", out_udp("10.0.1.17", 5000)), "no free port: dropped"
    assert external(bench, out_udp("10.0.1.12", 5001)) == (POOL[0], 5001), "the other address"


def test_a_port_outside_the_range_begins_at_its_low_end() -> None:
    assert external(napt(), out_udp(sport=80)) == (POOL[1], 1024)


def test_back_to_the_inside() -> None:
    bench = napt()
    assert not bench.passes("outside", in_udp())
    bench.send("inside", out_udp())
    port, frame = bench.send("outside", in_udp()) or ("", None)
    assert (port, frame[IP].dst, frame[UDP].dport) == ("inside", "10.0.1.11", 5000)
    assert not bench.passes("outside", IP(dst="203.0.113.9") / UDP(dport=5000)), "not of the pool"


@pytest.mark.parametrize(
    ("filtering", "same", "other_port", "other_address"),
    [
        ("endpoint_independent", True, True, True),
        ("address_dependent", True, True, False),
        ("address_and_port_dependent", True, False, False),
    ],
)
def test_filtering(filtering: str, same: bool, other_port: bool, other_address: bool) -> None:
    """RFC 4787 REQ-8."""
    bench = napt(filtering=filtering)
    bench.send("inside", out_udp())
    assert bench.passes("outside", in_udp()) == same
    assert bench.passes("outside", in_udp(sport=99)) == other_port
    assert bench.passes("outside", in_udp(src="192.0.2.1")) == other_address


def test_udp_mapping_expires() -> None:
    """RFC 4787 REQ-5."""
    bench = napt()
    bench.send("inside", out_udp())
    bench.wait(299)
    assert bench.passes("outside", in_udp())
    bench.wait(301)
    assert not bench.passes("outside", in_udp())


def test_to_the_microsecond_the_runtime_forgets_when_the_reference_does() -> None:
    """Mappings, and what later fragments follow."""
    for waited, remembered in ((299_999_999, 1), (300_000_000, 0)):
        both = Both("napt", addresses=POOL)
        both.one("inside", ether(out_udp()))
        both.now_us += waited
        assert len(both.send("outside", ether(in_udp()))) == remembered
    first, later = (
        IP(src="10.0.1.11", dst="198.51.100.13", proto=17, id=7, flags=flags, frag=at)
        for flags, at in ((1, 0), (0, 2))
    )
    for waited, remembered in ((29_999_999, 1), (30_000_000, 0)):
        both = Both("napt", addresses=POOL)
        both.one("inside", ether(first / UDP(sport=5000, dport=53, len=24) / Raw(bytes(8))))
        both.now_us += waited
        assert len(both.send("inside", ether(later / Raw(bytes(8))))) == remembered


TCP_OUT = IP(src="10.0.1.11", dst="198.51.100.13")
TCP_IN = IP(src="198.51.100.13", dst=POOL[1])


def web(**numbers: int) -> TcpTalk:
    ways = ("10.0.1.11", 5000, "198.51.100.13", 80), ("198.51.100.13", 80, POOL[1], 5000)
    return TcpTalk(*ways, **numbers)


@pytest.mark.parametrize(
    ("steps", "established"),
    [
        ((("inside", "S"),), False),
        ((("inside", "S"), ("outside", "SA")), False),
        ((("inside", "S"), ("outside", "SA"), ("inside", "A")), True),
        ((("inside", "S"), ("outside", "SA"), ("inside", "A"), ("outside", "RA")), False),
        ((("inside", "S"), ("outside", "SA"), ("inside", "A"), ("inside", "FA")), True),
        (
            (
                ("inside", "S"),
                ("outside", "SA"),
                ("inside", "A"),
                ("inside", "FA"),
                ("outside", "FA"),
            ),
            False,
        ),
    ],
)
def test_tcp_timers(steps: tuple[tuple[str, str], ...], established: bool) -> None:
    """RFC 5382 REQ-5."""
    both, talk = Both("napt", addresses=POOL), web()
    for port, flags in steps:
        assert both.send(port, ether(talk.segment(port, flags)))
    both.now_us += 241_000_000
    assert bool(both.send("outside", ether(talk.outside("A")))) == established


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_lives_of_connections(seed: int) -> None:
    """Whole connections and what strangers make up, in the reference and the workers' runtime."""
    rng = random.Random(seed)
    both = Both("napt", addresses=POOL, timeouts_s={"tcp_established": 600})
    counts = {0: 0, 1: 0}
    lives: list[Iterator[Sent]] = []
    for _ in range(1500):
        if len(lives) < 4:
            lives.append(web(client=rng.getrandbits(32), server=2**32 - 20).life(rng))
        sent = next(life := rng.choice(lives), None)
        if sent is None:
            lives.remove(life)
            continue
        counts[len(both.send(sent[0], ether(sent[1])))] += 1
        both.now_us += rng.choice((0, 0, 0, 1_000_000, 100_000_000, 300_000_000))
    assert min(counts.values()) > 60, counts


def test_echo_identifiers_are_translated() -> None:
    """RFC 5508 REQ-1."""
    bench = napt()
    bench.send("inside", IP(src="10.0.1.13", dst="192.0.2.1") / ICMP(type=8, id=2000))
    _, request = bench.send("inside", TCP_OUT / ICMP(type=8, id=2000) / Raw(b"ping")) or ("", None)
    assert (request[IP].src, request[ICMP].id) == (POOL[1], 2001)
    _, reply = bench.send("outside", TCP_IN / ICMP(type=0, id=2001)) or ("", None)
    assert (reply[IP].dst, reply[ICMP].id) == ("10.0.1.11", 2000)
    assert not bench.passes("inside", TCP_OUT / ICMP(type=13))
    bench.wait(61)
    assert not bench.passes("outside", TCP_IN / ICMP(type=0, id=2001))


def test_icmp_errors_follow_what_they_quote() -> None:
    """RFC 5508 REQ-4."""
    bench = napt()
    bench.send("inside", out_udp("10.0.1.13"))
    _, sent = bench.send("inside", out_udp()) or ("", None)
    assert sent[UDP].sport == 5001
    quoted = Raw(bytes(sent[IP])[:28])
    error = IP(src="192.0.2.77", dst=POOL[1]) / ICMP(type=11) / quoted
    _, frame = bench.send("outside", error) or ("", None)
    assert (frame[IP].dst, frame[IPerror].src) == ("10.0.1.11", "10.0.1.11")
    assert (frame[UDPerror].sport, frame[UDPerror].dport) == (5000, 53)
    fresh = frame.copy()
    for layer in (IP, ICMP, IPerror):
        del fresh[layer].chksum
    fresh[UDPerror].chksum = frame[UDPerror].chksum
    assert bytes(fresh)[14:42] == bytes(frame)[14:42], "outer IP and ICMP checksums are right"
    stranger = IP(src=POOL[1], dst="192.0.2.1") / UDP(sport=9, dport=9)
    assert not bench.passes("outside", TCP_IN / ICMP(type=3) / Raw(bytes(stranger)))


def test_icmp_errors_from_inside_are_translated_too() -> None:
    bench = napt()
    bench.send("inside", out_udp())
    arrived = IP(src="198.51.100.13", dst="10.0.1.11") / UDP(sport=53, dport=5000)
    error = TCP_OUT / ICMP(type=3, code=3) / Raw(bytes(arrived))
    _, frame = bench.send("inside", error) or ("", None)
    assert (frame[IP].src, frame[IPerror].dst, frame[UDPerror].dport) == (POOL[1], POOL[1], 5000)


def test_errors_about_echo() -> None:
    bench = napt()
    _, sent = bench.send("inside", TCP_OUT / ICMP(type=8, id=7)) or ("", None)
    assert sent[ICMP].id == 1024
    error = TCP_IN / ICMP(type=11) / Raw(bytes(sent[IP])[:28])
    _, frame = bench.send("outside", error) or ("", None)
    assert (frame[IPerror].src, frame[ICMPerror].id) == ("10.0.1.11", 7)


def test_later_fragments_follow_their_first() -> None:
    bench = napt()
    later = IP(src="10.0.1.11", dst="198.51.100.13", id=9, frag=8, proto=17) / Raw(b"x" * 8)
    first = (
        IP(src="10.0.1.11", dst="198.51.100.13", id=9, flags="MF")
        / UDP(sport=5000)
        / Raw(b"x" * 56)
    )
    assert bench.passes("inside", first)
    _, frame = bench.send("inside", later) or ("", None)
    assert frame[IP].src == POOL[1]
    bench.wait(31)
    assert not bench.passes("inside", later)


def test_what_is_not_translated() -> None:
    bench, strict = napt(), napt(ipv6="drop")
    for packet in (IP(proto=47), ARP(), TCP_OUT / ICMP(type=0)):
        assert not bench.passes("inside", packet)
    for port in ("inside", "outside"):
        assert bench.passes(port, IPv6() / UDP())
        assert not strict.passes(port, IPv6() / UDP())


def test_shares() -> None:
    first, second = 0xCB007101, 0xCB007102
    function = Napt("nat", NaptConfig.model_validate({"addresses": POOL}))
    assert [function.pool_buckets(replicas) for replicas in (1, 3, 16, 17)] == [64, 64, 64, 128]
    assert function.pool_share(0, 63, 64) == PoolShare((first, second))
    dealt = [function.pool_share(bucket, bucket, 64) for bucket in range(64)]
    assert [share.addresses for share in dealt] == [(first, second)] * 64
    assert (dealt[0].low, dealt[-1].high) == (1024, 65535)
    for left, right in pairwise(dealt):
        assert right.low == left.high + 1
    assert function.pool_share(8, 15, 64) == PoolShare(
        (first, second), dealt[8].low, dealt[15].high
    )
    small = Napt("nat", NaptConfig.model_validate({"addresses": POOL, "ports": [5000, 5129]}))
    assert [small.pool_buckets(replicas) for replicas in (1, 2, 3)] == [2, 2, 4]
    one = Napt("nat", NaptConfig.model_validate({"addresses": POOL, "ports": [5000, 5000]}))
    assert one.pool_buckets(2) == 1


def test_no_address_takes_all_ports() -> None:
    """RFC 6888 REQ-4."""
    both = Both("napt", addresses=[POOL[0]], ports=[1024, 1039])
    passed = [
        len(both.send("inside", ether(IP(src="10.0.1.11") / UDP(sport=port) / Raw(bytes(8)))))
        for port in range(1, 17)
    ]
    assert passed == [1] * 8 + [0] * 8
    assert both.runtime.drops == {"too_many_mappings": 8}
    assert both.send("inside", ether(IP(src="10.0.1.12") / UDP(sport=1) / Raw(bytes(8))))
    assert both.send("inside", ether(IP(src="10.0.1.11") / TCP(sport=1, flags="S")))
    assert both.send("inside", ether(IP(src="10.0.1.11") / UDP(sport=3) / Raw(bytes(8))))
    both.now_us += 300_000_000
    assert both.send("inside", ether(IP(src="10.0.1.11") / UDP(sport=99) / Raw(bytes(8))))


def test_how_many_mappings_an_address_may_have_is_configurable() -> None:
    both = Both("napt", addresses=[POOL[0]], max_mappings_per_address=2)
    for port, passed in ((1, 1), (2, 1), (3, 0)):
        frame = ether(IP(src="10.0.1.11") / UDP(sport=port) / Raw(bytes(8)))
        assert len(both.send("inside", frame)) == passed
    with pytest.raises(ValidationError, match="max_mappings_per_address"):
        NaptConfig.model_validate({"addresses": POOL, "max_mappings_per_address": 0})
    assert fair_limit(64_512) == 4032
    assert fair_limit(1000) == 64
    assert fair_limit(1) == 1
