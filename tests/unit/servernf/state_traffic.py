"""Traffic for the properties of state: conversations between few hosts, in whatever NF is between them.

A conversation is a generator: it yields (port, frame) and is sent what left, so that a server answers
the address that it has seen. It lasts as long as its random numbers say, and whoever runs several at
once also lets time pass.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.model.headers import ACK, FIN, ICMP, PSH, RST, SYN, TCP, UDP
from orchestrator.model.packet import Packet
from orchestrator.oracle import frames

INSIDE, OUTSIDE = "inside", "outside"
Sent = tuple[str, bytes]
Left = Sequence[Sent]
Conversation = Generator[Sent, Left, None]
HOSTS = [0x0A000101 + n for n in range(8)]
SERVERS = [0xC6336401 + n for n in range(3)]
_MACS = {INSIDE: 0x060000000010, OUTSIDE: 0x060000000020}


@dataclass(slots=True)
class Talker:
    """One end: builds frames from its address and port to the other's."""

    port: str
    protocol: int
    address: int
    number: int
    peer: int
    peer_number: int

    def _frame(self, l4: bytes, *, bent: bool = False, ident: int = 0) -> Sent:
        l4 = frames.with_checksum(4, self.address, self.peer, self.protocol, l4)
        if bent:
            l4 = l4[:-1] + bytes((l4[-1] ^ 1,))
        packet = frames.ip(4, self.address, self.peer, self.protocol, l4, ident=ident)
        return self.port, frames.ethernet(packet, 0x0800, src=_MACS[self.port])

    def tcp(
        self, flags: int, seq: int, ack: int = 0, data: bytes = b"", *, bent: bool = False
    ) -> Sent:
        segment = frames.tcp(
            self.number, self.peer_number, seq=seq, ack=ack, flags=flags, data=data
        )
        return self._frame(segment, bent=bent)

    def udp(self, data: bytes) -> Sent:
        return self._frame(frames.udp(self.number, self.peer_number, data))

    def echo(self, *, reply: bool) -> Sent:
        number = self.number if not reply else self.peer_number
        return self._frame(
            frames.icmp(0 if reply else 8, 0, struct.pack("!HH", number, 1) + b"ping")
        )

    def error(self, about: bytes) -> Sent:
        at = Packet.parse(about).layout
        quoted = about[at.l3 : at.l4 + 8]
        end = Talker(self.port, ICMP, self.address, 0, self.peer, 0)
        return end._frame(frames.icmp(3, 1, bytes(4) + quoted))

    def fragments(self, data: bytes, ident: int) -> list[Sent]:
        port, whole = self.udp(data)
        return [(port, piece) for piece in frames.fragments(whole, 64, ident)]


def answering(left: Left, port: str) -> Talker | None:
    """Who answers a frame that has left by the other port; None: nothing has."""
    for out, frame in left:
        packet = Packet.parse(frame)
        if out != port and packet.version == 4 and packet.protocol in (TCP, UDP, ICMP):
            mine, theirs = packet.dst_port or 0, packet.src_port or packet.icmp_id or 0
            return Talker(out, packet.protocol, packet.dst, mine, packet.src, theirs)
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """Who talks in a test: hosts, which side begins, and to which addresses and ports."""

    hosts: Sequence[int] = tuple(HOSTS)
    servers: Sequence[int] = tuple(SERVERS)
    ports: Sequence[int] = (80, 53, 443)
    begins: str = INSIDE
    texts: Sequence[bytes] = (b"",)
    """What clients say."""
    datagrams: Callable[[random.Random], tuple[bytes, bytes]] | None = None
    """A question and its answer; None: anything."""


def _client(rng: random.Random, place: Place, protocol: int) -> Talker:
    number = rng.choice((rng.randrange(2000, 2006), rng.randrange(1024, 65536)))
    host, server = rng.choice(place.hosts), rng.choice(place.servers)
    return Talker(place.begins, protocol, host, number, server, rng.choice(place.ports))


def tcp(rng: random.Random, place: Place) -> Conversation:
    """A connection with all that goes wrong: loss, order, copies, forged and bent segments."""
    client = _client(rng, place, TCP)
    seq, peer = rng.getrandbits(32), rng.getrandbits(32)
    left = yield client.tcp(SYN, seq)
    server = answering(left, client.port)
    if server is None:
        return
    if rng.random() < 0.1:
        yield server.tcp(RST | ACK, 0, seq + 1)
        return
    left = yield server.tcp(SYN | ACK, peer, seq + 1)
    if not left or rng.random() < 0.1:
        return
    seq, peer = seq + 1, peer + 1
    yield client.tcp(ACK, seq, peer)
    for _ in range(rng.randrange(4)):
        text = rng.choice(place.texts) or rng.randbytes(rng.randrange(1, 60))
        cuts = sorted({0, len(text), *(rng.randrange(len(text) + 1) for _ in range(3))})
        pieces = [(a, text[a:b]) for a, b in pairwise(cuts)]
        if rng.random() < 0.3:
            rng.shuffle(pieces)
        if rng.random() < 0.2:
            pieces.append(rng.choice(pieces))
        for at, piece in pieces:
            bent = rng.random() < 0.05
            yield client.tcp(ACK | PSH, seq + at, peer, piece, bent=bent)
            if rng.random() < 0.1:
                yield rng.choice((client, server)).tcp(
                    rng.choice((RST, SYN, FIN | ACK, ACK)), rng.getrandbits(32), peer, b"x"
                )
        seq += len(text)
        answer = rng.randbytes(rng.randrange(1, 40))
        yield server.tcp(ACK | PSH, peer, seq, answer)
        peer += len(answer)
    ending = rng.random()
    if ending < 0.3:
        yield rng.choice((client.tcp(RST, seq, peer), server.tcp(RST, peer, seq)))
    elif ending < 0.8:
        yield client.tcp(FIN | ACK, seq, peer)
        yield server.tcp(FIN | ACK, peer, seq + 1)
        yield client.tcp(ACK, seq + 1, peer + 1)


def udp(rng: random.Random, place: Place) -> Conversation:
    """Datagrams to and fro, also twice; errors; fragments."""
    client = _client(rng, place, UDP)
    for _ in range(rng.randrange(1, 5)):
        ask, answer = rng.randbytes(rng.randrange(9, 60)), rng.randbytes(20)
        if place.datagrams is not None:
            ask, answer = place.datagrams(rng)
        left = yield client.udp(ask)
        if rng.random() < 0.2:
            yield client.udp(ask)
        server = answering(left, client.port)
        if server is None:
            continue
        if rng.random() < 0.2:
            yield server.error(left[0][1])
        for _ in range(rng.choice((1, 1, 2))):
            yield server.udp(answer)


def echo(rng: random.Random, place: Place) -> Conversation:
    """Pings."""
    client = _client(rng, place, ICMP)
    left = yield client.echo(reply=False)
    server = answering(left, client.port)
    if server is not None and rng.random() < 0.8:
        yield server.echo(reply=True)


def fragments(rng: random.Random, place: Place) -> Conversation:
    """A datagram in fragments, perhaps not in order."""
    client = _client(rng, place, UDP)
    pieces = client.fragments(rng.randbytes(150), rng.randrange(4))
    if rng.random() < 0.3:
        rng.shuffle(pieces)
    for piece in pieces:
        _ = yield piece


KINDS = (tcp, tcp, tcp, udp, udp, echo, fragments)


class Traffic:
    """Several conversations at once; `left` tells what became of the frame before."""

    def __init__(
        self, seed: int, place: Place, kinds: Sequence[Callable[..., Conversation]]
    ) -> None:
        self._rng = random.Random(seed)
        self.place = place
        self._kinds = kinds
        self._running: list[tuple[Conversation, Sent]] = []
        self._at = 0
        self.now_us = 1_000_000

    def frames(self, count: int) -> Iterator[tuple[str, bytes, int]]:
        """(port, frame, when); `told` has to be called after each."""
        for _ in range(count):
            while len(self._running) < 6:
                talk = self._rng.choice(self._kinds)(self._rng, self.place)
                self._running.append((talk, next(talk)))
            self._at = self._rng.randrange(len(self._running))
            chance = self._rng.random()
            self.now_us += self._rng.randrange(20_000)
            if chance < 0.03:
                self.now_us += self._rng.randrange(40_000_000)
            elif chance < 0.035:
                self.now_us += 400_000_000
            port, frame = self._running[self._at][1]
            yield port, frame, self.now_us

    def told(self, left: Left) -> None:
        """What left for the frame that came last."""
        talk, _ = self._running[self._at]
        try:
            self._running[self._at] = talk, talk.send(left)
        except StopIteration:
            self._running.pop(self._at)
