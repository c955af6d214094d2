"""NFs on TCP streams under attack: reference and runtime do the same, nobody reads what is denied.

Oracles: the reference; and for what is denied a receiver of our own, which does what RFC 9293, RFC 5961
and Linux do. Blind spots: timestamps (RFC 7323, 5), real kernels (tests/emulated).
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from nf_bench import Both, ether
from scapy.layers.inet import IP, TCP, fragment
from scapy.packet import Raw

from orchestrator.oracle import frames

CLIENT, SERVER = 0x0A00010B, 0xC633640D
_ALL = 0xFFFF_FFFF
FIN, SYN, RST, ACK, URG = 1, 2, 4, 16, 32
DENIED = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
HARMLESS = b"GET /index HTTP/1.1\r\nHost: a\r\n\r\n"
SIGNATURE = {"id": 1, "content": "/admin", "protocol": "tcp", "ports": ["80"]}
NFS: dict[str, tuple[str, dict[str, Any]]] = {
    "ids": ("ids", {"signatures": [SIGNATURE]}),
    "url_filter": ("url_filter", {"rules": [{"path": "/admin*", "action": "deny"}]}),
}
READS = {"ids": re.compile(b"/admin"), "url_filter": re.compile(rb"/admin.*\r\n\r\n", re.DOTALL)}
"""What no server may read."""
ALERTING: dict[str, tuple[str, dict[str, Any]]] = {
    "ids that counts": ("ids", {"signatures": [SIGNATURE], "action": "alert"}),
    "url_filter that counts": (
        "url_filter",
        {"rules": [{"path": "/admin*", "action": "alert"}], "malformed": "permit"},
    ),
    "cache_observer": ("cache_observer", {}),
}


@dataclass
class Receiver:
    """A server's half of one connection: what its application reads of the segments that reach it."""

    isn: int = 5000
    next: int | None = None
    read: bytes = b""
    closed: bool = False
    window: int = 2000
    waiting: dict[int, int] = field(default_factory=dict[int, int])

    def take(self, frame: bytes) -> list[tuple[int, int, int]]:
        """Flags, seq and ack of what it answers."""
        at = 14 + (frame[14] & 15) * 4
        seq, ack, offset, flags, _, _, _ = struct.unpack_from("!IIBBHHH", frame, at + 4)
        end = 14 + int.from_bytes(frame[16:18], "big")
        data = frame[at + (offset >> 4) * 4 : end]
        segment = frame[at:end]
        if (
            frames.with_checksum(4, CLIENT, SERVER, 6, segment[:16] + b"\0\0" + segment[18:])
            != segment
        ):
            return []
        if flags & URG:
            data = b"".join(data[i : i + 1] for i in range(len(data)) if i != frame[at + 19] - 1)
            # A byte that is out of band is skipped, but takes its number.
        if self.next is None:
            if flags & (SYN | ACK | RST | FIN) != SYN:
                return []
            self.next = seq + 1 & _ALL
            return [(SYN | ACK, self.isn, self.next)]
        if self.closed:
            return []
        ahead = (seq - self.next + (1 << 31) & _ALL) - (1 << 31)
        if flags & RST:
            self.closed = ahead == 0
            return [] if ahead in range(1) or ahead > self.window or ahead < 0 else [self._ack()]
        if ahead + len(data) < 0 or ahead > self.window or flags & SYN or not flags & ACK:
            return [self._ack()]
        if ack != self.isn + 1:
            return [self._ack()]
        for index, byte in enumerate(data):
            if 0 <= ahead + index < self.window:
                self.waiting.setdefault(seq + index & _ALL, byte)
        while self.next in self.waiting:
            self.read += bytes((self.waiting.pop(self.next),))
            self.next = self.next + 1 & _ALL
        if flags & FIN and seq + len(data) & _ALL == self.next:
            self.closed = True
        return [self._ack()] if data or flags & FIN else []

    def _ack(self) -> tuple[int, int, int]:
        assert self.next is not None
        return ACK, self.isn + 1, self.next


class Attack:
    """An adversary behind an NF: all it sends goes through both implementations, then to the server."""

    def __init__(self, kind: str, config: dict[str, Any], port: int = 4000, isn: int = 999) -> None:
        self.both = Both(kind, **config)
        self.server = Receiver()
        self.port, self.start = port, isn + 1
        self.passed: list[bool] = []

    def send(
        self,
        flags: int,
        at: int = 0,
        data: bytes = b"",
        *,
        ack: int = 0,
        arrives: bool = True,
        bend: Callable[[bytearray], None] | None = None,
        urgent: int = 0,
        seq: int | None = None,
    ) -> bool:
        """A segment; `at` counts from behind the SYN. Whether it passed the NF."""
        seq = self.start + at & _ALL if seq is None else seq
        tcp = bytearray(
            struct.pack("!HHIIBBHHH", self.port, 80, seq, 0, 0x50, flags, 8192, 0, urgent) + data
        )
        if flags & ACK:
            tcp[8:12] = (self.server.isn + 1 + ack & _ALL).to_bytes(4, "big")
        l4 = bytearray(frames.with_checksum(4, CLIENT, SERVER, 6, bytes(tcp)))
        if bend is not None:
            bend(l4)
        packet = frames.ip(4, CLIENT, SERVER, 6, bytes(l4))
        return self.through("inside", frames.ethernet(packet, 0x0800, src=1), arrives=arrives)

    def through(self, side: str, frame: bytes, *, arrives: bool = True) -> bool:
        passed = bool(self.both.send(side, frame))
        if passed and arrives and side == "inside":
            for flags, seq, ack in self.server.take(frame):
                self.answer(flags, seq, ack)
        return passed

    def answer(self, flags: int, seq: int, ack: int, data: bytes = b"") -> bool:
        tcp = struct.pack(
            "!HHIIBBHHH", 80, self.port, seq, ack, 0x50, flags, self.server.window, 0, 0
        )
        l4 = frames.with_checksum(4, SERVER, CLIENT, 6, tcp + data)
        packet = frames.ip(4, SERVER, CLIENT, 6, l4)
        return self.through("outside", frames.ethernet(packet, 0x0800, src=2))

    def open(self) -> Attack:
        assert self.send(SYN, -1)
        assert self.send(ACK)
        return self


HALF = len(DENIED) // 2  # between the two parts of what is denied
CUT = DENIED.index(b"min")
FIRST, SECOND = DENIED[:CUT], DENIED[CUT:]


def wrong(l4: bytearray) -> None:
    l4[16] ^= 0x55


def _between(step: Callable[[Attack], object]) -> Callable[[Attack], object]:
    """Something amid what is denied."""

    def attack(a: Attack) -> object:
        a.open()
        a.send(ACK, 0, FIRST)
        step(a)
        return a.send(ACK, CUT, SECOND)

    return attack


def _first_elsewhere(**how: Any) -> Callable[[Attack], object]:
    """Other bytes first, which the server does not take."""

    def attack(a: Attack) -> object:
        a.open()
        a.send(ACK, 0, b"x" * len(DENIED), **how)
        return a.send(ACK, 0, DENIED)

    return attack


def _reordered(a: Attack) -> object:
    a.open()
    a.send(ACK, CUT, SECOND)
    return a.send(ACK, 0, FIRST)


def _fragments(a: Attack) -> object:
    a.open()
    whole = IP(src="10.0.1.11", dst="198.51.100.13") / TCP(
        sport=a.port, dport=80, seq=a.start, ack=5001, flags="A"
    )
    pieces = fragment(IP(bytes(whole / Raw(DENIED * 4))), fragsize=40)
    assert len(pieces) > 2
    passed = [bool(a.both.send("inside", bytes(ether(p)).ljust(60, b"\0"))) for p in pieces]
    assert not passed[0], "without the first one nothing can be put together"
    return a.send(ACK, 0, DENIED)


def _patience(a: Attack) -> object:
    a.open()
    a.send(ACK, 0, FIRST)
    a.both.now_us += 7_440_000_000
    return a.send(ACK, CUT, SECOND)


def _reset_and_patience(a: Attack) -> object:
    a.open()
    a.send(ACK, 0, FIRST)
    a.send(RST, CUT, arrives=False)
    a.both.now_us += 300_000_000
    return a.send(ACK, CUT, SECOND)


def _blocked_then_syn(a: Attack) -> object:
    a.open()
    a.send(ACK, 0, FIRST)
    assert not a.send(ACK, CUT, SECOND)
    assert a.send(SYN, CUT - 1), "it is answered by a challenge"
    return a.send(ACK, CUT, SECOND)


def _fin_that_does_not_arrive(a: Attack) -> object:
    a.open()
    a.send(ACK, 0, FIRST)
    a.send(FIN | ACK, CUT, arrives=False)
    return a.send(ACK, CUT, SECOND)


ATTACKS: dict[str, Callable[[Attack], object]] = {
    "nothing": _between(lambda _: None),
    "a reset out of the window": _between(lambda a: a.send(RST, 900_000_000)),
    "a reset in the window": _between(lambda a: a.send(RST, CUT + 5)),
    "a reset that does not arrive": _between(lambda a: a.send(RST, CUT, arrives=False)),
    "a reset that does not arrive, then a SYN": _between(
        lambda a: (a.send(RST, CUT, arrives=False), a.send(SYN, CUT - 1))
    ),
    "a SYN in the window": _between(lambda a: a.send(SYN, CUT - 1)),
    "a SYN out of the window": _between(lambda a: a.send(SYN, 900_000_000)),
    "a SYN with payload": _between(lambda a: a.send(SYN, CUT - 1, b"x")),
    "the first SYN again": _between(lambda a: a.send(SYN, -1)),
    "a SYN-ACK": _between(lambda a: a.send(SYN | ACK, CUT - 1)),
    "a SYN with FIN": _between(lambda a: a.send(SYN | FIN, CUT - 1)),
    "an old FIN": _between(lambda a: a.send(FIN | ACK, -600)),
    "a FIN with wrong checksum": _between(lambda a: a.send(FIN | ACK, CUT, bend=wrong)),
    "a FIN beyond the window": _between(lambda a: a.send(FIN | ACK, 70_000)),
    "a FIN that does not arrive": _fin_that_does_not_arrive,
    "other bytes with wrong checksum": _first_elsewhere(bend=wrong),
    "other bytes that do not arrive": _first_elsewhere(arrives=False),
    "other bytes without ACK": lambda a: (
        a.open(),
        a.send(0, 0, b"x" * len(DENIED)),
        a.send(ACK, 0, DENIED),
    ),
    "other bytes that acknowledge what was never sent": _first_elsewhere(ack=100),
    "other bytes in a SYN that is no opening": _between(lambda a: a.send(SYN, CUT, b"x" * 9)),
    "other bytes in a reset": _between(lambda a: a.send(RST | ACK, CUT + 1, b"x" * 9)),
    "bytes beyond the window": _between(lambda a: a.send(ACK, 2001, b"x" * 50)),
    "a byte that is urgent": lambda a: (
        a.open(),
        a.send(ACK | URG, 0, FIRST + b"X" + SECOND, urgent=CUT + 1),
    ),
    "the second half first": _reordered,
    "fragments": _fragments,
    "two hours of silence": _patience,
    "a reset that does not arrive, and five minutes": _reset_and_patience,
    "a SYN once it is blocked": _blocked_then_syn,
}


@pytest.mark.parametrize("name", NFS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_hides_what_is_denied(name: str, attack: str) -> None:
    run = Attack(*NFS[name])
    ATTACKS[attack](run)
    assert not READS[name].search(run.server.read)


@pytest.mark.parametrize("name", ALERTING)
@pytest.mark.parametrize("attack", sorted(set(ATTACKS) - {"fragments", "a SYN once it is blocked"}))
def test_what_only_counts_does_the_same_as_its_reference(name: str, attack: str) -> None:
    run = Attack(*ALERTING[name])
    ATTACKS[attack](run)
    assert not any("blocked" in reason for reason in run.both.runtime.drops)


@pytest.mark.parametrize("name", ALERTING)
def test_fragments_end_the_looking_where_nothing_is_dropped(name: str) -> None:
    run = Attack(*ALERTING[name]).open()
    whole = IP(src="10.0.1.11", dst="198.51.100.13") / TCP(
        sport=run.port, dport=80, seq=run.start, ack=5001, flags="A"
    )
    for piece in fragment(IP(bytes(whole / Raw(bytes(1400)))), fragsize=800):
        assert run.both.send("inside", bytes(ether(piece)))
    assert run.both.runtime.metrics()["given_up"] == 1
    assert all(run.send(ACK, 1400 + 1000 * i, b"b" * 1000) for i in range(100)), "nothing hangs"
    assert all(run.answer(ACK, 5001, run.start + 50_000) for _ in range(3))
    run.start += 500_000
    assert run.send(SYN, -1)
    assert run.answer(SYN | ACK, 9000, run.start)
    assert run.both.runtime.metrics()["given_up"] == 1


@pytest.mark.parametrize("name", NFS)
@pytest.mark.parametrize("seed", range(12))
def test_random_attacks(name: str, seed: int) -> None:
    """Bytes of two stories, pieces of one or the other, and control segments of all kinds."""
    rng = random.Random(seed)
    run = Attack(*NFS[name], isn=rng.choice((999, _ALL - 20))).open()
    size = len(DENIED)
    for _ in range(80):
        at = rng.randrange(size)
        story = DENIED if rng.random() < 0.7 else HARMLESS
        data = story[at : at + rng.randrange(1, 12)]
        kind = rng.random()
        arrives = rng.random() < 0.7
        if kind < 0.75:
            bend = wrong if rng.random() < 0.1 else None
            urgent = URG if rng.random() < 0.03 else 0
            run.send(ACK | urgent, at, data, arrives=arrives, bend=bend, urgent=2)
        else:
            flags = rng.choice((RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, FIN, 0, SYN | FIN))
            where = rng.choice((at, at - 1, size, -1, 3000, 1 << 30))
            run.send(flags, where, b"" if rng.random() < 0.8 else data, arrives=arrives)
        if rng.random() < 0.03:
            run.both.now_us += rng.choice((1000, 299_000_000, 300_000_000))
        if rng.random() < 0.05:
            run.answer(ACK, run.server.isn + 1, run.server.next or 0)
    for at in range(0, size, 5):
        run.send(ACK, at, DENIED[at : at + 5])
    assert not READS[name].search(run.server.read)


@pytest.mark.parametrize("name", {**NFS, **ALERTING})
def test_reference_and_runtime_on_whole_lives(name: str) -> None:
    """Many connections at once that do what TCP does, and now and then something else."""
    rng, kind, config = random.Random(11), *{**NFS, **ALERTING}[name]
    both = Both(kind, **config)
    talks = [Attack(kind, config, port=4000 + n, isn=rng.getrandbits(32)) for n in range(6)]
    for talk in talks:
        talk.both = both
    counts = [0, 0]
    story = (HARMLESS + b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc") * 3
    for _ in range(1500):
        talk = rng.choice(talks)
        fresh = rng.random() < 0.05
        if fresh:
            talk.start, talk.server = rng.getrandbits(32), Receiver(isn=rng.getrandbits(31))
        at = 0 if talk.server.next is None else talk.server.next - talk.start
        at = (at & _ALL) % (1 << 31)
        if talk.server.next is None:
            counts[talk.send(SYN, -1)] += 1
            continue
        near = at + rng.choice((0, 0, 0, 0, 5, -5, 30))
        data = (story + (DENIED if rng.random() < 0.05 else b""))[max(near, 0) :][
            : rng.randrange(60)
        ]
        flags = ACK if rng.random() < 0.95 else rng.choice((RST, FIN | ACK, SYN, RST | ACK))
        counts[
            talk.send(flags, near, data if flags == ACK else b"", arrives=rng.random() < 0.9)
        ] += 1
        if rng.random() < 0.1:
            talk.answer(ACK, talk.server.isn + 1, talk.server.next, b"answer")
        both.now_us += rng.choice((1000,) * 50 + (30_000_000, 400_000_000))
    assert min(counts) > 50, counts
