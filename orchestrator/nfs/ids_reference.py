"""The reference semantics of ids: stream reassembly and search, by the letter of the architecture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.model.match import PortRange
from orchestrator.model.packet import ACK, FIN, RST, SYN, TCP, UDP, Packet
from orchestrator.nfs.base import Environment, Output, Reference

MAX_CONNECTIONS = 65_536
MAX_WAITING_SEGMENTS = 64
MAX_WAITING_BYTES = 128 << 10
IDLE_US = 300_000_000
_HALF = 1 << 31

Endpoint = tuple[int, int, int]
"""(IP version, address, port)."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes to find in a protocol's streams or datagrams that use one of `ports`."""

    id: int
    content: bytes
    protocol: int
    ports: tuple[PortRange, ...]

    def concerns(self, protocol: int, ports: tuple[int, int]) -> bool:
        """Whether a packet's protocol and one of its ports are the signature's."""
        return protocol == self.protocol and any(
            r.low <= port <= r.high for r in self.ports for port in ports
        )


@dataclass(slots=True)
class _Direction:
    """The stream from one end: `next` is the sequence number of the first byte not seen yet.

    `waiting` holds bytes behind a hole by their sequence number, no byte twice: the first copy wins.
    `tail` is as much of the stream's end as a signature that goes on may begin with.
    """

    next: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    tail: bytes = b""
    fin: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the stream has come as far as its FIN."""
        return self.fin is not None and self.next == self.fin

    def start(self, seq: int) -> None:
        """Forget everything; the stream begins at `seq`."""
        self.next, self.tail, self.fin = seq, b"", None
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
class _Connection:
    directions: dict[Endpoint, _Direction]
    blocked: bool = False
    used_us: int = 0


class IdsReference(Reference):
    """One ids instance; `drops` is action 'drop', otherwise matches are only counted in `alerts`."""

    def __init__(self, signatures: Sequence[Signature], *, drops: bool) -> None:
        self._signatures = signatures
        self._drops = drops
        self._keep = max((len(s.content) for s in signatures), default=1) - 1
        self._connections: OrderedDict[frozenset[Endpoint], _Connection] = OrderedDict()
        self.alerts = 0

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        left = "outside" if port == "inside" else "inside"
        signatures: list[Signature] = []
        if packet.has_ports:
            ports = (packet.src_port or 0, packet.dst_port or 0)
            protocol = packet.protocol or 0
            signatures = [s for s in self._signatures if s.concerns(protocol, ports)]
        passes = not signatures
        if signatures and packet.protocol == UDP:
            passes = not self._found(signatures, b"", packet.payload)
        elif signatures and packet.protocol == TCP:
            passes = self._tcp(packet, signatures, env.now_us)
        return ((left, packet),) if passes else ()

    def _found(self, signatures: Sequence[Signature], tail: bytes, new: bytes) -> bool:
        """Whether a match that ends in `new` must drop the packet."""
        text = tail + new
        hits = sum(
            text.find(s.content, max(0, len(tail) - len(s.content) + 1)) >= 0 for s in signatures
        )
        self.alerts += hits
        return hits > 0 and self._drops

    def _tcp(self, packet: Packet, signatures: Sequence[Signature], now_us: int) -> bool:
        """Whether the segment passes."""
        flags, seq = packet.tcp_flags or 0, packet.tcp_seq or 0
        source = (packet.version, packet.src, packet.src_port or 0)
        target = (packet.version, packet.dst, packet.dst_port or 0)
        key = frozenset((source, target))
        data = packet.payload
        connection = self._connections.get(key)
        if connection is not None and now_us - connection.used_us > IDLE_US:
            del self._connections[key]
            connection = None
        if flags & (SYN | ACK | RST) == SYN:
            # A new SYN is a new connection, whatever the ports were used for before.
            self._connections.pop(key, None)
            connection = None
        if connection is None:
            if flags & RST or not (data or flags & SYN):
                return True
            connection = _Connection({source: _Direction(), target: _Direction()})
            self._connections[key] = connection
            if len(self._connections) > MAX_CONNECTIONS:
                self._connections.popitem(last=False)
        connection.used_us = now_us
        self._connections.move_to_end(key)
        if connection.blocked:
            return False
        if flags & RST:
            del self._connections[key]
            return True

        direction = connection.directions[source]
        if flags & SYN:
            direction.start(seq + 1 & 0xFFFF_FFFF)
            seq += 1
        if direction.ended:
            return True
        if data:
            if not direction.insert(seq & 0xFFFF_FFFF, data):
                return False
            new = direction.take()
            if self._found(signatures, direction.tail, new):
                connection.blocked = True
                return False
            direction.tail = (direction.tail + new)[-self._keep :] if self._keep else b""
        if flags & FIN:
            if direction.next is None:
                direction.start(seq & 0xFFFF_FFFF)
            direction.fin = seq + len(data) & 0xFFFF_FFFF
        if all(d.ended for d in connection.directions.values()):
            del self._connections[key]
        return True


def _distance(start: int, seq: int) -> int:
    """Sequence numbers from `start` to `seq`, negative when `seq` is older (RFC 9293, 3.4)."""
    return (seq - start + _HALF & 0xFFFF_FFFF) - _HALF
