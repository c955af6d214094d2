"""The TCP connections of an NF that looks into streams: whose bytes, in order, and what it has blocked.

An NF whose configuration can drop is *strict*: what it cannot look into does not pass. One that only
counts gives up looking instead, and says so.

Memory is bounded: 65,536 connections, of each source its share, and 64 MiB of bytes held.

Another configuration goes on where the streams are, and what is blocked stays blocked. Bytes that pass
a port while it is not watched are missing for ever, so a connection is gone on with only if all
configurations since it was last looked up watched its ports; else it is unknown.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from typing import Any

from servernf.python.fair_table import Entry, FairTable
from servernf.python.flow_keys import connection_key, ends, host_of
from servernf.python.network_function import NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.tcp_acceptance import (
    ACK,
    BEGINS,
    FIN,
    PASSES,
    REFUSED,
    RESET,
    RST,
    SYN,
    Side,
    accept,
    is_intact,
    is_open,
    is_over,
)
from servernf.python.tcp_stream import Direction, NoRoom, OtherCopy

MAX_CONNECTIONS = 65_536
MAX_HELD_BYTES = 64 << 20
IDLE_US = 7_440_000_000
"""RFC 5382, REQ-5: 2 hours and 4 minutes."""
TRANSITORY_US = 300_000_000
"""Half-open, or over. Not less than PICK_UP_US: what is forgotten must not be picked up again."""
PICK_UP_US = 300_000_000
MAX_CONFIGURATIONS = 16
"""That are told apart; what an earlier one looked up last counts as looked up by the eldest of them, and
that one as watching no more than both."""

_NO_PORTS = bytes(65_536)
_URG = 32
_OPENING = FIN | SYN | RST | ACK
_HEADER = struct.Struct("!IIBBH")


class Mark:
    """A configuration, as connections remember which one looked them up last."""

    __slots__ = ("_became",)

    def __init__(self) -> None:
        self._became: Mark | None = None

    def become(self, other: Mark) -> None:
        """Not to be told apart from another one any more."""
        self._became = other

    def now(self) -> Mark:
        """The one that it has become."""
        mark = self
        while mark._became is not None:
            mark = mark._became
        if mark is not self:
            self._became = mark
        return mark


class End(Side):
    """One end of a connection, and what is kept of the stream that it sends."""

    __slots__ = ("stream",)

    def __init__(self) -> None:
        super().__init__()
        self.stream: Direction | None = None


class Connection(Entry):
    """Both directions; a blocked one lets nothing pass, one that is `given_up` everything."""

    __slots__ = ("blocked", "given_up", "high", "last_us", "low", "seen_by")

    def __init__(self, seen_by: Mark) -> None:
        self.seen_by = seen_by
        """The mark of the configuration that looked it up last."""
        self.blocked = self.given_up = False
        self.last_us = 0
        self.low = End()  # the lower (address, port)
        self.high = End()

    @property
    def is_lasting(self) -> bool:
        """Whether it is neither half-open nor over."""
        if self.blocked:
            return True
        return is_open(self.low, self.high) and not is_over(self.low, self.high)


class _Streams:
    """All connections, and the memory that their bytes take."""

    __slots__ = ("connections", "given_up", "has_seen_syn", "held_bytes", "sides", "watched_since")

    def __init__(self) -> None:
        self.connections: FairTable[Connection] = FairTable(MAX_CONNECTIONS)
        self.held_bytes = 0
        self.given_up = 0
        self.has_seen_syn = False
        self.sides: set[str] = set()
        """The ports by which segments have entered: one where the other direction goes another way."""
        self.watched_since: dict[Mark, bytes] = {}
        """By a configuration's mark: the ports that it and all later ones watched."""

    def release(self, connection: Connection) -> None:
        """Forget the bytes of a connection."""
        for end in (connection.low, connection.high):
            if end.stream is not None:
                self.held_bytes -= end.stream.cost
                end.stream = None

    def forget(self, connection: Connection) -> None:
        """Forget all of it."""
        self.release(connection)
        self.connections.remove(connection)


class StreamFunction(NetworkFunction):
    """Base of NFs that judge streams: they give `judge`, and ask `passes` of every TCP segment."""

    watched: bytes
    """By TCP port, 1 where `passes` is asked of the segments from or to it."""
    strict: bool
    """Whether the configuration can drop."""

    def __init__(self, where: str, config: object) -> None:
        self._streams = _Streams()
        self._mark = Mark()
        self._begun_us = -1
        self._evicted_before = 0
        self._watched_before = _NO_PORTS
        """By TCP port, 1 where connections were known before this configuration."""
        super().__init__(where, config)

    def continue_from(self, before: Any) -> bool:
        streams = self._streams = before._streams
        now = int.from_bytes(self.watched)
        # That of `before` too: it may be in force again after a later one that was undone.
        known = {**streams.watched_since, before._mark: before.watched}
        since = {mark: int.from_bytes(watched) & now for mark, watched in known.items()}
        while len(since) > MAX_CONFIGURATIONS:
            eldest, second, *_ = since
            since[second] &= since.pop(eldest)
            eldest.become(second)
        size = len(self.watched)
        streams.watched_since = {mark: ports.to_bytes(size) for mark, ports in since.items()}
        streams.watched_since[self._mark] = self.watched
        self._watched_before = before.watched
        return True

    @abstractmethod
    def judge(self, packet: PacketView, stream: Direction, ready: bytes) -> str:
        """Look at bytes that are in order now; why the connection must be blocked, or ""."""

    def on_block(self, packet: PacketView, port: str, expected: int) -> None:
        """Called for the segment that had its connection blocked; `expected` is the sequence number
        that its receiver waits for."""

    def metrics(self) -> dict[str, int]:
        streams = self._streams
        return {
            "connections": len(streams.connections),
            "held_bytes": streams.held_bytes,
            "evicted": streams.connections.evicted,
            "given_up": streams.given_up,
        }

    def passes(self, packet: PacketView, port: str, now_us: int, *, is_judged: bool = True) -> bool:
        """Whether a TCP segment passes. Without `is_judged` its direction is not reassembled."""
        if self._begun_us < 0:
            self._begun_us, self._evicted_before = now_us, self._streams.connections.evicted
        if packet.source == packet.destination and packet.source_port == packet.destination_port:
            self.drop("unacceptable")
            return False
        data, l4 = packet.data, packet.l4
        seq, ack, offset, flags, window = _HEADER.unpack_from(data, l4 + 4)
        key, ascending = connection_key(packet)
        connection = self._find(key, flags, now_us)
        if connection is not None:
            if connection.given_up:
                connection.last_us = now_us
                self._streams.connections.refresh(connection)
                return True
            if connection.blocked and not flags & SYN:
                self.drop("blocked")
                return False
        if packet.first_fragment:
            return self._fragment_passes(connection)
        if not is_intact(packet):
            self.drop("checksum")
            return False
        if flags & _URG and self.strict:
            self.drop("urgent")
            return False
        header = offset >> 4 << 2
        options = data[l4 + 20 : l4 + header] if flags & SYN else b""
        payload = bytes(data[l4 + header : packet.end])
        known = connection or Connection(self._mark)
        sender, receiver = (known.low, known.high) if ascending else (known.high, known.low)
        if port not in self._streams.sides:
            self._streams.sides.add(port)
        if payload and receiver.next < 0 and self._is_unanswered(sender, flags):
            self.drop("unanswered")
            return False
        verdict = accept(sender, receiver, seq, ack, flags, window, options, len(payload))
        if verdict == REFUSED:
            self.drop("unacceptable")
            return False
        if connection is None:
            if verdict == PASSES:
                return True
            enters = self._enters(known, key, packet, flags, payload, is_judged, now_us)
            if enters is not None:
                return enters
        elif connection.blocked:
            if verdict != BEGINS:
                return self._blocked_passes(verdict, flags)
            connection.blocked = False
        elif verdict == BEGINS:
            self._streams.release(connection)
        known.last_us = now_us
        table = self._streams.connections
        table.refresh(known)
        if flags & (FIN | SYN | RST) or not known.established:
            table.establish(known, known.is_lasting)
        if verdict in (PASSES, RESET):
            return True
        if receiver.stream is not None:
            self._streams.held_bytes -= receiver.stream.acknowledge(receiver.acked)
        if not payload or not is_judged:
            return True
        if flags & SYN:
            seq = seq + 1 & 0xFFFF_FFFF
        return self._takes(known, sender, receiver, seq, payload, packet, port)

    def memory_of(self, packet: PacketView) -> Any:
        """What is kept of the packet's direction; None when nothing is."""
        key, ascending = connection_key(packet)
        connection = self._streams.connections.get(key)
        if connection is None:
            return None
        stream = (connection.low if ascending else connection.high).stream
        return None if stream is None else stream.memory

    def _find(self, key: bytes, flags: int, now_us: int) -> Connection | None:
        """The packet's connection; None when there is none that may be gone on with."""
        connection = self._streams.connections.get(key)
        if connection is None:
            return None
        idle_us = IDLE_US if connection.established else TRANSITORY_US
        over = connection.last_us + idle_us <= now_us
        if connection.seen_by is not self._mark and not over:
            over = not self._is_whole(key, connection)
        if connection.given_up and not over:
            over = self.strict or flags & _OPENING == SYN
        if over:
            self._streams.forget(connection)
            return None
        return connection

    def _is_whole(self, key: bytes, connection: Connection) -> bool:
        """Whether nothing of a connection that another configuration knew has passed unseen."""
        watched = self._streams.watched_since.get(connection.seen_by.now())
        half = len(key) // 2
        ports = (int.from_bytes(key[half - 2 : half]), int.from_bytes(key[-2:]))
        if watched is None or not (watched[ports[0]] or watched[ports[1]]):
            return False
        connection.seen_by = self._mark
        return True

    def _is_unanswered(self, sender: End, flags: int) -> bool:
        """Whether the other side would have accepted the connection first, for all to see."""
        answers_show = self.strict and len(self._streams.sides) > 1
        return answers_show and sender.isn >= 0 and not flags & (SYN | RST)

    def _enters(
        self,
        connection: Connection,
        key: bytes,
        packet: PacketView,
        flags: int,
        payload: bytes,
        is_judged: bool,
        now_us: int,
    ) -> bool | None:
        """Hold a connection that was unknown, and None; or whether its segment passes without."""
        streams = self._streams
        if flags & _OPENING == SYN:
            streams.has_seen_syn = True
        elif not is_judged or not (payload or flags & SYN):
            return True
        elif not self._picks_up(packet, flags, now_us):
            if payload:
                self.drop("unknown")
            return not payload
        gone = streams.connections.add(key, connection, host_of(ends(packet)[0]))
        for other in gone:
            streams.release(other)
        if connection not in gone:
            return None
        if self.strict:
            self.drop("no_room")
            return False
        streams.given_up += 1
        return True

    def _picks_up(self, packet: PacketView, flags: int, now_us: int) -> bool:
        """Whether a connection may be older than this configuration, and not one that was forgotten."""
        if not self.strict or (flags & SYN and not self._streams.has_seen_syn):
            return True
        if now_us >= self._begun_us + PICK_UP_US:
            return False
        if self._streams.connections.evicted != self._evicted_before:
            return False
        before = self._watched_before
        return not (before[packet.source_port] or before[packet.destination_port])

    def _blocked_passes(self, verdict: int, flags: int) -> bool:
        """A SYN, which its receiver may answer; only the answer begins anew."""
        if verdict == PASSES and not flags & ACK:
            return True
        self.drop("blocked")
        return False

    def _fragment_passes(self, connection: Connection | None) -> bool:
        """A first fragment; without it the later ones, which pass, come to nothing."""
        if self.strict:
            self.drop("fragment")
            return False
        if connection is not None:
            self._give_up(connection)
        return True

    def _give_up(self, connection: Connection) -> None:
        self._streams.release(connection)
        self._streams.given_up += 1
        connection.given_up = True

    def _takes(
        self,
        connection: Connection,
        sender: End,
        receiver: End,
        seq: int,
        payload: bytes,
        packet: PacketView,
        port: str,
    ) -> bool:
        """Add a segment to its stream and judge what is in order now; whether it passes."""
        streams, stream = self._streams, sender.stream
        if stream is None:
            stream = sender.stream = Direction()
            is_first = sender.isn >= 0
            first = sender.isn + 1 & 0xFFFF_FFFF if is_first else seq
            if 0 < (sender.acked - first & 0xFFFF_FFFF) < 0x8000_0000:
                is_first, first = False, sender.acked  # what the receiver has is not waited for
            stream.start(first, is_first=is_first)
        expected, cost = stream.expected, stream.cost
        slides = not self.strict or receiver.next < 0
        room = MAX_HELD_BYTES - streams.held_bytes
        try:
            ready = stream.add(seq, payload, room, strict=self.strict, slides=slides)
        except OtherCopy:
            self.drop("other_copy")
            return False
        except NoRoom:
            if not self.strict:
                self._give_up(connection)
                return True
            self.drop("no_room")
            return False
        streams.held_bytes += stream.cost - cost
        reason = self.judge(packet, stream, ready) if ready else ""
        if not reason:
            return True
        streams.release(connection)
        connection.blocked = True
        streams.connections.establish(connection)
        self.drop(reason)
        self.on_block(packet, port, expected)
        return False
