"""The connections of NFs on TCP streams: what is kept of each, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import FLOW
from servernf.python.packet import TCP
from servernf.python.state import EntryKind, TableKind
from servernf.python.tables import RecordFlow
from servernf.python.tcp_acceptance import Side, is_open, is_over, side_fields
from servernf.python.tcp_stream import MAX_SEGMENTS, Direction
from servernf.wire.state import RecordField

NO_PORTS = bytes(65_536)
"""By TCP port: 0 for each."""
_PORT_BYTES = 8192
_AS_DIGITS = bytes((48, 49)) + bytes(range(2, 256))


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


class ConnectionEnd(Side):
    """One end of a connection, and what is kept of the stream that it sends."""

    __slots__ = ("stream",)

    def __init__(self) -> None:
        super().__init__()
        self.stream: Direction | None = None

    # The stream as it is written; what was read waits in `parts` until it is put together.

    @property
    def numbers(self) -> bytes:
        return b"" if self.stream is None else self.stream.numbers()

    @property
    def held(self) -> Sequence[bytes]:
        return () if self.stream is None else self.stream.held

    @property
    def waiting(self) -> Sequence[bytes]:
        return () if self.stream is None else self.stream.waiting

    @property
    def memory(self) -> Sequence[bytes]:
        memory = None if self.stream is None else self.stream.memory
        if isinstance(memory, bytes):
            return (memory,)
        return () if memory is None else memory.written()


STREAM = ("numbers", "held", "waiting", "memory")


class Connection(FairEntry):
    """Both directions; a blocked one lets nothing pass, one that is `given_up` everything."""

    __slots__ = (
        "blocked",
        "given_up",
        "high",
        "last_us",
        "low",
        "low_is_inside",
        "parts",
        "seen_by",
    )

    def __init__(self, seen_by: Mark | None = None, *, low_is_inside: bool = False) -> None:
        self.seen_by = seen_by
        """The mark of the configuration that looked it up last."""
        self.low_is_inside = low_is_inside
        self.parts: dict[str, Any] | None = None
        """Streams as another instance has written them, until they are put together."""
        self.blocked = self.given_up = False
        self.last_us = 0
        self.low = ConnectionEnd()  # the lower (address, port)
        self.high = ConnectionEnd()

    @property
    def is_lasting(self) -> bool:
        """Whether it is neither half-open nor over."""
        if self.blocked:
            return True
        return is_open(self.low, self.high) and not is_over(self.low, self.high)


class Held:
    """The memory that the bytes of all connections take."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def release(self, connection: Connection) -> None:
        """Forget the bytes of a connection."""
        for end in (connection.low, connection.high):
            if end.stream is not None:
                self.bytes -= end.stream.cost
                end.stream = None


class Connections(FairTable[Connection]):
    """All connections."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.held = Held()
        self.watched_since: dict[Mark, bytes] = {}
        """By a configuration's mark: the ports that it and all later ones watched."""

    def entered(self, entry: Connection) -> None:
        self.held.bytes += _cost(entry)

    def left(self, entry: Connection) -> None:
        self.held.bytes -= _cost(entry)


def _cost(connection: Connection) -> int:
    return sum(
        end.stream.cost for end in (connection.low, connection.high) if end.stream is not None
    )


class Seen:
    """What all configurations have seen."""

    __slots__ = ("evicted", "has_syn", "inside", "outside")

    def __init__(self) -> None:
        self.has_syn = self.inside = self.outside = False
        """Whether segments have entered there: one where the other direction goes another way."""
        self.evicted = 0


class Begun:
    """How long this configuration knows connections."""

    __slots__ = ("at_us", "evicted", "has_begun", "watched_before")

    def __init__(self) -> None:
        self.has_begun = False
        self.at_us = 0
        self.evicted = 0
        """`Seen.evicted` when it began."""
        self.watched_before = NO_PORTS
        """By TCP port, 1 where connections were known before this configuration."""

    @property
    def ports_before(self) -> bytes:
        """`watched_before`, a bit a port, or nothing: none."""
        if self.watched_before == NO_PORTS:
            return b""
        return int(self.watched_before.translate(_AS_DIGITS), 2).to_bytes(_PORT_BYTES, "big")

    @ports_before.setter
    def ports_before(self, raw: bytes) -> None:
        digits = f"{int.from_bytes(raw, 'big'):065536b}"
        self.watched_before = bytes(map(int, digits))


def _flow(key: bytes, connection: Connection) -> RecordFlow:
    half = len(key) // 2
    ends = [(e[:-2], e[-2] << 8 | e[-1]) for e in (key[:half], key[half:])]
    inside, outside = ends if connection.low_is_inside else reversed(ends)
    return RecordFlow(*inside, *outside, TCP)


class _Kind(EntryKind[Connection]):
    def put(self, record: Connection, path: str, value: Any) -> None:
        if path.rpartition(".")[2] in STREAM:
            record.parts = record.parts or {}
            record.parts[path] = value
        else:
            super().put(record, path, value)


_PIECES = 4096
"""Of a direction, in order."""
CONNECTIONS = _Kind(
    "connections",
    Connection,
    (
        RecordField("last_us", "age"),
        RecordField("blocked", "bool"),
        RecordField("given_up", "bool"),
        RecordField("low_is_inside", "bool"),
        *side_fields("low"),
        *side_fields("high"),
        *(
            field
            for end in ("low", "high")
            for field in (
                RecordField(f"{end}.numbers", "bytes", 20),
                RecordField(f"{end}.held", "list", _PIECES),
                RecordField(f"{end}.waiting", "list", MAX_SEGMENTS),
                RecordField(f"{end}.memory", "list", 65_536),
            )
        ),
    ),
    key_sizes=(12, 36),
    flow_of=_flow,
    looks_at=FLOW,
)
"""By `connection_key`."""
SEEN = TableKind(
    "seen",
    Seen,
    (
        *(RecordField(name, "bool") for name in ("has_syn", "inside", "outside")),
        RecordField("evicted", "u64"),
    ),
    key=(),
)
BEGUN = TableKind(
    "begun",
    Begun,
    (
        RecordField("has_begun", "bool"),
        RecordField("at_us", "age"),
        RecordField("evicted", "u64"),
        RecordField("ports_before", "bytes", _PORT_BYTES),
    ),
    key=(),
)
