"""The source's side of a transfer: copy state while packets change it, then the rest at once.

State belongs together by the hash of its flow (a *group*): all records of a group are written at a time,
and what has changed of one since is all of it. While a transfer lasts, the NF's packets go through a
twin of it whose tables note which records are touched (`servernf.python.watched`); nothing else does
cost packets anything, and no NF has a line for it. Every method is a job of the data path's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from servernf.python.network_function import NetworkFunction
from servernf.python.runtime.moving import check_divided
from servernf.python.runtime.tables import Instance
from servernf.python.scope import Buckets
from servernf.python.state import CHUNK
from servernf.python.watched import DeclaredTable, Watch, watched

_SCANNED = 4 * CHUNK
"""Records that are looked at between two batches of packets."""
_Key = tuple[str, Any]
"""A table's name and a key."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """All records of some groups of an instance, as they are written."""

    nf: str
    groups: tuple[int, ...]
    batches: tuple[bytes, ...]


class Notes(Watch):
    """What a watched table says while its records move: which were touched."""

    of_choices = False

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[_Key] = set()

    def note(self, declared: DeclaredTable, key: Any, record: Any | None) -> None:
        """A record, or that there is none, is about to be read or written."""
        self.touched.add((declared.name, key))

    def note_absent(self, name: str, key: int | bytes) -> None:
        """An index has nothing at a key."""

    def taken(self) -> set[_Key]:
        """What was touched since this was last asked."""
        touched, self.touched = self.touched, set()
        self.evicted.clear()
        return touched


class _Forgets(list[Any]):
    """Keeps nothing of what is appended."""

    def append(self, _: Any) -> None:
        """Nothing."""


class _All(Notes):
    """Tells several: of an instance some buckets may leave for one worker and some for another."""

    def __init__(self, watchers: Iterable[Watch]) -> None:
        super().__init__()
        self._watchers = tuple(watchers)
        self.evicted = _Forgets()

    def note(self, declared: DeclaredTable, key: Any, record: Any | None) -> None:
        for watcher in self._watchers:
            watcher.note(declared, key, record)


def watch(instance: Instance, notes: Notes) -> None:
    """Tell `notes`, too, what packets touch of an instance's state."""
    _tell(instance, (*instance.watchers, notes))


def unwatch(instance: Instance, notes: Notes) -> None:
    """Tell it no longer."""
    _tell(instance, tuple(watcher for watcher in instance.watchers if watcher is not notes))


def _tell(instance: Instance, watchers: tuple[Watch, ...]) -> None:
    instance.watchers = watchers
    instance.watching = _watching(instance.nf, _All(watchers)) if watchers else None


def _watching(nf: NetworkFunction, notes: Notes) -> NetworkFunction:
    twin: Any = copy(nf)
    twin.drop = nf.drop
    for declared in nf.state.tables.values():
        setattr(twin, declared.attribute, watched(declared, notes))
    twin.bound()
    return twin


@dataclass(slots=True)
class _Leaving:
    """An instance, and what of it has been sent: keys by group."""

    instance: Instance
    notes: Notes = field(default_factory=Notes)
    keys: dict[int, set[_Key]] = field(default_factory=dict[int, "set[_Key]"])
    group: dict[_Key, int] = field(default_factory=dict["_Key", int])
    todo: set[int] = field(default_factory=set[int])

    @property
    def tables(self) -> Mapping[str, Any]:
        return self.instance.nf.state.tables

    def find(self, keys: Iterable[_Key], buckets: Buckets) -> None:
        """Remember records that are to be sent, or sent again, with all of their group."""
        for name, key in keys:
            declared = self.tables[name]
            record, flow_of = declared.table.records.get(key), declared.kind.flow_of
            if flow_of is None:
                continue
            if record is not None:
                group = buckets.group_of(flow_of(key, record))
                if group is not None:
                    self.keys.setdefault(group, set()).add((name, key))
                    self.group[name, key] = group
                    self.todo.add(group)
            if (name, key) in self.group:
                self.todo.add(self.group[name, key])

    def vanished(self) -> None:
        """Groups of which a record is no longer there are sent again."""
        self.todo |= {
            noted
            for (name, key), noted in self.group.items()
            if key not in self.tables[name].table.records
        }

    def chunk(self, now_us: int) -> Chunk:
        """Some groups that are still to be sent."""
        groups: list[int] = []
        size = 0
        while self.todo and (not groups or size < CHUNK):
            groups.append(self.todo.pop())
            size += len(self.keys.get(groups[-1], ()))
        return Chunk(self.instance.name, tuple(groups), tuple(self._written(groups, now_us)))

    def _written(self, groups: Iterable[int], now_us: int) -> list[bytes]:
        return self.instance.nf.state.written(self.by_table(groups), now_us)

    def by_table(self, groups: Iterable[int]) -> dict[str, list[Any]]:
        """Keys of groups by table."""
        by_table: dict[str, list[Any]] = {}
        for group in groups:
            for name, key in self.keys.get(group, ()):
                by_table.setdefault(name, []).append(key)
        return by_table


class Leaving(Protocol):
    """Some buckets of some instances, while they leave. Every method is a job."""

    def begin(self) -> None:
        """Note from now on what packets touch; InputError when a table cannot be divided so."""

    def next(self, now_us: int) -> Chunk | None:
        """What to send next; None: all has been sent that was found so far. A chunk may be empty."""

    def again(self) -> int:
        """Send again what has been touched since it was sent; how many records that are."""
        ...

    def rest(self, now_us: int) -> list[Chunk]:
        """All that is left to send, at once: no packet may touch these records any more."""
        ...

    def touch_all(self) -> None:
        """All that was found is to be sent."""

    def end(self) -> None:
        """Note nothing any more."""

    def forget(self) -> bool:
        """Take some of what has been sent out; whether there is more."""
        ...


class Departing:
    """Some buckets of some instances, while they leave. `settle` has steps compiled anew."""

    def __init__(
        self,
        instances: Iterable[Instance],
        others: Iterable[Instance],
        buckets: Buckets,
        settle: Callable[[], None],
    ) -> None:
        self._leaving = [_Leaving(instance) for instance in instances]
        self._others = list(others)
        self._buckets = buckets
        self._settle = settle
        self._scans = [iter(self._scan(leaving)) for leaving in self._leaving]

    def begin(self) -> None:
        """Note from now on what packets touch; InputError when a table cannot be divided so."""
        for leaving in self._leaving:
            check_divided(leaving.instance, self._buckets)
        for leaving in self._leaving:
            tables = {id(d.table) for d in leaving.tables.values()}
            for other in self._others:
                if any(id(d.table) in tables for d in other.nf.state.tables.values()):
                    watch(other, leaving.notes)
        self._settle()

    def next(self, now_us: int) -> Chunk | None:
        """What to send next; None: all has been sent that was found so far. A chunk may be empty."""
        for leaving, scan in zip(self._leaving, self._scans, strict=True):
            if scanned := list(islice(scan, _SCANNED)):
                leaving.find(scanned, self._buckets)
                return Chunk(leaving.instance.name, (), ())
            if leaving.todo:
                return leaving.chunk(now_us)
        return None

    def again(self) -> int:
        """Send again what has been touched since it was sent; how many records that are."""
        for leaving in self._leaving:
            leaving.find(leaving.notes.taken(), self._buckets)
        return sum(len(lv.keys.get(group, ())) for lv in self._leaving for group in lv.todo)

    def rest(self, now_us: int) -> list[Chunk]:
        """All that is left to send, at once: no packet may touch these records any more."""
        self.again()
        chunks: list[Chunk] = []
        for leaving in self._leaving:
            leaving.vanished()
            while leaving.todo:
                chunks.append(leaving.chunk(now_us))
        return chunks

    def touch_all(self) -> None:
        """All that was found is to be sent."""
        for leaving in self._leaving:
            leaving.todo |= leaving.keys.keys()

    def end(self) -> None:
        """Note nothing any more."""
        for other in self._others:
            for leaving in self._leaving:
                unwatch(other, leaving.notes)
        self._settle()

    def forget(self) -> bool:
        """Take some of what has been sent out; whether there is more."""
        for leaving in self._leaving:
            groups = list(islice(leaving.keys, CHUNK))
            size, some = 0, list[int]()
            for group in groups:
                some.append(group)
                size += len(leaving.keys[group])
                if size >= CHUNK:
                    break
            if some:
                leaving.instance.nf.state.discard(leaving.by_table(some))
                for group in some:
                    del leaving.keys[group]
                return True
        return False

    def _scan(self, leaving: _Leaving) -> Iterator[_Key]:
        """All keys, some at a time; those that come meanwhile are noted."""
        for name, declared in leaving.tables.items():
            if declared.kind.flow_of is not None:
                for key in list(declared.table.records):
                    yield name, key
