"""The TCP connections of an NF that looks into streams: whose bytes, in order, and what it has blocked.

Memory is bounded: 65,536 connections, 64 segments and 128 KiB waiting a direction, and 64 MiB waiting
altogether; what would exceed it is dropped, so that nothing passes uninspected.

Another configuration goes on where the streams are, and what is blocked stays blocked. Bytes that pass
a port while it is not watched are missing for ever, so a connection is gone on with only if all
configurations since it was last looked up watched its ports; else it begins anew.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import Any

from servernf.network_function import NetworkFunction
from servernf.packet import PacketView
from servernf.tcp_stream import Direction, TooMuchWaiting

MAX_CONNECTIONS = 65_536
MAX_WAITING_BYTES = 64 << 20
IDLE_US = 300_000_000
MAX_CONFIGURATIONS = 16
"""That are remembered; connections last looked up under an earlier one begin anew."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
Key = tuple[int, int, int]


class Connection:
    """Both directions; a blocked one lets nothing pass until a new SYN."""

    __slots__ = ("blocked", "high", "last_us", "low", "seen_by")

    def __init__(self, seen_by: object) -> None:
        self.seen_by = seen_by
        """The mark of the configuration that looked it up last."""
        self.blocked = False
        self.last_us = 0
        self.low = Direction()  # from the lower (address, port) to the higher
        self.high = Direction()

    @property
    def waiting_bytes(self) -> int:
        """Bytes behind holes, both directions."""
        return self.low.waiting_bytes + self.high.waiting_bytes

    def block(self) -> None:
        """Nothing passes any more."""
        self.blocked = True
        self.low = self.high = Direction()


class _Streams:
    """All connections, and the bytes of theirs that wait."""

    __slots__ = ("connections", "waiting_bytes", "watched_since")

    def __init__(self) -> None:
        self.connections: OrderedDict[Key, Connection] = OrderedDict()
        self.waiting_bytes = 0
        self.watched_since: dict[object, bytes] = {}
        """By a configuration's mark: the ports that it and all later ones watched."""


class StreamFunction(NetworkFunction):
    """Base of NFs that judge streams: they give `judge`, and ask `passes` of every TCP segment."""

    watched: bytes
    """By TCP port, 1 where `passes` is asked of the segments from or to it."""

    def __init__(self, where: str, config: object) -> None:
        self._streams = _Streams()
        self._mark = object()
        super().__init__(where, config)

    def continue_from(self, before: Any) -> bool:
        streams = self._streams = before._streams
        known = {**streams.watched_since, before._mark: before.watched}
        # That of `before` too: it may be in force again after a later one that was undone.
        now = int.from_bytes(before.watched) & int.from_bytes(self.watched)
        streams.watched_since = {
            mark: (int.from_bytes(watched) & now).to_bytes(len(watched))
            for mark, watched in list(known.items())[-MAX_CONFIGURATIONS:]
        }
        streams.watched_since[self._mark] = self.watched
        return True

    @abstractmethod
    def judge(self, packet: PacketView, side: Direction, ready: bytes) -> str:
        """Look at bytes that are in order now; why the connection must be blocked, or ""."""

    def on_block(self, packet: PacketView, port: str, expected: int) -> None:
        """Called for the segment that had its connection blocked; `expected` is the sequence number
        that its receiver waits for."""

    def metrics(self) -> dict[str, int]:
        streams = self._streams
        return {
            "connections": len(streams.connections),
            "waiting_bytes": streams.waiting_bytes,
        }

    def passes(self, packet: PacketView, port: str, now_us: int, *, is_judged: bool = True) -> bool:
        """Whether a TCP segment passes. Without `is_judged` its direction is not reassembled."""
        data, l4 = packet.data, packet.l4
        flags = data[l4 + 13]
        header = data[l4 + 12] >> 4 << 2
        payload = bytes(data[l4 + header : packet.end]) if header >= 20 else b""
        key, ascending = _key(packet)
        begins = is_judged and not flags & _RST and bool(payload or flags & _SYN)
        connection = self._find(key, flags, now_us, begins=begins)
        if connection is None:
            return True
        if connection.blocked:
            self.drop("blocked")
            return False
        if flags & _RST:
            self._forget(key)
            return True
        if not is_judged:
            return True
        side = connection.low if ascending else connection.high
        seq = int.from_bytes(data[l4 + 4 : l4 + 8], "big")
        if flags & _SYN:
            # A repeated SYN-ACK must not make the stream forget where it is.
            if side.isn != seq:
                self._streams.waiting_bytes -= side.waiting_bytes
                side.start(seq + 1)
                side.isn = seq
            seq = seq + 1 & 0xFFFF_FFFF
        if payload and not side.ended:
            if not side.started:
                side.start(seq)
            expected = side.expected
            if not self._take(connection, side, seq, payload, packet):
                if connection.blocked:
                    self.on_block(packet, port, expected)
                return False
        if flags & _FIN and side.fin_at < 0:
            if not side.started:
                side.start(seq + len(payload))
            side.fin(seq + len(payload))
        if connection.low.ended and connection.high.ended:
            self._forget(key)
        return True

    def memory_of(self, packet: PacketView) -> Any:
        """What is kept of the packet's direction; None when nothing is."""
        key, ascending = _key(packet)
        connection = self._streams.connections.get(key)
        if connection is None:
            return None
        return (connection.low if ascending else connection.high).memory

    def _take(
        self, connection: Connection, side: Direction, seq: int, payload: bytes, packet: PacketView
    ) -> bool:
        """Add a segment to its stream and judge what is in order now."""
        before = side.waiting_bytes
        try:
            ready = side.add(seq, payload, MAX_WAITING_BYTES - self._streams.waiting_bytes)
        except TooMuchWaiting:
            self.drop("out_of_order")
            return False
        self._streams.waiting_bytes += side.waiting_bytes - before
        if not ready:
            return True
        reason = self.judge(packet, side, ready)
        if reason:
            self._streams.waiting_bytes -= connection.waiting_bytes
            connection.block()
            self.drop(reason)
        return not reason

    def _find(self, key: Key, flags: int, now_us: int, *, begins: bool) -> Connection | None:
        """The packet's connection; a new one if it begins one, None when there is nothing to follow."""
        connections = self._streams.connections
        connection = connections.get(key)
        if connection is not None and (
            connection.last_us + IDLE_US <= now_us
            or flags & (_SYN | _ACK | _RST) == _SYN
            or (connection.seen_by is not self._mark and not self._is_whole(key, connection))
        ):
            self._forget(key)
            connection = None
        if connection is None:
            if not begins:
                return None
            connection = connections[key] = Connection(self._mark)
            if len(connections) > MAX_CONNECTIONS:
                _, oldest = connections.popitem(last=False)
                self._streams.waiting_bytes -= oldest.waiting_bytes
        else:
            connections.move_to_end(key)
        connection.last_us = now_us
        return connection

    def _is_whole(self, key: Key, connection: Connection) -> bool:
        """Whether nothing of a connection that another configuration knew has passed unseen."""
        watched = self._streams.watched_since.get(connection.seen_by)
        if watched is None or not (watched[key[1] & 0xFFFF] or watched[key[2] & 0xFFFF]):
            return False
        connection.seen_by = self._mark
        return True

    def _forget(self, key: Key) -> None:
        self._streams.waiting_bytes -= self._streams.connections.pop(key).waiting_bytes


def _key(packet: PacketView) -> tuple[Key, bool]:
    """The packet's connection, and whether it goes from the lower end to the higher."""
    source = packet.source << 16 | packet.source_port
    destination = packet.destination << 16 | packet.destination_port
    if source <= destination:
        return (packet.version, source, destination), True
    return (packet.version, destination, source), False
