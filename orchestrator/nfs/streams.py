"""The reference semantics of NFs that look into TCP streams: reassembly, connections, blocking.

By the letter of docs/functions ("TCP streams").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from orchestrator.model.headers import ACK, FIN, RST, SYN
from orchestrator.model.packet import Packet
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.tcp_acceptance_reference import Segment, TcpConnection, distance
from orchestrator.nfs.tcp_acceptance_reference import Verdict as Acceptance

MAX_CONNECTIONS = 65_536
MAX_WAITING_SEGMENTS = 64
MAX_WAITING_BYTES = 128 << 10
MAX_HELD_BYTES = 512 << 10
PIECE_BYTES = 128
JOINED_BYTES = 2048
IDLE_US = 7_440_000_000
TRANSITORY_US = PICK_UP_US = 300_000_000
URG = 0x20
_ALL = 0xFFFF_FFFF

Endpoint = tuple[int, int, int]
"""(IP version, address, port)."""
MemoryT = TypeVar("MemoryT")


class NoRoom(Exception):
    """More than a direction may hold."""


class OtherCopy(Exception):
    """Not what was there before, or nobody knows."""


@dataclass(slots=True)
class Direction(Generic[MemoryT]):
    """The stream from one end: `next` is the sequence number of the first byte not seen yet.

    `waiting` holds bytes behind a hole by their sequence number, no byte twice; `held` the bytes before
    `next` that are not acknowledged, in pieces. `memory` is what the judge keeps of the stream so far;
    None at its beginning.
    """

    next: int
    acked: int | None
    """None: nobody has sent anything before the first byte."""
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    held: list[bytes] = field(default_factory=list[bytes])
    memory: MemoryT | None = None

    def acknowledge(self, seq: int) -> None:
        """The receiver has what is before `seq`."""
        self.acked = seq if distance(seq, self.next) > 0 else self.next
        while self.held and distance(self.acked, self.first_held) + len(self.held[0]) <= 0:
            del self.held[0]

    @property
    def first_held(self) -> int:
        """Sequence number of the first byte held."""
        return self.next - sum(map(len, self.held)) & _ALL

    @property
    def held_cost(self) -> int:
        """What `held` is counted as."""
        return sum(len(piece) + PIECE_BYTES for piece in self.held)

    def insert(self, seq: int, data: bytes, *, strict: bool, slides: bool) -> bytes:
        """Take a segment; the bytes that are now in order. Raises before anything is changed."""
        offset = distance(self.next, seq)
        self._compare(offset, data, strict)
        if offset < 0:
            data, offset = data[-offset:], 0
        pieces = self._missing(offset, data)
        if not data:
            return b""
        if offset and pieces:
            costs = [len(piece) + PIECE_BYTES for piece in (*self.waiting.values(), *_of(pieces))]
            if len(costs) > MAX_WAITING_SEGMENTS or sum(costs) > MAX_WAITING_BYTES:
                raise NoRoom
        elif not offset and self.held_cost > MAX_HELD_BYTES and not slides:
            raise NoRoom
        for start, piece in pieces:
            self.waiting[self.next + start & _ALL] = piece
        result = b""
        while self.next in self.waiting:
            piece = self.waiting.pop(self.next)
            result += piece
            self._hold(piece, slides)
        return result

    def _compare(self, offset: int, data: bytes, strict: bool) -> None:
        """Whether bytes that were seen, or wait, come again as they were."""
        floor = distance(self.next, self.first_held)
        first, end = offset, offset + len(data)
        if self.acked is not None:
            first = max(first, distance(self.next, self.acked))
        if strict and first < min(floor, end):
            raise OtherCopy
        pieces = [(distance(self.next, at), piece) for at, piece in self.waiting.items()]
        for start, piece in (*pieces, (floor, b"".join(self.held))):
            low, high = max(start, first), min(start + len(piece), end)
            if (
                low < high
                and piece[low - start : high - start] != data[low - offset : high - offset]
            ):
                raise OtherCopy

    def _hold(self, piece: bytes, slides: bool) -> None:
        self.next = self.next + len(piece) & _ALL
        if self.held and len(self.held[-1]) + len(piece) <= JOINED_BYTES:
            self.held[-1] += piece
        else:
            self.held.append(piece)
        while slides and self.held_cost > MAX_HELD_BYTES:
            del self.held[0]

    def _missing(self, offset: int, data: bytes) -> list[tuple[int, bytes]]:
        """The runs of `data` (at `offset` from next) that no waiting piece has."""
        at, end = offset, offset + len(data)
        result: list[tuple[int, bytes]] = []
        held = sorted((distance(self.next, s), len(piece)) for s, piece in self.waiting.items())
        for start, length in held:
            if start >= end:
                break
            if start > at:
                result.append((at, data[at - offset : start - offset]))
            at = max(at, start + length)
        if at < end:
            result.append((at, data[at - offset :]))
        return result


def _of(pieces: list[tuple[int, bytes]]) -> list[bytes]:
    return [piece for _, piece in pieces]


@dataclass(slots=True)
class Connection(Generic[MemoryT]):
    """Both directions. A blocked one lets nothing pass, one that is given up everything."""

    tcp: TcpConnection
    directions: dict[Endpoint, Direction[MemoryT]] = field(
        default_factory=dict[Endpoint, Direction[MemoryT]]
    )
    blocked: bool = False
    given_up: bool = False
    used_us: int = 0

    @property
    def lasts(self) -> bool:
        """Whether it is neither half-open nor over."""
        return self.blocked or not (self.tcp.is_half_open or self.tcp.is_over)


class SegmentVerdict(NamedTuple):
    """Whether a segment passes; `blocked_at` is set when it is the one that had its connection
    blocked: the sequence number that its receiver waits for."""

    passes: bool
    blocked_at: int | None = None


_PASS, _DROP = SegmentVerdict(True), SegmentVerdict(False)
Judge = Callable[[Packet, Direction[MemoryT], bytes], bool]
"""Looks at the bytes that a packet has put in order; whether its connection must be blocked."""
_Key = frozenset[Endpoint]


class Streams(Generic[MemoryT]):
    """The connections of one NF instance. `is_judged`: whether a packet's direction is reassembled;
    `strict`: what cannot be looked into does not pass."""

    def __init__(
        self,
        judge: Judge[MemoryT],
        is_judged: Callable[[Packet], bool] = lambda _: True,
        *,
        strict: bool,
    ) -> None:
        self._judge = judge
        self._is_judged = is_judged
        self._strict = strict
        self._connections: FairTable[_Key, Connection[MemoryT]] = FairTable(MAX_CONNECTIONS)
        self._begun_us: int | None = None
        self._has_evicted = False
        self._has_seen_syn = False
        self._entered: set[str] = set()

    def verdict(self, packet: Packet, port: str, now_us: int) -> SegmentVerdict:
        """What becomes of a TCP segment."""
        flags = packet.tcp_flags or 0
        source, key = _ends(packet)
        if self._begun_us is None:
            self._begun_us = now_us
        if len(key) == 1:
            return _DROP  # from itself to itself
        connection = self._find(key, now_us)
        if connection is not None and connection.given_up and _opens(flags):
            self._connections.remove(key)
            connection = None
        if connection is not None and connection.given_up:
            self._use(key, connection, now_us)
            return _PASS
        if connection is not None and connection.blocked and not flags & SYN:
            return _DROP
        if packet.more_fragments:
            if connection is not None and not self._strict:
                connection.given_up = True
            return SegmentVerdict(not self._strict)

        if Segment.of(packet) is None or (flags & URG and self._strict):
            return _DROP
        self._entered.add(port)
        tcp = TcpConnection(*key) if connection is None else connection.tcp
        if self._is_unanswered(packet, tcp, source):
            return _DROP
        accepted = tcp.judge(packet, source)
        if accepted == Acceptance.REFUSED:
            return _DROP
        if connection is None:
            if accepted == Acceptance.PASSES:
                return _PASS
            connection = Connection(tcp)
            meets = self._meet(key, connection, packet, now_us)
            if meets is not None:
                return meets
        elif connection.blocked and accepted != Acceptance.BEGINS:
            return SegmentVerdict(accepted == Acceptance.PASSES and not flags & ACK)
        if accepted == Acceptance.BEGINS:
            connection.blocked = False
            connection.directions.clear()
        self._use(key, connection, now_us)
        if accepted in (Acceptance.PASSES, Acceptance.RESET):
            return _PASS
        return self._take(key, connection, packet, source)

    def _is_unanswered(self, packet: Packet, tcp: TcpConnection, source: Endpoint) -> bool:
        """Whether it has payload though its SYN has no answer, where one would have been seen."""
        if not (self._strict and len(self._entered) == 2 and packet.payload):
            return False
        other = [side for name, side in tcp.sides.items() if name != source]
        opened = tcp.sides[source].isn is not None and other[0].next is None
        return opened and not (packet.tcp_flags or 0) & (SYN | RST)

    def memory(self, packet: Packet) -> MemoryT | None:
        """What is kept of the direction of a packet whose verdict has been given."""
        source, key = _ends(packet)
        connection = self._connections.get(key)
        direction = connection.directions.get(source) if connection is not None else None
        return direction.memory if direction is not None else None

    def _find(self, key: _Key, now_us: int) -> Connection[MemoryT] | None:
        connection = self._connections.get(key)
        if connection is None:
            return None
        if now_us - connection.used_us >= (IDLE_US if connection.lasts else TRANSITORY_US):
            self._connections.remove(key)
            return None
        return connection

    def _use(self, key: _Key, connection: Connection[MemoryT], now_us: int) -> None:
        connection.used_us = now_us
        self._connections.refresh(key)
        self._connections.establish(key, connection.lasts)

    def _meet(
        self, key: _Key, connection: Connection[MemoryT], packet: Packet, now_us: int
    ) -> SegmentVerdict | None:
        """Know a connection from now on (None), or what becomes of its segment."""
        flags = packet.tcp_flags or 0
        if _opens(flags):
            self._has_seen_syn = True
        else:
            if not self._is_judged(packet) or not (packet.payload or flags & SYN):
                return _PASS
            assert self._begun_us is not None
            early = now_us - self._begun_us < PICK_UP_US and not self._has_evicted
            unseen = bool(flags & SYN) and not self._has_seen_syn
            if self._strict and not (early or unseen):
                return SegmentVerdict(not packet.payload)
        held = len(self._connections)
        source = source_of(packet.version, packet.src)
        entered = self._connections.add(key, connection, source)
        self._has_evicted |= len(self._connections) == held
        return None if entered else SegmentVerdict(not self._strict)

    def _take(
        self, key: _Key, connection: Connection[MemoryT], packet: Packet, source: Endpoint
    ) -> SegmentVerdict:
        """An accepted segment."""
        (receiver,) = key - {source}
        sides = connection.tcp.sides
        back = connection.directions.get(receiver)
        acked = sides[receiver].acked
        if back is not None and acked is not None:
            back.acknowledge(acked)
        data, flags = packet.payload, packet.tcp_flags or 0
        if not data or not self._is_judged(packet):
            return _PASS
        seq = (packet.tcp_seq or 0) + bool(flags & SYN) & _ALL
        direction = connection.directions.get(source)
        if direction is None:
            isn, has = sides[source].isn, sides[source].acked
            assert has is not None
            first = seq if isn is None else isn + 1 & _ALL
            if distance(first, has) > 0:
                direction = Direction(has, has)
            else:
                direction = Direction(first, first if isn is None else None)
            connection.directions[source] = direction
        expected = direction.next
        slides = not self._strict or sides[receiver].next is None
        try:
            new = direction.insert(seq, data, strict=self._strict, slides=slides)
        except OtherCopy:
            return _DROP
        except NoRoom:
            connection.given_up = not self._strict
            return SegmentVerdict(connection.given_up)
        if new and self._judge(packet, direction, new):
            connection.blocked = True
            connection.directions.clear()
            self._connections.establish(key)
            return SegmentVerdict(False, expected)
        return _PASS


def _opens(flags: int) -> bool:
    return flags & (FIN | SYN | RST | ACK) == SYN


def _ends(packet: Packet) -> tuple[Endpoint, _Key]:
    """Where it comes from, and both ends."""
    source = (packet.version, packet.src, packet.src_port or 0)
    return source, frozenset((source, (packet.version, packet.dst, packet.dst_port or 0)))
