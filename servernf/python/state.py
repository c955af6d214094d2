"""The state of an NF, which its runtime owns: declared tables, and what follows from the declaration.

An NF says of each table what its records are made of (`TableKind`) and which flow a record belongs to.
The runtime then can share tables between configurations, write records down for another instance and
enter what another one wrote (`servernf.wire.state`), take out what a scope covers, compare, and count,
without a line for that in the NF. What one packet reads and writes: `servernf.python.slices`.

Times are of the instance's clock in a table and ages on the wire. A record refers to others by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar, cast

from servernf.python.fair_table import FairTable
from servernf.python.scope import StateScope
from servernf.python.tables import Fixed, FlowOf, Index, RecordFlow, RecordTable
from servernf.wire.errors import InputError, quoted
from servernf.wire.state import (
    NEVER,
    Batch,
    RecordField,
    RecordLayout,
    StateRecord,
    Value,
    Values,
    encode,
)

R = TypeVar("R")
Snapshot = dict[str, dict[bytes, bytes]]
"""By table and key, as they are written: fields of a record."""
CHUNK = 256
"""Records of a batch: so many are written down between two batches of packets."""
COUNTERS = RecordLayout(
    "counters", 1, (RecordField("name", "bytes", 200),), (RecordField("count", "u64"),)
)
_ENTRY = (RecordField("source", "bytes", 16), RecordField("established", "bool"))
BYTES_KEY = (RecordField("key", "bytes", 64),)


class TableKind(Generic[R]):
    """What the records of a table are made of, in memory and on the wire.

    A field's name is the path of its attribute ("inside.isn"), unless `paths` says another one.
    `flow_of` tells a record's flow and `looks_at` which of its fields; without, it is of no flow.
    `key_sizes`: how many bytes a key that is bytes may have.
    """

    def __init__(
        self,
        table: str,
        make: Callable[[], R],
        fields: Sequence[RecordField],
        *,
        version: int = 1,
        key: Sequence[RecordField] = BYTES_KEY,
        key_values: Callable[[Any], Values] | None = None,
        key_of: Callable[[Values], Any] | None = None,
        key_sizes: Collection[int] = (),
        flow_of: FlowOf | None = None,
        looks_at: Collection[str] = (),
        paths: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = RecordLayout(table, version, tuple(key), tuple(fields))
        self.make = make
        self._key_sizes = tuple(key_sizes)
        self.flow_of = flow_of
        self.looks_at = frozenset(looks_at)
        single = len(self.layout.key) == 1
        self.key_values = key_values or ((lambda k: (k,)) if single else tuple)
        self.key_of = key_of or ((lambda values: values[0]) if single else (lambda values: values))
        self._paths = [(paths or {}).get(f.name, f.name) for f in self.layout.fields]
        self._get = attrgetter(*self._paths) if self._paths else None
        self._ages = [i for i, f in enumerate(self.layout.fields) if f.type == "age"]
        self._many_ages = [i for i, f in enumerate(self.layout.fields) if f.type == "ages"]

    def pack_key(self, key: Any) -> bytes:
        """A key as it is written."""
        return self.layout.pack_key(self.key_values(key))

    def pack(self, record: R, now_us: int) -> bytes:
        """A record's fields as they are written at a time."""
        fields = () if self._get is None else self._get(record)
        values: list[Value] = [fields] if len(self._paths) == 1 else list(fields)
        for index in self._ages:
            at_us = cast("int | None", values[index])
            values[index] = NEVER if at_us is None else now_us - at_us
        for index in self._many_ages:
            values[index] = [now_us - at_us for at_us in cast("Iterable[int]", values[index])]
        return self.layout.pack(values)

    def unpack_key(self, raw: bytes) -> Any:
        """The key that was written."""
        key: Any = self.key_of(self.layout.unpack_key(raw))
        if self._key_sizes and len(key) not in self._key_sizes:
            sizes = " or ".join(map(str, self._key_sizes))
            raise InputError(
                f"state of {self.layout.table}: key: must have {sizes} bytes, not {len(key)}"
            )
        return key

    def unpack(self, raw: bytes, now_us: int, into: R | None = None) -> tuple[R, Values]:
        """A record (or `into`, changed) with the fields that were written, and their values."""
        record = self.make() if into is None else into
        values = list(self.layout.unpack(raw))
        times: list[Any] = list(values)
        for index in self._ages:
            times[index] = None if values[index] == NEVER else now_us - cast("int", values[index])
        for index in self._many_ages:
            times[index] = [now_us - age for age in cast("Iterable[int]", values[index])]
        for path, value in zip(self._paths, times, strict=True):
            self.put(record, path, value)
        return record, tuple(values)

    def put(self, record: R, path: str, value: Value) -> None:
        """Set an attribute of a new record."""
        owner: Any = record
        *outer, name = path.split(".")
        for attribute in outer:
            owner = getattr(owner, attribute)
        setattr(owner, name, value)


class EntryKind(TableKind[R]):
    """Of a `FairTable`: whom a record is counted for and whether it is established are written, too."""

    def __init__(
        self, table: str, make: Callable[[], R], fields: Sequence[RecordField], **more: Any
    ) -> None:
        super().__init__(table, make, (*fields, *_ENTRY), **more)

    def put(self, record: R, path: str, value: Value) -> None:
        if path not in ("source", "established"):  # the table's, who enters it
            super().put(record, path, value)


@dataclass(slots=True)
class Declared:
    """A table of an instance, and the attribute by which its NF has it."""

    attribute: str
    kind: TableKind[Any]
    table: RecordTable[Any, Any]
    about: object
    """What of the configuration the records mean anything under only."""
    follows: bool
    """Whether another configuration goes on with it."""
    shared: bool
    """Whether it is no flow's, but useful to whoever has some: copied along, never taken away."""

    @property
    def name(self) -> str:
        return self.kind.layout.table


class NfState:
    """The tables and counters of one NF instance; one thread calls it, between packets."""

    def __init__(self, nf: Any) -> None:
        self._nf = nf
        self.tables: dict[str, Declared] = {}
        self.counts: dict[str, int] = {}
        """The NF's own counters by name; those that only ever grow."""

    def declare(
        self,
        attribute: str,
        kind: TableKind[Any],
        table: RecordTable[Any, Any],
        *,
        about: object = None,
        follows: bool = True,
        shared: bool = False,
    ) -> None:
        """Own a table, which the NF has as its `attribute`. Records refer to those declared before."""
        declared = Declared(attribute, kind, table, about, follows, shared)
        self.tables[declared.name] = declared
        setattr(self._nf, attribute, table)

    @property
    def layouts(self) -> dict[str, RecordLayout]:
        """By table, counters among them."""
        return {d.name: d.kind.layout for d in self.tables.values()} | {COUNTERS.table: COUNTERS}

    # Another configuration of the same NF on this worker.

    def follow(self, before: NfState) -> bool:
        """Go on with the tables of another configuration; False: one of them says nothing here."""
        for name in self.counts:
            before.counts.setdefault(name, 0)
        self.counts = before.counts
        kept = True
        for name, mine in self.tables.items():
            theirs = before.tables.get(name)
            if theirs is None or not mine.follows:
                continue
            if isinstance(mine.table, Fixed):
                mine.table.follow(cast("Fixed[Any, Any]", theirs.table))
            elif mine.about != theirs.about:
                kept = False
            else:
                mine.table = theirs.table
                setattr(self._nf, mine.attribute, mine.table)
        return kept

    # Buckets.

    def use_buckets(self, bucket_of: Callable[[RecordFlow], int] | None) -> None:
        """Keep an index of records by what `bucket_of` says of their flows; None: keep none."""
        for declared in self.tables.values():
            table, flow_of = declared.table, declared.kind.flow_of
            table.index = None
            if flow_of is None or bucket_of is None:
                continue
            table.index = Index(flow_of, bucket_of)
            for key, record in table.records.items():
                table.index.enter(key, record)

    def keys(self, declared: Declared, scope: StateScope) -> Collection[Any] | None:
        """Keys of a table's records in a scope; None: all."""
        if scope.is_all:
            return None
        flow_of, table = declared.kind.flow_of, declared.table
        if flow_of is None:
            return None if declared.shared else ()
        keys: Collection[Any] = table.records
        if scope.buckets is not None:
            if table.index is None:
                raise InputError("scope.buckets: there are no buckets here")
            by_bucket = table.index.keys
            keys = [key for bucket in scope.buckets for key in by_bucket.get(bucket, ())]
        if scope.is_narrow:
            keys = [k for k in keys if scope.holds(flow_of(k, table.records[k]))]
        return dict.fromkeys(keys)

    def check_scope(self, scope: StateScope) -> None:
        """InputError with all tables that cannot be divided as a scope asks."""
        if not scope.is_all:
            self.check_divided(scope.asks)

    # Writing records down.

    def records(self, scope: StateScope, now_us: int) -> dict[str, list[StateRecord]]:
        """The records of a scope by table, those longest unused first."""
        self.check_scope(scope)
        nf = self._nf
        records: dict[str, list[StateRecord]] = {}
        for name, declared in self.tables.items():
            kind, table = declared.kind, declared.table
            records[name] = [
                StateRecord(kind.pack_key(key), kind.pack(table.records[key], now_us))
                for key in table.in_order(self.keys(declared, scope))
                if nf.goes_on(name, key, table.records[key])
            ]
        if scope.is_all:
            records[COUNTERS.table] = self._counters()
        return records

    def common(self, now_us: int) -> list[bytes]:
        """Batches of what is of no flow, and the counters: they go along with the last of the flows."""
        fields = {
            name: [
                StateRecord(d.kind.pack_key(key), d.kind.pack(d.table.records[key], now_us))
                for key in d.table.in_order(None)
                if self._nf.goes_on(name, key, d.table.records[key])
            ]
            for name, d in self.tables.items()
            if d.kind.flow_of is None
        }
        fields[COUNTERS.table] = self._counters()
        kind, layouts = self._nf.type_name, self.layouts
        return [encode(kind, layouts[name], records) for name, records in fields.items() if records]

    def _counters(self) -> list[StateRecord]:
        return [
            StateRecord(COUNTERS.pack_key((name.encode(),)), COUNTERS.pack((count,)))
            for name, count in sorted(self._all_counts().items())
        ]

    def export(self, scope: StateScope, now_us: int, chunk: int = CHUNK) -> list[bytes]:
        """Batches of the records of a scope, in the order in which to enter them."""
        layouts, kind = self.layouts, self._nf.type_name
        return [
            encode(kind, layouts[name], records[at : at + chunk])
            for name, records in self.records(scope, now_us).items()
            for at in range(0, len(records), chunk)
        ]

    def written(self, keys: Mapping[str, Collection[Any]], now_us: int) -> list[bytes]:
        """Batches of records by table and key, as `export` has them; what is not there is left out."""
        nf, batches = self._nf, list[bytes]()
        for name, declared in self.tables.items():
            kind, table = declared.kind, declared.table
            there = {key: None for key in keys.get(name, ()) if key in table.records}
            records = [
                StateRecord(kind.pack_key(key), kind.pack(table.records[key], now_us))
                for key in (table.in_order(there) if there else ())
                if nf.goes_on(name, key, table.records[key])
            ]
            if records:
                batches.append(encode(nf.type_name, kind.layout, records))
        return batches

    def snapshot(self, scope: StateScope, now_us: int) -> Snapshot:
        """The records of a scope, to compare."""
        by_table = self.records(scope, now_us)
        by_table.pop(COUNTERS.table, None)
        return {name: {r.key: r.body for r in records} for name, records in by_table.items()}

    def size(self) -> tuple[int, int]:
        """How many records there are, and how many bytes they take when they are written down.

        May be called from another thread."""
        count = size = 0
        for declared in self.tables.values():
            records = list(declared.table.records.items())
            count += len(records)
            kind = declared.kind
            if kind.layout.is_fixed:
                size += kind.layout.least * len(records)
            else:
                size += sum(len(kind.pack_key(k)) + len(kind.pack(r, 0)) for k, r in records)
        return count, size

    # Entering what was written down.

    def enter(self, batches: Sequence[Batch], now_us: int, *, is_slice: bool = False) -> int:
        """Enter records of another instance of the same configuration; how many. Nothing is changed
        when InputError is raised, with all problems.

        Of a slice (`servernf.python.slices`) what is derived from other records is not checked.
        """
        nf = self._nf
        ready: list[tuple[Declared, Any, StateRecord, Values]] = []
        problems: list[str] = []
        counts: dict[str, int] = {}
        new: dict[str, dict[Any, Any]] = {name: {} for name in self.tables}
        for batch in batches:
            if batch.nf_type != nf.type_name:
                problems.append(f"state: is of {quoted(batch.nf_type)}, not of {nf.type_name}")
                continue
            if batch.table == COUNTERS.table:
                counts |= _counted(batch)
                continue
            declared = self.tables[batch.table]
            kind, there = declared.kind, declared.table.records
            for number, record in enumerate(batch.records):
                key = kind.unpack_key(record.key)
                is_fixed = isinstance(declared.table, Fixed)
                where = f"state of {nf.type_name}: {batch.table}[{number}]"
                if is_fixed and key not in there:
                    problems.append(f"{where}: no such record here")
                elif key in new[batch.table] or (key in there and not is_fixed):
                    problems.append(f"{where}: is there already")
                else:
                    made, values = kind.unpack(record.body, now_us - record.before_us)
                    new[batch.table][key] = made
                    ready.append((declared, key, record, values))
        if not is_slice:
            problems += self._no_room(new)
        problems = problems or [
            f"state of {nf.type_name}: {problem}"
            for problem in nf.problems(new, whole=not is_slice)
        ]
        if problems:
            raise InputError(problems)
        for declared, key, record, values in ready:
            if isinstance(declared.table, Fixed):
                at_us = now_us - record.before_us
                declared.kind.unpack(record.body, at_us, declared.table.records[key])
            else:
                declared.table.insert(key, new[declared.name][key], values)
        self._add_counts(counts)
        nf.has_entered()
        return len(ready)

    def delete(self, scope: StateScope) -> int:
        """Take out the records of a scope that are of a flow; how many."""
        self.check_scope(scope)
        gone = 0
        for declared in reversed(self.tables.values()):
            if isinstance(declared.table, Fixed) or (declared.shared and not scope.is_all):
                continue
            keys = self.keys(declared, scope)
            for key in list(declared.table.records if keys is None else keys):
                if key in declared.table.records:  # another one may have taken it along
                    declared.table.discard(key)
                    gone += 1
        return gone

    def discard(self, keys: Mapping[str, Collection[Any]]) -> int:
        """Take out records by table and key; how many were there."""
        gone = 0
        for name, declared in reversed(self.tables.items()):
            for key in keys.get(name, ()):
                if key in declared.table.records:  # another one may have taken it along
                    declared.table.discard(key)
                    gone += 1
        return gone

    def check_divided(self, asks: Collection[str]) -> None:
        """InputError with all tables that cannot be divided by fields of flows."""
        problems: list[str] = []
        for declared in self.tables.values():
            missing = set(asks) - declared.kind.looks_at
            if declared.shared:
                continue
            if declared.kind.flow_of is None:
                problems.append(
                    f"scope: {self._nf.type_name}'s '{declared.name}' is of all flows together,"
                    " so only all of it can be asked for"
                )
            elif missing:
                problems.append(
                    f"scope: {self._nf.type_name}'s '{declared.name}' is not kept by"
                    f" {', '.join(sorted(missing))} (by: {', '.join(sorted(declared.kind.looks_at))})"
                )
        if problems:
            raise InputError(problems)

    def _no_room(self, new: Mapping[str, Mapping[Any, Any]]) -> list[str]:
        problems: list[str] = []
        for name, records in new.items():
            table = self.tables[name].table
            if isinstance(table, Fixed) or table.room is None or not records:
                continue
            if len(records) > table.room - len(table):
                problems.append(
                    f"state of {self._nf.type_name}: {name}: {len(records):,} records, and there is"
                    f" room for {max(0, table.room - len(table)):,}"
                )
        return problems

    def _all_counts(self) -> dict[str, int]:
        dropped = {f"drop.{reason}": count for reason, count in self._nf.drops.items()}
        dropped |= {
            f"evicted.{name}": declared.table.evicted
            for name, declared in self.tables.items()
            if isinstance(declared.table, FairTable)
        }
        return dropped | {f"count.{name}": count for name, count in self.counts.items()}

    def _add_counts(self, more: Mapping[str, int]) -> None:
        for name, count in more.items():
            group, _, name = name.partition(".")
            if group == "evicted" and name in self.tables:
                table = self.tables[name].table
                if isinstance(table, FairTable):
                    table.evicted += count
                continue
            into = self._nf.drops if group == "drop" else self.counts
            into[name] = into.get(name, 0) + count


def _counted(batch: Batch) -> dict[str, int]:
    counted: dict[str, int] = {}
    for record in batch.records:
        (name,), (count,) = COUNTERS.unpack_key(record.key), COUNTERS.unpack(record.body)
        assert isinstance(name, bytes)
        assert isinstance(count, int)
        counted[name.decode("utf-8", "replace")] = count
    return counted


def difference(before: Snapshot, after: Snapshot) -> dict[str, dict[bytes, bytes | None]]:
    """What has changed: records that are new or other ones, and None for those that are gone."""
    differing: dict[str, dict[bytes, bytes | None]] = {}
    for table in before.keys() | after.keys():
        old, new = before.get(table, {}), after.get(table, {})
        changed: dict[bytes, bytes | None] = {k: v for k, v in new.items() if old.get(k) != v}
        changed |= dict.fromkeys(old.keys() - new.keys())
        if changed:
            differing[table] = changed
    return differing
