"""The reference semantics of NFs that look into TCP streams: reassembly, connections, blocking.

By the letter of docs/architecture.md ("TCP streams").
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from orchestrator.model.packet import ACK, FIN, RST, SYN, Packet

MAX_CONNECTIONS = 65_536
MAX_WAITING_SEGMENTS = 64
MAX_WAITING_BYTES = 128 << 10
IDLE_US = 300_000_000
_HALF = 1 << 31

Endpoint = tuple[int, int, int]
"""(IP version, address, port)."""
MemoryT = TypeVar("MemoryT")


@dataclass(slots=True)
class Direction(Generic[MemoryT]):
    """The stream from one end: `next` is the sequence number of the first byte not seen yet.

    `waiting` holds bytes behind a hole by their sequence number, no byte twice: the first copy wins.
    `memory` is what the judge keeps of the stream so far; None at its beginning.
    """

    next: int | None = None
    isn: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    memory: MemoryT | None = None
    fin: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the stream has come as far as its FIN."""
        return self.fin is not None and self.next == self.fin

    def start(self, seq: int) -> None:
        """Forget everything; the stream begins at `seq`."""
        self.next, self.memory, self.fin = seq, None, None
        self.waiting.clear()

    def insert(self, seq: int, data: bytes) -> bool:
        """Keep the bytes that are new; False when too much would wait behind a hole."""
        if self.next is None:
            self.start(seq)
        assert self.next is not None
        offset = _distance(self.next, seq)
        if offset < 0:
            data, offset = data[-offset:], 0
        pieces = self._missing(offset, data)
        in_order = bool(pieces) and pieces[0][0] == 0
        count = len(self.waiting) + len(pieces)
        size = sum(map(len, self.waiting.values())) + sum(len(piece) for _, piece in pieces)
        if pieces and not in_order and (count > MAX_WAITING_SEGMENTS or size > MAX_WAITING_BYTES):
            return False
        for start, piece in pieces:
            self.waiting[self.next + start & 0xFFFF_FFFF] = piece
        return True

    def _missing(self, offset: int, data: bytes) -> list[tuple[int, bytes]]:
        """The runs of `data` (at `offset` from next) that no waiting piece has."""
        assert self.next is not None
        at, end = offset, offset + len(data)
        result: list[tuple[int, bytes]] = []
        held = sorted((_distance(self.next, s), len(piece)) for s, piece in self.waiting.items())
        for start, length in held:
            if start >= end:
                break
            if start > at:
                result.append((at, data[at - offset : start - offset]))
            at = max(at, start + length)
        if at < end:
            result.append((at, data[at - offset :]))
        return result

    def take(self) -> bytes:
        """The bytes that are now in order."""
        result = b""
        while self.next is not None and self.next in self.waiting:
            piece = self.waiting.pop(self.next)
            self.next = self.next + len(piece) & 0xFFFF_FFFF
            result += piece
        return result


@dataclass(slots=True)
class Connection(Generic[MemoryT]):
    """Both directions; a blocked one lets nothing pass until a new SYN."""

    directions: dict[Endpoint, Direction[MemoryT]]
    blocked: bool = False
    used_us: int = 0


class Verdict(NamedTuple):
    """Whether a segment passes; `blocked_at` is set when it is the one that had its connection
    blocked: the sequence number that its receiver waits for."""

    passes: bool
    blocked_at: int | None = None


_PASS, _DROP = Verdict(True), Verdict(False)
Judge = Callable[[Packet, Direction[MemoryT], bytes], bool]
"""Looks at the bytes that a packet has put in order; whether its connection must be blocked."""


class Streams(Generic[MemoryT]):
    """The connections of one NF instance. `is_judged`: whether a packet's direction is reassembled."""

    def __init__(
        self, judge: Judge[MemoryT], is_judged: Callable[[Packet], bool] = lambda _: True
    ) -> None:
        self._judge = judge
        self._is_judged = is_judged
        self._connections: OrderedDict[frozenset[Endpoint], Connection[MemoryT]] = OrderedDict()

    def verdict(self, packet: Packet, now_us: int) -> Verdict:
        """What becomes of a TCP segment."""
        flags, seq = packet.tcp_flags or 0, packet.tcp_seq or 0
        source, key = _ends(packet)
        judged = self._is_judged(packet)
        connection = self._connection(key, packet, judged, now_us)
        if connection is None:
            return _PASS
        if connection.blocked:
            return _DROP
        if flags & RST:
            del self._connections[key]
            return _PASS
        if not judged:
            return _PASS

        direction = connection.directions.setdefault(source, Direction())
        if flags & SYN:
            if direction.isn != seq:
                direction.start(seq + 1 & 0xFFFF_FFFF)
                direction.isn = seq
            seq += 1
        data = packet.payload
        if data and not direction.ended:
            expected = seq if direction.next is None else direction.next
            if not direction.insert(seq & 0xFFFF_FFFF, data):
                return _DROP
            new = direction.take()
            if new and self._judge(packet, direction, new):
                connection.blocked = True
                return Verdict(False, expected & 0xFFFF_FFFF)
        if flags & FIN and direction.fin is None:
            if direction.next is None:
                direction.start(seq & 0xFFFF_FFFF)
            end = seq + len(data) & 0xFFFF_FFFF
            assert direction.next is not None
            direction.fin = end if _distance(direction.next, end) > 0 else direction.next
        ends = list(connection.directions.values())
        if len(ends) == 2 and all(d.ended for d in ends):
            del self._connections[key]
        return _PASS

    def memory(self, packet: Packet) -> MemoryT | None:
        """What is kept of the direction of a packet whose verdict has been given."""
        source, key = _ends(packet)
        connection = self._connections.get(key)
        direction = connection.directions.get(source) if connection is not None else None
        return direction.memory if direction is not None else None

    def _connection(
        self, key: frozenset[Endpoint], packet: Packet, judged: bool, now_us: int
    ) -> Connection[MemoryT] | None:
        """The packet's connection, a new one if it begins one; None when there is none to follow."""
        flags = packet.tcp_flags or 0
        connection = self._connections.get(key)
        idle = connection is not None and now_us - connection.used_us >= IDLE_US
        # A new SYN is a new connection, whatever the ports were used for before.
        if idle or flags & (SYN | ACK | RST) == SYN:
            self._connections.pop(key, None)
            connection = None
        if connection is None:
            if not judged or flags & RST or not (packet.payload or flags & SYN):
                return None
            connection = self._connections[key] = Connection({})
            if len(self._connections) > MAX_CONNECTIONS:
                self._connections.popitem(last=False)
        connection.used_us = now_us
        self._connections.move_to_end(key)
        return connection


def _ends(packet: Packet) -> tuple[Endpoint, frozenset[Endpoint]]:
    """Where it comes from, and both ends."""
    source = (packet.version, packet.src, packet.src_port or 0)
    return source, frozenset((source, (packet.version, packet.dst, packet.dst_port or 0)))


def _distance(start: int, seq: int) -> int:
    """Sequence numbers from `start` to `seq`, negative when `seq` is older (RFC 9293, 3.4)."""
    return (seq - start + _HALF & 0xFFFF_FFFF) - _HALF
