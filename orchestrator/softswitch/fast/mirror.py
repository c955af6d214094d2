"""The state of a pipeline whose packets are elsewhere: what entities change here is told there.

P4Runtime's side reads and writes the same `PipelineState` as with the Python engine, so refusals,
wildcards and texts are one. Here every change is also a record for the device (c/boundary.h), collected
until `Changes.taken`; what packets count there is fetched before it is read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from finsy.proto import p4r

from orchestrator.softswitch.fast.ccode import words_of
from orchestrator.softswitch.fast.ccode.kinds import words_of_bits
from orchestrator.softswitch.fast.device import Ask, Device
from orchestrator.softswitch.ir.program import Key, Lookup, Program, lookup_of
from orchestrator.softswitch.state.meters import MeterCells, MeterConfig
from orchestrator.softswitch.state.pipeline import PipelineState, Replica
from orchestrator.softswitch.state.tables import (
    Entry,
    ExactTable,
    KeylessTable,
    LpmTable,
    MatchTable,
    Rich,
    TernaryEntry,
    TernaryTable,
)

DEFAULT_OF = 0x8000_0000
ADD, REMOVE, SET, DEFAULT, METER, METER_CELL, COUNTER, REGISTER, GROUP, SESSION = range(1, 11)

_ADDED = struct.Struct("=8IQQ")
_RANGE = struct.Struct("=IIQQ")


class Changes:
    """Records for the device, in order, and the handles of entries."""

    def __init__(self, program: Program) -> None:
        self.numbers = {t.name: i for i, t in enumerate(program.tables())}
        self.params = {
            t.name: [tuple(words_of_bits(p.width) for p in a.params) for a in t.actions]
            for t in program.tables()
        }
        self.arg_words = {t.name: [words_of(a.params) for a in t.actions] for t in program.tables()}
        self.short_args = {
            name: [
                struct.Struct(f"={len(a)}Q") if all(n == 1 for n in a) else None for a in actions
            ]
            for name, actions in self.params.items()
        }
        """How arguments of one word each are written."""
        self.handles: dict[Entry, int] = {}
        self._free: list[int] = []
        self._records = bytearray()

    def taken(self) -> bytearray:
        """What has been collected; from now on anew."""
        records, self._records = self._records, bytearray()
        return records

    def record(self, kind: int, layout: str, *numbers: int) -> None:
        self._records += struct.pack(f"=I{layout}", kind, *numbers)

    def words(self, number: int, count: int) -> None:
        self._records += number.to_bytes(8 * count, "little")

    # ------------------------------------------------------------------ entries

    def added(self, table: MatchTable, entry: Entry) -> None:
        handle = self._free.pop() if self._free else len(self.handles)
        self.handles[entry] = handle
        checks = entry.checks if isinstance(entry, TernaryEntry) else ()
        length = entry.spec if isinstance(table, LpmTable) else 0
        args = self.arg_words[table.name][entry.a]
        head = self.numbers[table.name], handle, entry.a, entry.priority, length, len(checks), args
        size = (table.width + 63) // 64 * 8
        key = table.pack(entry.key) if isinstance(table, ExactTable) else entry.key
        record = _ADDED.pack(ADD, *head, entry.n, entry.b) + key.to_bytes(size, "little")
        if isinstance(entry, TernaryEntry):
            record += entry.mask.to_bytes(size, "little")
            for shift, ones, low, high in checks:
                record += _RANGE.pack(shift, ones.bit_length(), low, high)
        self._records += record + self._arguments(table, entry)
        if isinstance(entry, Rich) and entry.meter is not None:
            self._meter(handle, entry)

    def removed(self, table: MatchTable, entry: Entry) -> None:
        handle = self.handles.pop(entry)
        self._free.append(handle)
        self.record(REMOVE, "I", handle)

    def changed(self, table: MatchTable, entry: Entry, *, counted: bool) -> None:
        """An entry, or a table's default entry, has another action, count or meter."""
        number = self.numbers[table.name]
        is_default = entry is table.miss
        handle = number if is_default else self.handles[entry]
        args = self.arg_words[table.name][entry.a]
        head = handle, entry.a, args, int(counted)
        self.record(DEFAULT if is_default else SET, "4IQQ", *head, entry.n, entry.b)
        self._records += self._arguments(table, entry)
        if isinstance(entry, Rich) and not is_default:
            self._meter(handle, entry)

    def _arguments(self, table: MatchTable, entry: Entry) -> bytes:
        short = self.short_args[table.name][entry.a]
        if short is not None:
            return short.pack(*entry.args)
        words = zip(entry.args, self.params[table.name][entry.a], strict=True)
        return b"".join(value.to_bytes(8 * count, "little") for value, count in words)

    def _meter(self, handle: int, entry: Rich) -> None:
        meter = entry.meter
        config = None if meter is None else meter.config
        self.record(METER, "2I4Q", handle, int(config is not None), *_rates(config))


def _rates(config: MeterConfig | None) -> tuple[int, int, int, int]:
    return (
        (0, 0, 0, 0) if config is None else (config.cir, config.cburst, config.pir, config.pburst)
    )


class _Told:
    """A table whose changes are recorded; beside one of the table classes."""

    changes: Changes

    def add(self, match: Any, entry: Entry) -> None:
        super().add(match, entry)  # type: ignore[misc]
        self.changes.added(self, entry)  # type: ignore[arg-type]

    def remove(self, entry: Entry) -> None:
        super().remove(entry)  # type: ignore[misc]
        self.changes.removed(self, entry)  # type: ignore[arg-type]

    def changed(self, entry: Entry, *, counted: bool = False) -> None:
        self.changes.changed(self, entry, counted=counted)  # type: ignore[arg-type]


class _Exact(_Told, ExactTable):
    pass


class _Lpm(_Told, LpmTable):
    pass


class _Ternary(_Told, TernaryTable):
    pass


class _Keyless(_Told, KeylessTable):
    pass


_TABLES: Mapping[Lookup, type[MatchTable]] = {
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
        self._changes.record(METER_CELL, "3I4Q", *head, *_rates(config))


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
        program: Program,
        now: Callable[[], int],
        *,
        clock: Callable[[], int],
        send_digest: Callable[[p4r.DigestList], None],
    ) -> None:
        self.changes = Changes(program)
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
        self.groups = _Copies(GROUP, self.changes)
        self.clone_sessions = _Copies(SESSION, self.changes)
        for table in self.tables.values():
            if table.miss.a < len(self.changes.params[table.name]):
                table.changed(table.miss)

    def _table(self, name: str, keys: Sequence[Key], size: int, rich: bool) -> MatchTable:
        table = _TABLES[lookup_of(keys)](name, keys, size, rich)
        table.changes = self.changes  # type: ignore[attr-defined]
        return table

    def learned(self, number: int, words: Sequence[int]) -> None:
        """A digest of the list of a number in the program, as the device tells it."""
        found = iter(words)
        learn = list(self.program.learn_lists.values())[number]
        sample: list[int] = []
        for item in learn.elements:
            width = self.program.field(*item["value"]).width if item["type"] == "field" else 64
            value = next(found)
            sample.append(value | next(found) << 64 if width > 64 else value)
        self.learn(learn.id, tuple(sample))

    def tell(self, device: Device) -> None:
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
            device.ask(Ask.CHANGES, records)

    def fetch(self, device: Device, tables: Iterator[MatchTable]) -> None:
        """Bring what packets have counted: of these tables' entries, and of all arrays."""
        for table in tables:
            entries = [table.miss, *table]
            handles = [DEFAULT_OF | self.changes.numbers[table.name]]
            handles += [self.changes.handles[e] for e in entries[1:]]
            for entry, (packets, octets, used) in zip(
                entries, device.entries(handles), strict=True
            ):
                entry.n, entry.b = packets, octets
                if isinstance(entry, Rich):
                    entry.ts = max(entry.ts, used)  # written or hit

    def fetch_counters(self, device: Device) -> None:
        for number, (packets, octets) in enumerate(self.cells.values()):
            found = device.counters(number)
            packets.fetched([n for n, _ in found])
            octets.fetched([b for _, b in found])

    def fetch_registers(self, device: Device) -> None:
        for number, (name, cells) in enumerate(self.register_cells.items()):
            words = words_of_bits(self.program.registers[name].width)
            cells.fetched(device.registers(number, words))
