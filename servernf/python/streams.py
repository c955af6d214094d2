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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from servernf.python.connections import (
    BEGUN,
    CONNECTIONS,
    SEEN,
    STREAM,
    Begun,
    Connection,
    ConnectionEnd,
    Connections,
    Mark,
    Seen,
)
from servernf.python.flow_keys import connection_key, ends, host_of
from servernf.python.network_function import INSIDE, NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.tables import Fixed
from servernf.python.tcp_acceptance import (
    ACK,
    BEGINS,
    FIN,
    PASSES,
    REFUSED,
    RESET,
    RST,
    SYN,
    accept,
    is_intact,
    side_problem,
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

_URG = 32
_OPENING = FIN | SYN | RST | ACK
_HEADER = struct.Struct("!IIBBH")


class StreamFunction(NetworkFunction):
    """Base of NFs that judge streams: they give `judge`, and ask `passes` of every TCP segment."""

    watched: bytes
    """By TCP port, 1 where `passes` is asked of the segments from or to it."""
    strict: bool
    """Whether the configuration can drop."""
    blocking_rule = ""
    """For which place in the configuration `judge` has blocked a connection last."""

    _connections: Connections
    _all_seen: Fixed[tuple[()], Seen]
    _all_begun: Fixed[tuple[()], Begun]

    def declare_streams(self) -> None:
        """To be called in `setup`."""
        self._mark = Mark()
        self.state.declare("_connections", CONNECTIONS, Connections(MAX_CONNECTIONS))
        self.state.declare("_all_seen", SEEN, Fixed([((), Seen())]), shared=True)
        self.state.declare("_all_begun", BEGUN, Fixed([((), Begun())]), follows=False, shared=True)
        self.state.counts |= {"given_up": 0}

    def bound(self) -> None:
        seen, begun = self._all_seen.get(()), self._all_begun.get(())
        assert seen is not None
        assert begun is not None
        self._seen, self._begun = seen, begun
        self._held = self._connections.held

    def continue_from(self, before: Any) -> bool:
        streams = before._connections
        now = int.from_bytes(self.watched)
        # That of `before` too: it may be in force again after a later one that was undone.
        marked = {**streams.watched_since, before._mark: before.watched}
        since = {mark: int.from_bytes(watched) & now for mark, watched in marked.items()}
        while len(since) > MAX_CONFIGURATIONS:
            eldest, second, *_ = since
            since[second] &= since.pop(eldest)
            eldest.become(second)
        size = len(self.watched)
        streams.watched_since = {mark: ports.to_bytes(size) for mark, ports in since.items()}
        streams.watched_since[self._mark] = self.watched
        self._begun.watched_before = before.watched
        return super().continue_from(before)

    @property
    def mark(self) -> Mark:
        """This configuration's."""
        return self._mark

    @property
    def watched_since(self) -> Mapping[Mark, bytes]:
        """By the mark of a configuration: the ports that it and all later ones watch."""
        return self._connections.watched_since

    @property
    def seen_and_begun(self) -> tuple[Seen, Begun]:
        """What all configurations have seen, and how long this one knows connections."""
        return self._seen, self._begun

    def read_memory(self, written: Sequence[bytes]) -> Any:
        """What `Direction.memory` was, of how it was written; ValueError when that cannot be."""
        (memory,) = written
        return memory

    def goes_on(self, table: str, key: Any, record: Any) -> bool:
        if not isinstance(record, Connection) or record.seen_by is self._mark:
            return True
        return self._watched_always(key, record)

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for key, connection in new[CONNECTIONS.layout.table].items():
            connection.seen_by = self._mark
            problem = side_problem(connection.low) or side_problem(connection.high)
            parts, connection.parts = connection.parts or {}, None
            try:
                for name, end in (("low", connection.low), ("high", connection.high)):
                    numbers, held, waiting, memory = (parts[f"{name}.{part}"] for part in STREAM)
                    if numbers:
                        read = self.read_memory(memory) if memory else None
                        end.stream = Direction.of(numbers, held, waiting, read)
            except ValueError as error:
                problem = problem or str(error)
            if problem:
                yield f"connections {key.hex()}: {problem}"

    @abstractmethod
    def judge(self, packet: PacketView, stream: Direction, ready: bytes) -> str:
        """Look at bytes that are in order now; why the connection must be blocked, or ""."""

    def on_block(self, packet: PacketView, port: str, expected: int) -> None:
        """Called for the segment that had its connection blocked; `expected` is the sequence number
        that its receiver waits for."""

    def metrics(self) -> dict[str, int]:
        return {
            "connections": len(self._connections),
            "held_bytes": self._held.bytes,
            "evicted": self._seen.evicted,
            "given_up": self.state.counts["given_up"],
        }

    def passes(self, packet: PacketView, port: str, now_us: int, *, is_judged: bool = True) -> bool:
        """Whether a TCP segment passes. Without `is_judged` its direction is not reassembled."""
        begun = self._begun
        if not begun.has_begun:
            begun.has_begun, begun.at_us, begun.evicted = True, now_us, self._seen.evicted
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
                self._connections.refresh(connection)
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
        followed = connection
        if followed is None:
            followed = Connection(self._mark, low_is_inside=(port == INSIDE) == ascending)
        sender, receiver = (
            (followed.low, followed.high) if ascending else (followed.high, followed.low)
        )
        if port == INSIDE:
            self._seen.inside = True
        else:
            self._seen.outside = True
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
            enters = self._enters(followed, key, packet, flags, payload, is_judged, now_us)
            if enters is not None:
                return enters
        elif connection.blocked:
            if verdict != BEGINS:
                return self._blocked_passes(verdict, flags)
            connection.blocked = False
        elif verdict == BEGINS:
            self._held.release(connection)
        followed.last_us = now_us
        table = self._connections
        table.refresh(followed)
        if flags & (FIN | SYN | RST) or not followed.established:
            table.establish(followed, followed.is_lasting)
        if verdict in (PASSES, RESET):
            return True
        if receiver.stream is not None:
            self._held.bytes -= receiver.stream.acknowledge(receiver.acked)
        if not payload or not is_judged:
            return True
        if flags & SYN:
            seq = seq + 1 & 0xFFFF_FFFF
        return self._takes(followed, sender, receiver, seq, payload, packet, port)

    def memory_of(self, packet: PacketView) -> Any:
        """What is kept of the packet's direction; None when nothing is."""
        key, ascending = connection_key(packet)
        connection = self._connections.get(key)
        if connection is None:
            return None
        stream = (connection.low if ascending else connection.high).stream
        return None if stream is None else stream.memory

    def _find(self, key: bytes, flags: int, now_us: int) -> Connection | None:
        """The packet's connection; None when there is none that may be gone on with."""
        connection = self._connections.get(key)
        if connection is None:
            return None
        idle_us = IDLE_US if connection.established else TRANSITORY_US
        over = connection.last_us + idle_us <= now_us
        if connection.seen_by is not self._mark and not over:
            over = not self._is_whole(key, connection)
        if connection.given_up and not over:
            over = self.strict or flags & _OPENING == SYN
        if over:
            self._connections.remove(connection)
            return None
        return connection

    def _is_whole(self, key: bytes, connection: Connection) -> bool:
        """Whether nothing of a connection that another configuration knew has passed unseen."""
        whole = self._watched_always(key, connection)
        if whole:
            connection.seen_by = self._mark
        return whole

    def _watched_always(self, key: bytes, connection: Connection) -> bool:
        mark = connection.seen_by
        watched = None if mark is None else self._connections.watched_since.get(mark.now())
        half = len(key) // 2
        ports = (int.from_bytes(key[half - 2 : half]), int.from_bytes(key[-2:]))
        return watched is not None and bool(watched[ports[0]] or watched[ports[1]])

    def _is_unanswered(self, sender: ConnectionEnd, flags: int) -> bool:
        """Whether the other side would have accepted the connection first, for all to see."""
        if not self.strict or sender.isn < 0 or flags & (SYN | RST):
            return False
        return self._seen.inside and self._seen.outside

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
        if flags & _OPENING == SYN:
            self._seen.has_syn = True
        elif not is_judged or not (payload or flags & SYN):
            return True
        elif not self._picks_up(packet, flags, now_us):
            if payload:
                self.drop("unknown")
            return not payload
        gone = self._connections.add(key, connection, host_of(ends(packet)[0]))
        if gone:
            self._seen.evicted += len(gone)
        if connection not in gone:
            return None
        if self.strict:
            self.drop("no_room")
            return False
        self.count("given_up")
        return True

    def _picks_up(self, packet: PacketView, flags: int, now_us: int) -> bool:
        """Whether a connection may be older than this configuration, and not one that was forgotten."""
        if not self.strict or (flags & SYN and not self._seen.has_syn):
            return True
        begun = self._begun
        if now_us >= begun.at_us + PICK_UP_US or self._seen.evicted != begun.evicted:
            return False
        before = begun.watched_before
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
        self._held.release(connection)
        self.count("given_up")
        connection.given_up = True

    def _takes(
        self,
        connection: Connection,
        sender: ConnectionEnd,
        receiver: ConnectionEnd,
        seq: int,
        payload: bytes,
        packet: PacketView,
        port: str,
    ) -> bool:
        """Add a segment to its stream and judge what is in order now; whether it passes."""
        held, stream = self._held, sender.stream
        if stream is None:
            stream = sender.stream = Direction()
            is_first = sender.isn >= 0
            first = sender.isn + 1 & 0xFFFF_FFFF if is_first else seq
            if 0 < (sender.acked - first & 0xFFFF_FFFF) < 0x8000_0000:
                is_first, first = False, sender.acked  # what the receiver has is not waited for
            stream.start(first, is_first=is_first)
        expected, cost = stream.expected, stream.cost
        slides = not self.strict or receiver.next < 0
        room = MAX_HELD_BYTES - held.bytes
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
        held.bytes += stream.cost - cost
        reason = self.judge(packet, stream, ready) if ready else ""
        if not reason:
            return True
        held.release(connection)
        connection.blocked = True
        self._connections.establish(connection)
        self.drop(reason, self.blocking_rule)
        self.on_block(packet, port, expected)
        return False
