"""NFs in C that keep state do what the Python runtime does, byte for byte: packets, drops, indicators.

Oracle: the Python runtime, which the reference semantics hold (`test_servernf_*_reference`). Whole
conversations with loss, forged segments and time that passes, and frames that are hostile. Sanitizers
watch the C part. Blind spot: what both do wrong.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import state_traffic as traffic
from dpdk_support import HAS, MAC, NEEDS_COMPILER, NEXT, frames, running
from state_traffic import INSIDE, OUTSIDE, Left, Place, Traffic

from orchestrator.model.headers import ICMP, ICMPV6, TCP, UDP
from orchestrator.oracle import frames as made
from servernf.dpdk.worker import DpdkWorker
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

PORTS = (INSIDE, OUTSIDE)
_HARMLESS = bytes(12) + b"\x88\xb5" + bytes(46)
_TIME = re.compile(r"\.(timed|delay_)")
_HOST = 0x060000000010
POOL = ["203.0.113.1", "203.0.113.2"]
EDGE = Place(
    hosts=[0xC0000200 + n for n in range(8)], servers=[0xC6336401], ports=(80, 53), begins=OUTSIDE
)
WEB = {"address": "198.51.100.1", "protocol": "tcp", "port": 80}
DNS = {"address": "198.51.100.1", "protocol": "udp", "port": 53}
WEB6 = {"address": "2001:db8::1", "protocol": "udp", "port": 7}
BACKENDS = [{"address": f"10.0.9.{n}", "port": 8080, "weight": n} for n in (1, 2, 3)]
BACKENDS6 = [{"address": f"2001:db8:9::{n}", "port": 53} for n in (1, 2)]
PERMITS = [
    {"action": "deny", "dst_port": 443, "protocol": "udp"},
    {"action": "permit"},
]
TEXTS = (b"", b"GET /attack", b"atta" * 3 + b"ck ATTACKack", b"a" * 50, bytes(60))
SAID = Place(texts=TEXTS)
SIGNATURES = [
    {"id": 1, "content": "attack", "protocol": "tcp", "ports": ["80"], "to": "server", "label": 7},
    {"id": 2, "content": "aa", "protocol": "tcp", "action": "alert", "label": 9},
    {
        "id": 3,
        "content": "a",
        "protocol": "udp",
        "ports": ["53"],
        "action": "alert",
        "nocase": True,
    },
    {"id": 4, "content": "|00 01|", "protocol": "udp", "to": "client"},
    {"id": 5, "content": "|00 00 00|", "protocol": "tcp", "action": "alert", "nocase": True},
    {"id": 6, "content": "ATTack", "protocol": "tcp", "nocase": True, "ports": ["443"]},
    {"id": 7, "content": "aa", "protocol": "tcp", "action": "alert", "ports": ["1-500"]},
]


@dataclass(frozen=True, slots=True)
class Case:
    """An NF, and who talks through it."""

    nf: str
    config: Mapping[str, Any]
    why: str = ""
    place: Place = field(default_factory=Place)

    def __str__(self) -> str:
        return f"{self.nf} {self.why}".strip()


CASES = [
    Case("napt", {"addresses": POOL}),
    Case(
        "napt",
        {
            "addresses": POOL[:1],
            "ports": [2000, 2200],
            "buckets": 4,
            "max_mappings_per_address": 20,
            "filtering": "address_and_port_dependent",
            "ipv6": "drop",
        },
        "that filters",
    ),
    Case(
        "napt",
        {"addresses": POOL[:1], "ports": [2000, 2007], "filtering": "address_dependent"},
        "with few ports",
    ),
    Case("stateful_firewall", {"rules": PERMITS, "inbound_rules": PERMITS[:1]}),
    Case("stateful_firewall", {"rules": PERMITS, "max_connections": 5}, "full"),
    Case("stateful_firewall", {"inbound_rules": PERMITS, "non_ip": "pass"}, "from outside", EDGE),
    Case("dnat", {"address": "198.51.100.9"}),
    Case("dnat", {"address": "198.51.100.9", "port": 99, "max_connections": 4}, "full"),
    Case("dnat", {"address": "2001:db8:9::1", "port": 53}, "of IPv6"),
    Case(
        "l4_load_balancer",
        {
            "virtual": [
                {**WEB, "backends": BACKENDS},
                {**DNS, "backends": BACKENDS[:2]},
                {**WEB6, "backends": BACKENDS6},
            ],
            "health": {"misses": 2, "timeout_s": 1, "retry_s": 20},
        },
        place=EDGE,
    ),
    Case("flow_monitor", {"top": 20}),
    Case("flow_monitor", {"max_flows": 6, "idle_timeout_s": 2}, "full"),
    Case("ids", {"signatures": SIGNATURES}, place=SAID),
    Case("ids", {"signatures": SIGNATURES, "action": "alert"}, "that counts", SAID),
    Case(
        "hash_lb",
        {
            "virtual": [
                {"address": "198.51.100.1", "hash": "ports", "backends": BACKENDS_OF}
                for BACKENDS_OF in ([{"address": f"10.0.9.{n}", "weight": n} for n in (1, 2)],)
            ]
            + [
                {
                    "address": "2001:db8::1",
                    "hash": "ports",
                    "backends": [{"address": "2001:db8:9::1"}, {"address": "2001:db8:9::2"}],
                }
            ]
        },
        place=EDGE,
    ),
]
CASES = [case for case in CASES if case.nf in HAS]


class Both:
    """The same NF on a worker of each runtime, with one clock."""

    def __init__(self, dpdk: DpdkWorker, case: Case, clock: list[int]) -> None:
        self.workers = Worker("p", MAC, lambda: clock[0]), dpdk
        for worker in self.workers:
            worker.remove_graph("g")
            worker.configure("g", [NfSpec("g/nf", case.nf, json.dumps(case.config))])
            for spi, port in enumerate(PORTS, 1):
                hop = ExitHop(NEXT, spi + 100, 254)
                worker.service_chain("g/nf", ChainScope(spi, 255, port), [hop])

    def send(self, some: Sequence[tuple[str, bytes]]) -> Left:
        """What leaves both for frames by their ports."""
        tagged = [
            nsh.encode(nsh.Tag(MAC, NEXT, PORTS.index(port) + 1, 255), frame)
            for port, frame in some
        ]
        left = [worker.process(tagged) for worker in self.workers]
        assert left[0] == left[1]
        decoded = [unpacked for unpacked in map(nsh.decode, left[0]) if unpacked is not None]
        return [(PORTS[102 - tag.spi], frame) for tag, frame in decoded]

    def metrics(self, clock: list[int]) -> dict[str, int]:
        """Indicators and drops, which both tell alike once what waits in vain is dropped."""
        for _ in range(16):  # some at a time
            clock[0] += 6_000_000
            self.send([(INSIDE, _HARMLESS)])
        told = [
            {
                name: n
                for name, n in worker.metrics().items()
                if name.startswith("g/nf.") and n and not _TIME.search(name)
            }
            for worker in self.workers
        ]
        assert told[0] == told[1]
        return told[1]


@pytest.fixture(scope="module")
def clock() -> list[int]:
    return [1_000_000]


@pytest.fixture(scope="module")
def dpdk(clock: list[int]) -> Iterator[DpdkWorker]:
    with running(lambda: clock[0]) as worker:
        yield worker


def talk(dpdk: DpdkWorker, case: Case, clock: list[int], seed: int, count: int) -> dict[str, int]:
    """Conversations; what both tell of them."""
    both = Both(dpdk, case, clock)
    talks = Traffic(seed, case.place, traffic.KINDS)
    start_us = clock[0]
    for port, frame, at_us in talks.frames(count):
        clock[0] = start_us + at_us
        talks.told(both.send([(port, frame)]))
    return both.metrics(clock)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conversations(dpdk: DpdkWorker, case: Case, clock: list[int]) -> None:
    told = talk(dpdk, case, clock, 1, 2000)
    assert told["g/nf.packets"] >= 2000
    assert told.get("g/nf.drops", 0) < 1500


def hostile(seed: int, count: int) -> list[tuple[str, bytes]]:
    """Frames of the addresses that the cases know: fragments in any order, errors about anything, bytes
    that are anything."""
    rng = random.Random(seed)
    sent: list[tuple[str, bytes]] = [(rng.choice(PORTS), f) for f in frames(seed, count // 4)]
    v4 = [0x0A000101, 0x0A000102, 0xC6336401, 0xC6336409, 0xCB007101, 0x0A000901, 0xC0000201]
    v6 = [(0x20010DB8 << 96) + n for n in (1, 2, (9 << 80) + 1, (9 << 80) + 2, 7 << 64)]
    while len(sent) < count:
        version = rng.choice((4, 4, 6))
        addresses = v4 if version == 4 else v6
        source, destination = rng.choice(addresses), rng.choice(addresses)
        ports = [rng.choice((7, 53, 80, 99, 2000, 2003, 8080)) for _ in range(2)]
        protocol = rng.choice((TCP, UDP, ICMP if version == 4 else ICMPV6))
        data = rng.randbytes(rng.choice((0, 8, 30, 200)))
        match protocol:
            case 6:
                flags = rng.choice((2, 18, 16, 16, 24, 17, 4, 20, rng.randrange(64)))
                seq, ack = rng.choice((100, 101, rng.getrandbits(32))), rng.choice((101, 500, 501))
                l4 = made.tcp(*ports, seq=seq, ack=ack, flags=flags, data=data)
            case 17:
                l4 = made.udp(*ports, data)
            case _:
                echoes = (8, 0) if version == 4 else (128, 129)
                errors = (3, 11, 12) if version == 4 else (1, 2, 3, 4)
                kind = rng.choice((*echoes, *errors, 13))
                body = rng.randrange(8).to_bytes(2) + b"\0\1" + data
                if kind in errors:
                    inner = made.udp(*ports, b"12345678") if rng.random() < 0.7 else body
                    quoted = rng.choice((TCP, UDP, protocol, 50))
                    ends = rng.choice(addresses), rng.choice(addresses)
                    body = bytes(4) + made.ip(version, *ends, quoted, inner + bytes(12))
                l4 = made.icmp(kind, 0, body)
        if rng.random() < 0.9:
            l4 = made.with_checksum(version, source, destination, protocol, l4)
        ident = rng.randrange(6)
        packet = made.ip(version, source, destination, protocol, l4, ident=ident)
        frame = made.ethernet(packet, made.ether_type_of(version), src=_HOST)
        pieces = [frame]
        if rng.random() < 0.4 and len(l4) > 24:
            pieces = made.fragments(frame, 16 if version == 4 else 24, ident)
            rng.shuffle(pieces)
            pieces = pieces[: rng.randrange(1, len(pieces) + 1)]
        for piece in pieces:
            raw = bytearray(piece)
            if rng.random() < 0.1:
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            sent.append((rng.choice(PORTS), bytes(raw)))
    sent = sent[:count]
    rng.shuffle(sent)
    return sent


def attack(dpdk: DpdkWorker, case: Case, clock: list[int], seed: int, count: int) -> None:
    """Hostile frames in bursts, and time that passes."""
    both, rng = Both(dpdk, case, clock), random.Random(seed)
    for first in range(0, count, 1024):
        some = hostile(seed + first, min(1024, count - first))
        while some:
            size = rng.choice((1, 3, 32, 33))
            both.send(some[:size])
            some = some[size:]
            clock[0] += rng.choice((0, 1000, 1_500_000, 20_000_000))
    both.metrics(clock)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_frames(dpdk: DpdkWorker, case: Case, clock: list[int]) -> None:
    attack(dpdk, case, clock, 1, 2048)


@pytest.mark.exhaustive
def test_a_million_packets(dpdk: DpdkWorker, clock: list[int]) -> None:
    """Not where ports are scarce: in C one may be free a second later (decision 0120)."""
    cases = [case for case in CASES if case.why not in ("that filters", "with few ports")]
    for seed in range(1_000_000 // len(cases) // 4096 + 1):
        for case in cases:
            talk(dpdk, case, clock, seed, 2048)
            attack(dpdk, case, clock, seed, 2048)
