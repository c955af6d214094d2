"""dnat: the reference, and that the workers' runtime does the same."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from nf_bench import Bench, Both
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from orchestrator.nfs.base import lookup

IN, ASKED, SENT = "10.0.1.11", "198.51.100.13", "192.0.2.5"
CONFIG: dict[str, Any] = {"address": SENT}


def layers(packet: Any) -> tuple[Any, ...]:
    ip = packet[1][IP]
    return (ip.src, ip.dst, ip.sport, ip.dport)


def test_there_and_back() -> None:
    bench = Bench("dnat", CONFIG)
    there = bench.send("inside", IP(src=IN, dst=ASKED) / TCP(sport=1000, dport=80))
    assert there is not None
    assert (there[0], *layers(there)) == ("outside", IN, SENT, 1000, 80)
    back = bench.send("outside", IP(src=SENT, dst=IN) / TCP(sport=80, dport=1000))
    assert back is not None
    assert (back[0], *layers(back)) == ("inside", ASKED, IN, 80, 1000)


def test_with_a_port_the_answer_shows_the_one_that_was_asked() -> None:
    bench = Bench("dnat", {**CONFIG, "port": 8080})
    assert layers(bench.send("inside", IP(src=IN, dst=ASKED) / UDP(sport=7, dport=80)))[3] == 8080
    answer = bench.send("outside", IP(src=SENT, dst=IN) / UDP(sport=8080, dport=7))
    assert layers(answer) == (ASKED, IN, 80, 7)


def test_strangers_other_versions_and_forgotten_connections_pass_unchanged() -> None:
    bench = Bench("dnat", CONFIG)
    stranger = IP(src=SENT, dst=IN) / UDP(sport=53, dport=9)
    assert layers(bench.send("outside", stranger))[0] == SENT
    assert bench.passes("inside", ARP())
    six = bench.send("inside", IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP())
    assert six is not None
    assert six[1][IPv6].dst == "2001:db8::2"
    bench.send("inside", IP(src=IN, dst=ASKED) / UDP(sport=9, dport=53))
    bench.wait(300)
    assert layers(bench.send("outside", stranger))[0] == SENT


def test_bad_configs() -> None:
    for config in ({}, {"address": "x"}, {**CONFIG, "port": 65536}, {**CONFIG, "ports": 1}):
        with pytest.raises(ValidationError):
            lookup("dnat").Config.model_validate(config)


@pytest.mark.parametrize("port", [None, 8080])
@pytest.mark.slow
def test_the_runtime_does_the_same(port: int | None) -> None:
    config = {**CONFIG, "port": port, "max_connections": 4, "idle_timeout_s": 10}
    both = Both("dnat", **config)
    rng = random.Random(7)
    changed = 0
    for _ in range(4000):
        both.now_us += rng.choice((0, 1_000_000, 4_000_000))
        side = rng.choice(("inside", "outside"))
        far = rng.choice((ASKED, "198.51.100.14")) if side == "inside" else SENT
        src, dst = (IN, far) if side == "inside" else (far, IN)
        ports = rng.choice((0, 7, 8)), rng.choice((0, 80, 8080))
        sport, dport = ports if side == "inside" else ports[::-1]
        kind = rng.random()
        if kind < 0.1:
            inner: Any = IP(src=src, dst=dst) / ICMP(type=8, id=4)
        elif kind < 0.2:
            pieces = {"flags": "MF"}, {"frag": 3}
            inner = IP(src=src, dst=dst, proto=17, id=rng.randrange(3), **rng.choice(pieces))
            inner /= Raw(struct.pack("!HHHH", sport, dport, 24, 1) + bytes(16))
        elif kind < 0.3:
            asked = SENT if side == "outside" else far
            about = IP(src=dst, dst=asked if side == "outside" else src)
            about /= rng.choice((UDP, TCP))(sport=dport, dport=sport)
            inner = IP(src=src, dst=dst) / ICMP(type=3, code=4) / Raw(bytes(about)[:28])
        elif kind < 0.6:
            inner = IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(bytes(8))
        else:
            inner = IP(src=src, dst=dst) / TCP(sport=sport, dport=dport)
        frame = bytes(Ether(dst="06:00:00:00:00:01", src="0a:00:00:00:00:01") / inner)
        left = both.send(side, frame)
        changed += side == "outside" and bool(left) and left[0][1] != frame
    assert changed > 100
