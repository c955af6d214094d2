"""The state of a pipeline whose packets are elsewhere: what entities change here is told there.

P4Runtime's side reads and writes the same `PipelineState` as with the Python engine, so refusals,
wildcards and texts are one. Here every change is also a record for the device (c/boundary.h), collected
until `Changes.taken`; what packets count there is fetched before it is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.softswitch.fast.ccode.kinds import words_of_bits
from orchestrator.softswitch.fast.ccode.parsing import value_set_widths
from orchestrator.softswitch.fast.device import EngineRequest, LoadedProgram
from orchestrator.softswitch.fast.mirrored_choices import MirroredProfile, MirroredValueSet
from orchestrator.softswitch.fast.records import (
    COUNTER,
    DEFAULT_OF,
    GROUP,
    METER_CELL,
    REGISTER,
    SESSION,
    Changes,
    ProfileChanges,
    TableRecords,
    rates,
)
from orchestrator.softswitch.ir.program import Key, Lookup, P4Program, P4Table, lookup_of
from orchestrator.softswitch.state.meters import MeterCells, MeterConfig
from orchestrator.softswitch.state.pipeline import PipelineState, Replica
from orchestrator.softswitch.state.profiles import ProfileStore
from orchestrator.softswitch.state.tables import (
    ExactTable,
    KeylessTable,
    LpmTable,
    MatchTable,
    Ranges,
    Rich,
    StoredEntry,
    TernaryEntry,
    TernaryTable,
)
from orchestrator.softswitch.state.value_sets import ValueSet


class _Told(MatchTable):
    """A table as P4Runtime sees it: entries by match, changes recorded, and nothing to look up in.

    Beside one of the table classes, whose form of matches and entries it has.
    """

    changes: TableRecords
    entries: dict[Any, StoredEntry]

    def find(self, match: Any) -> StoredEntry | None:
        return self.entries.get(match)

    def remove(self, entry: StoredEntry) -> None:
        del self.entries[self.match_of(entry)]
        self.count -= 1
        self.changes.removed(entry)

    def match_of(self, entry: StoredEntry) -> Any:
        """What `entries` has it by."""
        return entry.key

    def changed(self, entry: StoredEntry, *, counted: bool = False) -> None:
        self.changes.changed(entry, is_default=entry is self.miss, counted=counted)

    def __iter__(self) -> Iterator[StoredEntry]:
        return iter(self.entries.values())

    def commit(self) -> None:
        pass


class _Keyless(_Told, KeylessTable):
    pass


class _Exact(_Told, ExactTable):
    def add(self, match: Any, entry: StoredEntry) -> None:
        entry.key = match
        self.entries[match] = entry
        self.count += 1
        self.changes.added(entry, self.pack(match))


class _Lpm(_Told, LpmTable):
    """By length and value as one number: a table of 100,000 has so many tuples less."""

    def find(self, match: tuple[int, int]) -> StoredEntry | None:
        return self.entries.get(match[1] << self.width | match[0])

    def add(self, match: tuple[int, int], entry: StoredEntry) -> None:
        entry.key, entry.spec = value, length = match
        self.entries[length << self.width | value] = entry
        self.count += 1
        self.changes.added(entry, value, length)

    def match_of(self, entry: StoredEntry) -> Any:
        return entry.spec << self.width | entry.key


class _Ternary(_Told, TernaryTable):
    def find(self, match: tuple[int, int, Ranges, int]) -> StoredEntry | None:
        value, mask, ranges, priority = match
        if ranges:
            mask, value = self.full_mask(mask, value, ranges)
        return self.entries.get((value, mask, ranges, priority))

    def add(self, match: tuple[int, int, Ranges, int], entry: StoredEntry) -> None:
        assert isinstance(entry, TernaryEntry)
        value, mask, ranges, priority = match
        if ranges:
            mask, value = self.full_mask(mask, value, ranges)
            entry.checks = self.checks_of(ranges)
        entry.key, entry.mask, entry.spec, entry.priority = value, mask, ranges, priority
        self.entries[value, mask, ranges, priority] = entry
        self.count += 1
        self.changes.added_masked(entry, value, mask, entry.checks)

    def match_of(self, entry: StoredEntry) -> Any:
        assert isinstance(entry, TernaryEntry)
        return entry.key, entry.mask, entry.spec, entry.priority


_TABLES: Mapping[Lookup, type[_Told]] = {
    Lookup.KEYLESS: _Keyless,
    Lookup.EXACT: _Exact,
    Lookup.LPM: _Lpm,
    Lookup.TERNARY: _Ternary,
}


class _Cells(list[int]):
    """An array of counts or registers; writes are recorded by index."""

    def __init__(self, size: int) -> None:
        super().__init__([0] * size)
        self.written: set[int] = set()

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self.written.add(index)

    def fetched(self, values: Sequence[int]) -> None:
        """What packets have made of it, which is no change to tell."""
        super().__setitem__(slice(None), values)
        self.written = set()


class _Meters(MeterCells):
    """An array of meters whose configurations are recorded."""

    def __init__(self, number: int, size: int, packets: bool, changes: Changes) -> None:
        super().__init__(size, packets, lambda: 0)
        self._number, self._changes = number, changes

    def configure(self, index: int, config: MeterConfig | None) -> None:
        super().configure(index, config)
        head = self._number, index, int(config is not None)
        self._changes.record(METER_CELL, "3I4Q", *head, *rates(config))


class _Copies(dict[int, tuple[Replica, ...]]):
    """Multicast groups or clone sessions."""

    def __init__(self, kind: int, changes: Changes) -> None:
        super().__init__()
        self._kind, self._changes = kind, changes

    def __setitem__(self, ident: int, copies: tuple[Replica, ...]) -> None:
        super().__setitem__(ident, copies)
        flat = [number for copy in copies for number in copy]
        self._changes.record(self._kind, f"{3 + len(flat)}I", ident, len(copies), 1, *flat)

    def __delitem__(self, ident: int) -> None:
        super().__delitem__(ident)
        self._changes.record(self._kind, "3I", ident, 0, 0)


class MirroredState(PipelineState):
    """`PipelineState` of a program that runs in a `Device`."""

    def __init__(
        self,
        program: P4Program,
        now: Callable[[], int],
        *,
        clock: Callable[[], int],
        send_digest: Callable[[p4r.DigestList], None],
    ) -> None:
        self.changes = Changes()
        self.profile_changes = {
            name: ProfileChanges(self.changes, i, program, name)
            for i, name in enumerate(program.profiles)
        }
        self.table_changes = {
            t.name: self._changes_of(i, t) for i, t in enumerate(program.tables())
        }
        super().__init__(program, now, clock=clock, send_digest=send_digest, tables=self._table)
        self.cells = {
            name: (_Cells(c.size), _Cells(c.size)) for name, c in program.counters.items()
        }
        # pyrefly: ignore[bad-override]
        self.counters: Mapping[str, tuple[list[int], list[int]]] = self.cells
        self.register_cells = {name: _Cells(r.size) for name, r in program.registers.items()}
        # pyrefly: ignore[bad-override]
        self.registers: Mapping[str, list[int]] = self.register_cells
        arrays = [m for m in program.meters.values() if m.table is None]
        # pyrefly: ignore[bad-override]
        self.meters: Mapping[str, MeterCells] = {
            m.name: _Meters(i, m.size, m.packets, self.changes) for i, m in enumerate(arrays)
        }
        first, widths = len(self.tables), value_set_widths(program)
        # pyrefly: ignore[bad-override]
        self.value_sets: Mapping[str, ValueSet] = {
            name: MirroredValueSet(
                TableRecords(self.changes, first + i, sum(widths[name]) or 1), widths[name]
            )
            for i, name in enumerate(program.value_sets)
        }
        self.groups = _Copies(GROUP, self.changes)
        self.clone_sessions = _Copies(SESSION, self.changes)
        for table in self.tables.values():
            if self.table_changes[table.name].has_action(table.miss.a):
                table.changed(table.miss)

    def _changes_of(self, number: int, table: P4Table) -> TableRecords:
        return TableRecords(
            self.changes,
            number,
            sum(k.width for k in table.keys),
            [a.params for a in table.actions],
            metered=table.meter is not None,
            choice=self.profile_changes[table.profile].number if table.profile else None,
        )

    def profile_store(self, info: p4i.ActionProfile) -> ProfileStore:
        changes = self.profile_changes.get(info.preamble.name)
        if changes is None:  # no table uses it
            return super().profile_store(info)
        return MirroredProfile(info, self.ports_down, changes)

    def _table(self, name: str, keys: Sequence[Key], size: int, rich: bool) -> MatchTable:
        table = _TABLES[lookup_of(keys)](name, keys, size, rich)
        table.changes, table.entries = self.table_changes[name], {}
        return table

    def learned(self, number: int, words: Sequence[int]) -> None:
        """A digest of the list of a number in the program, as the device tells it."""
        rest = iter(words)
        learn = list(self.program.learn_lists.values())[number]
        sample: list[int] = []
        for item in learn.elements:
            width = self.program.field(*item["value"]).width if item["type"] == "field" else 64
            value = next(rest)
            sample.append(value | next(rest) << 64 if width > 64 else value)
        self.learn(learn.id, tuple(sample))

    def tell(self, device: LoadedProgram) -> None:
        """Make the device as this is; no packet sees half of it."""
        changes = self.changes
        for number, (packets, octets) in enumerate(self.cells.values()):
            for i in sorted(packets.written | octets.written):
                changes.record(COUNTER, "2IQQ", number, i, packets[i], octets[i])
            packets.written, octets.written = set(), set()
        for number, (name, cells) in enumerate(self.register_cells.items()):
            words = words_of_bits(self.program.registers[name].width)
            for i in sorted(cells.written):
                changes.record(REGISTER, "2I", number, i)
                changes.words(cells[i], words)
            cells.written = set()
        if records := changes.taken():
            device.ask(EngineRequest.CHANGES, records)

    def fetch(self, device: LoadedProgram, tables: Iterator[MatchTable]) -> None:
        """Bring what packets have counted: of these tables' entries, and of all arrays."""
        for table in tables:
            entries = [table.miss, *table]
            handles = [DEFAULT_OF | self.table_changes[table.name].number]
            handles += [e.handle for e in entries[1:]]
            for entry, (packets, octets, used) in zip(
                entries, device.entries(handles), strict=True
            ):
                entry.n, entry.b = packets, octets
                if isinstance(entry, Rich):
                    entry.ts = max(entry.ts, used)  # written or hit

    def fetch_counters(self, device: LoadedProgram) -> None:
        for number, (packets, octets) in enumerate(self.cells.values()):
            counts = device.counters(number)
            packets.fetched([n for n, _ in counts])
            octets.fetched([b for _, b in counts])

    def fetch_registers(self, device: LoadedProgram) -> None:
        for number, (name, cells) in enumerate(self.register_cells.items()):
            words = words_of_bits(self.program.registers[name].width)
            cells.fetched(device.registers(number, words))
