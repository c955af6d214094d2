"""Tables of state: records by key, as NFs use them and as the runtime moves them.

A table is whatever structure its NF is fast with. What the runtime asks of one beside `records` is to
enter a record that another instance had, to take one out, and the order in which to write them down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from servernf.wire.state import Values

K = TypeVar("K")
R = TypeVar("R")


class RecordFlow(NamedTuple):
    """What of packets' headers a record is kept for; b"" and -1: it is for any."""

    inside: bytes = b""
    inside_port: int = -1
    outside: bytes = b""
    outside_port: int = -1
    protocol: int = -1


FlowOf = Callable[[Any, Any], RecordFlow]
"""(key, record) -> its flow."""


class Index:
    """Keys by bucket; changed when a record comes or goes, never by a packet that finds one."""

    __slots__ = ("_bucket_of", "_flow_of", "keys")

    def __init__(self, flow_of: FlowOf, bucket_of: Callable[[RecordFlow], int]) -> None:
        self._flow_of = flow_of
        self._bucket_of = bucket_of
        self.keys: dict[int, dict[Any, None]] = {}

    def enter(self, key: object, record: object) -> None:
        """A record that is new."""
        bucket = self._bucket_of(self._flow_of(key, record))
        self.keys.setdefault(bucket, {})[key] = None

    def leave(self, key: object, record: object) -> None:
        """A record that goes."""
        bucket = self._bucket_of(self._flow_of(key, record))
        del self.keys[bucket][key]
        if not self.keys[bucket]:
            del self.keys[bucket]


class RecordTable(Generic[K, R]):
    """Records by key, without a bound of their own: the NF adds and removes."""

    secondary: tuple[str, ...] = ()
    """Attributes that are further indices: dictionaries of the same records by another key."""

    def __init__(self) -> None:
        self.records: dict[K, R] = {}
        self.get = self.records.get
        self.index: Index | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def room(self) -> int | None:
        """How many records there is room for; None: no bound."""
        return None

    def insert(self, key: K, record: R, values: Values) -> None:
        """Enter a record that another instance had; `values` are those it was written with."""
        self.records[key] = record
        if self.index is not None:
            self.index.enter(key, record)

    def discard(self, key: K) -> None:
        """Take a record out."""
        record = self.records.pop(key)
        if self.index is not None:
            self.index.leave(key, record)

    def in_order(self, keys: Collection[K] | None) -> Iterator[K]:
        """All keys, or those of `keys`, so that entering one after the other makes this table."""
        yield from list(self.records) if keys is None else keys

    def touch(self, record: R) -> None:
        """Say before that a record is read or changed which was not found by its key."""

    def watched(self, declared: Any, watch: Any) -> Any:
        """What stands for this table while a packet is watched (`servernf.python.watched`)."""
        raise NotImplementedError(f"{type(self).__name__} cannot be watched")


class Fixed(RecordTable[K, R]):
    """Records that the configuration says: they are always there, and another configuration that says
    some of them shares those."""

    def __init__(self, records: Iterable[tuple[K, R]]) -> None:
        super().__init__()
        self.records.update(records)

    def follow(self, before: Fixed[K, R]) -> None:
        """Share the records that both have."""
        for key in self.records.keys() & before.records.keys():
            self.records[key] = before.records[key]

    def discard(self, key: K) -> None:
        raise NotImplementedError("a record that the configuration says stays")


class Recent(RecordTable[K, R]):
    """At most `size` records, of which the one longest not used goes for another."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.records = self._ordered = OrderedDict[K, R]()
        self.get = self.records.get
        self.size = size

    @property
    def room(self) -> int:
        return self.size

    def use(self, key: K) -> None:
        """It will be the last to go."""
        self._ordered.move_to_end(key)

    def add(self, key: K, record: R) -> list[tuple[K, R]]:
        """Enter a record with a new key; those that had to go for it."""
        gone: list[tuple[K, R]] = []
        while len(self.records) >= self.size:
            oldest = next(iter(self.records))
            gone.append((oldest, self.records[oldest]))
            self.discard(oldest)
        self.insert(key, record, ())
        return gone

    def in_order(self, keys: Collection[K] | None) -> Iterator[K]:
        yield from (k for k in list(self.records) if keys is None or k in keys)
