"""What stands for the tables of an instance while a packet is watched: it notes reads and writes.

A record is noted, as it was, before the NF has it; so is that one is not there. Records that are reached
otherwise the NF says (`touch`). Nothing of this is in the way of packets that nobody watches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.tables import Fixed, Recent, RecordTable
from servernf.wire.slices import Place, StateSlice

_KEY_BYTES = 16


class Incomplete(Exception):
    """A packet was played again and wanted a record that its slice says nothing of."""


class DeclaredTable(Protocol):
    """What is noted of a declaration (`state.Declared`)."""

    kind: Any
    table: RecordTable[Any, Any]

    @property
    def name(self) -> str: ...


@dataclass(slots=True)
class Watch:
    """The notes of one packet. With `only`, a slice is played again: it has all that may be read."""

    of_choices: ClassVar[bool] = True
    """Whether records count that were only looked at to choose another one."""

    nf: Any = None
    now_us: int = 0
    only: StateSlice | None = None
    before: dict[Place, bytes | None] = field(default_factory=dict[Place, "bytes | None"])
    known: dict[Place, tuple[DeclaredTable, Any]] = field(
        default_factory=dict[Place, "tuple[DeclaredTable, Any]"]
    )
    evicted: list[tuple[Place, bytes]] = field(default_factory=list[tuple[Place, bytes]])

    def begin(self, nf: Any, now_us: int, only: StateSlice | None) -> None:
        """Another packet."""
        self.nf, self.now_us, self.only = nf, now_us, only
        self.before, self.known, self.evicted = {}, {}, []

    def note(self, declared: DeclaredTable, key: Any, record: Any | None) -> None:
        """A record, or that there is none, is about to be read or written."""
        place = declared.name, declared.kind.pack_key(key)
        if place in self.before:
            return
        self._allow(place)
        self.before[place] = self.written(declared, key, record)
        self.known[place] = declared, key

    def note_absent(self, name: str, key: int | bytes) -> None:
        """An index has nothing at a key."""
        place = name, key if isinstance(key, bytes) else key.to_bytes(_KEY_BYTES, "big")
        if place not in self.before:
            self._allow(place)
            self.before[place] = None

    def written(self, declared: DeclaredTable, key: Any, record: Any | None) -> bytes | None:
        """A record as it is written; None without one that this configuration goes on with."""
        if record is None or not self.nf.goes_on(declared.name, key, record):
            return None
        return declared.kind.pack(record, self.now_us)

    def end(self) -> StateSlice:
        """What has been noted, and what has become of it."""
        after: dict[Place, bytes | None] = dict.fromkeys(self.before)
        for place, (declared, key) in self.known.items():
            after[place] = self.written(declared, key, declared.table.records.get(key))
        return StateSlice(self.before, after, tuple(self.evicted))

    def _allow(self, place: Place) -> None:
        if self.only is not None and place not in self.only.before:
            raise Incomplete(f"the slice says nothing of {place[0]} {place[1].hex()}")


class Watched:
    """A table of an instance; what is not here is the table's own."""

    def __init__(self, declared: DeclaredTable, watch: Watch) -> None:
        self._declared = declared
        self._table: Any = declared.table
        self._watch = watch
        for name in declared.table.secondary:
            setattr(self, name, WatchedIndex(declared, watch, name))

    def __len__(self) -> int:
        return len(self._table)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def get(self, key: Any) -> Any:
        record = self._table.records.get(key)
        self._watch.note(self._declared, key, record)
        return record

    def touch(self, record: Any) -> None:
        self._watch.note(self._declared, record.key, record)

    @property
    def _witness(self) -> tuple[tuple[Place, bytes], ...]:
        return () if self._watch.only is None else self._watch.only.evicted

    def _went(self, key: Any) -> list[Any]:
        """While a slice is played again: the keys of what has to go for one."""
        kind = self._declared.kind
        place = self._declared.name, kind.pack_key(key)
        return [kind.unpack_key(gone) for by, gone in self._witness if by == place]

    def _gone(self, key: Any, victim: Any, record: Any) -> None:
        pack = self._declared.kind.pack_key
        self._watch.note(self._declared, victim, record)
        self._watch.evicted.append(((self._declared.name, pack(key)), pack(victim)))


class WatchedFair(Watched):
    """A `FairTable`."""

    _table: FairTable[FairEntry]

    @property
    def size(self) -> int:
        return self._table.size

    @size.setter
    def size(self, size: int) -> None:
        self._table.size = size

    def add(self, key: bytes, entry: FairEntry, source: bytes) -> list[FairEntry]:
        self._watch.note(self._declared, key, None)
        if self._watch.only is None:
            gone = self._table.add(key, entry, source)
        else:
            self._table.enter(key, entry, source)
            victims = [self._table.records.get(victim) for victim in self._went(key)]
            gone = [victim for victim in victims if victim is not None]
            for victim in gone:
                self._table.remove(victim)
        for victim in gone:
            self._gone(key, victim.key, victim)
        return gone

    def remove(self, entry: FairEntry) -> None:
        self.touch(entry)
        self._table.remove(entry)


class WatchedRecent(Watched):
    """A `Recent`."""

    @property
    def size(self) -> int:
        return self._table.size

    @size.setter
    def size(self, size: int) -> None:
        self._table.size = size

    def add(self, key: Any, record: Any) -> list[tuple[Any, Any]]:
        self._watch.note(self._declared, key, None)
        if self._watch.only is None:
            gone: list[tuple[Any, Any]] = self._table.add(key, record)
        else:
            records = self._table.records
            gone = [(victim, records[victim]) for victim in self._went(key) if victim in records]
            for victim, _ in gone:
                self._table.discard(victim)
            self._table.insert(key, record, ())
        for victim, old in gone:
            self._gone(key, victim, old)
        return gone


class WatchedFixed(Watched):
    """A `Fixed`, whose records NFs keep: each is stood for, too."""

    def get(self, key: Any) -> Any:
        record = self._table.records.get(key)
        return None if record is None else _Stand(record, self._declared, key, self._watch)


class _Stand:
    """A record that the configuration says; it is noted when it is looked at."""

    __slots__ = ("_declared", "_key", "_record", "_watch")

    def __init__(self, record: Any, declared: DeclaredTable, key: Any, watch: Watch) -> None:
        for name, value in (
            ("_record", record),
            ("_declared", declared),
            ("_key", key),
            ("_watch", watch),
        ):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        self._watch.note(self._declared, self._key, self._record)
        return getattr(self._record, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._watch.note(self._declared, self._key, self._record)
        setattr(self._record, name, value)


class WatchedIndex:
    """A further index of a table."""

    def __init__(self, declared: DeclaredTable, watch: Watch, name: str) -> None:
        self._declared, self._watch, self._name = declared, watch, name
        self._index: dict[Any, Any] = getattr(declared.table, name)

    def get(self, key: Any) -> Any:
        record = self._index.get(key)
        if record is None:
            self._watch.note_absent(f"{self._declared.name}/{self._name}", key)
        else:
            self._watch.note(self._declared, record.key, record)
        return record


def watched(declared: DeclaredTable, watch: Watch) -> Watched:
    """What stands for a table."""
    table = declared.table
    if isinstance(table, FairTable):
        return WatchedFair(declared, watch)
    if isinstance(table, Recent):
        return WatchedRecent(declared, watch)
    if isinstance(table, Fixed):
        return WatchedFixed(declared, watch)
    return table.watched(declared, watch)
