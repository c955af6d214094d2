"""What of an instance's records another worker does not have as they are, while it follows them.

As for a transfer (`departing`), a twin of the NF notes which records packets touch; what comes and goes
otherwise, as by time, its tables say. Records go out by *group* (the hash of their flow), those that
have changed only; where one has gone, all of its group, since others may have counted it. Every method
is a job of the data path's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.departing import Notes, unwatch, watch
from servernf.python.runtime.moving import check_divided
from servernf.python.runtime.tables import Instance
from servernf.python.scope import Buckets
from servernf.python.state import CHUNK, Declared
from servernf.python.tables import Fixed, Index
from servernf.wire.errors import InputError

_SCANNED = 4 * CHUNK
_Key = tuple[str, Any]
"""A table's name and a key."""


class _Noting(Index):
    """Says which records come to a table and go from it."""

    __slots__ = ("_changed", "_name")

    def __init__(self, name: str, changed: ChangedRecords) -> None:
        self.keys = {}
        self._name, self._changed = name, changed

    def enter(self, key: object, record: object) -> None:
        self._changed.notes.touched.add((self._name, key))
        self._changed.opened = True

    def leave(self, key: object, record: object) -> None:
        self._changed.left.add((self._name, key))
        self._changed.opened = True


class Changed(Protocol):
    """What changes of an instance that another worker follows. Every method is a job."""

    opened: bool

    def begin(self) -> None:
        """Note from now on; `watch` has packets noted, too."""

    def watch(self, instances: Iterable[Instance]) -> bool:
        """Have all that go on with the same tables noted; False: the instance is not there any more."""
        ...

    def end(self) -> None:
        """Note nothing any more."""

    @property
    def is_dirty(self) -> bool:
        """Whether there is anything that the other one does not have."""
        ...

    def scan(self) -> bool:
        """Look at some of what was there in the beginning; False: all has been looked at."""
        ...

    def gather(self) -> None:
        """What has changed until now is to go out."""

    def chunk(self, now_us: int) -> vnf.NfDelta | None:
        """Some whole groups of what is to go out; None: nothing is left."""
        ...


class ChangedRecords:
    """The records of an instance that are in some buckets, or all (None)."""

    def __init__(self, instance: Instance, buckets: Buckets | None) -> None:
        self.name = instance.name
        self.notes = Notes()
        self.left: set[_Key] = set()
        self.opened = False
        """Whether a record has come or gone since this was last set."""
        self._instance, self._buckets = instance, buckets
        self._tables = dict(instance.nf.state.tables)
        self._groups: dict[_Key, int] = {}
        self._keys: dict[int, set[_Key]] = {}
        self._todo: dict[int, set[_Key]] = {}
        self._watched: list[Instance] = []
        self._scan = self._all()
        if not self._tables:
            raise InputError(f"nfs: {instance.name} ({instance.type_name}) has no state")
        if buckets is not None:
            check_divided(instance, buckets)

    def begin(self) -> None:
        """Note from now on; `watch` has packets noted, too."""
        for name, declared in self._tables.items():
            declared.table.index = _Noting(name, self)

    def watch(self, instances: Iterable[Instance]) -> bool:
        """Have all that go on with the same tables noted; False: the instance is not there any more."""
        mine = {id(declared.table) for declared in self._tables.values()}
        there = False
        for other in instances:
            if not any(id(d.table) in mine for d in other.nf.state.tables.values()):
                continue
            there = there or other.name == self.name
            if not any(watched is other for watched in self._watched):
                self._watched.append(other)
                watch(other, self.notes)
        return there

    def end(self) -> None:
        """Note nothing any more."""
        for declared in self._tables.values():
            declared.table.index = None
        for other in self._watched:
            unwatch(other, self.notes)

    @property
    def is_dirty(self) -> bool:
        """Whether there is anything that the other one does not have."""
        return bool(self.notes.touched or self.left or self._todo)

    def scan(self) -> bool:
        """Look at some of what was there in the beginning; False: all has been looked at."""
        scanned = list(islice(self._scan, _SCANNED))
        for key in scanned:
            self._find(key)
        return bool(scanned)

    def gather(self) -> None:
        """What has changed until now is to go out."""
        for key in self.notes.taken():
            self._find(key)
        left, self.left = self.left, set()
        for key in left:
            group = self._groups.get(key)
            if group is not None:
                self._todo.setdefault(group, set()).update(self._keys[group])

    def chunk(self, now_us: int) -> vnf.NfDelta | None:
        """Some whole groups of what is to go out; None: nothing is left."""
        if not self._todo:
            return None
        keys: set[_Key] = set()
        while self._todo and len(keys) < CHUNK:
            keys |= self._todo.popitem()[1]
        nf = self._instance.nf
        told = vnf.NfDelta(nf=self.name)
        there: dict[str, list[Any]] = {}
        gone: dict[str, list[bytes]] = {}
        for name, key in keys:
            declared = self._tables[name]
            record = declared.table.records.get(key)
            if record is not None and nf.goes_on(name, key, record):
                there.setdefault(name, []).append(key)
            else:
                gone.setdefault(name, []).append(declared.kind.pack_key(key))
                self._forget((name, key))
        told.batches.extend(nf.state.written(there, now_us))
        for name, packed in gone.items():
            told.gone.add(table=name, keys=packed)
        return told

    def _find(self, key: _Key) -> None:
        """A record that was touched is to go out, if it is in the scope, or was."""
        name, within = key
        declared = self._tables[name]
        record = declared.table.records.get(within)
        if record is not None:
            group = self._group_of(declared, within, record)
            if group is None:
                return
            if self._groups.get(key, group) != group:
                self._forget(key)
            self._groups[key] = group
            self._keys.setdefault(group, set()).add(key)
        if key in self._groups:
            self._todo.setdefault(self._groups[key], set()).add(key)

    def _group_of(self, declared: Declared, key: Any, record: Any) -> int | None:
        return group_of(declared, self._buckets, key, record)

    def _forget(self, key: _Key) -> None:
        group = self._groups.pop(key, None)
        if group is not None:
            self._keys[group].discard(key)
            if not self._keys[group]:
                del self._keys[group]

    def _all(self) -> Iterator[_Key]:
        for name, declared in self._tables.items():
            for key in list(declared.table.records):
                yield name, key


def group_of(declared: Declared, buckets: Buckets | None, key: Any, record: Any) -> int | None:
    """What a record goes out with; None: it is in no scope of these buckets.

    What is useful to whoever has some flow of the NF goes along with any."""
    flow_of = declared.kind.flow_of
    if buckets is None:
        return 0
    if flow_of is None:
        return 0 if declared.shared and isinstance(declared.table, Fixed) else None
    return buckets.group_of(flow_of(key, record))
