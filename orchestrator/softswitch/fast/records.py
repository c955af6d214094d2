"""What entities change here, as records for the device (c/boundary.h)."""

from __future__ import annotations

import struct

from orchestrator.softswitch.fast.ccode import words_of
from orchestrator.softswitch.fast.ccode.kinds import words_of_bits
from orchestrator.softswitch.ir.program import Table
from orchestrator.softswitch.state.meters import MeterConfig
from orchestrator.softswitch.state.tables import Entry, Rich

DEFAULT_OF = 0x8000_0000
ADD, REMOVE, SET, DEFAULT, METER, METER_CELL, COUNTER, REGISTER, GROUP, SESSION = range(1, 11)

_ADDED = "=8IQQ"
_ADDED_HEAD = struct.Struct(_ADDED)
_RANGE = struct.Struct("=IIQQ")
Checks = tuple[tuple[int, int, int, int], ...]


class Changes:
    """Records, in order. Entries get their handles here."""

    def __init__(self) -> None:
        self.records = bytearray()
        self._handles = 0
        self._free: list[int] = []

    def taken(self) -> bytearray:
        """What has been collected; from now on anew."""
        records, self.records = self.records, bytearray()
        return records

    def record(self, kind: int, layout: str, *numbers: int) -> None:
        self.records += struct.pack(f"=I{layout}", kind, *numbers)

    def words(self, number: int, count: int) -> None:
        self.records += number.to_bytes(8 * count, "little")

    def new_handle(self) -> int:
        if self._free:
            return self._free.pop()
        self._handles += 1
        return self._handles - 1

    def free_handle(self, handle: int) -> None:
        self._free.append(handle)


class TableChanges:
    """Records of one table, the `number`th of the program."""

    def __init__(self, changes: Changes, number: int, table: Table) -> None:
        self.changes = changes
        self.number = number
        self._rich = table.rich
        self._key_bytes = 8 * words_of_bits(sum(k.width for k in table.keys))
        self._params = [tuple(words_of_bits(p.width) for p in a.params) for a in table.actions]
        self._arg_words = [words_of(a.params) for a in table.actions]
        self._short_args = [
            struct.Struct(f"={len(a)}Q") if all(n == 1 for n in a) else None for a in self._params
        ]
        """How arguments of one word each are written."""
        self._short = [
            struct.Struct(f"{_ADDED}{1 + len(a)}Q")
            if self._key_bytes == 8 and all(n == 1 for n in a)
            else None
            for a in self._params
        ]
        """The whole record of an entry whose key is one word, too, and which has no mask."""

    def has_action(self, action: int) -> bool:
        return 0 <= action < len(self._params)

    def added(self, entry: Entry, key: int, length: int = 0) -> None:
        """An entry of a packed key, or of a prefix of one."""
        action = entry.a
        entry.handle = handle = self.changes.new_handle()
        head = ADD, self.number, handle, action, entry.priority, length, 0, self._arg_words[action]
        short = self._short[action]
        if short is not None:
            self.changes.records += short.pack(*head, entry.n, entry.b, key, *entry.args)
        else:
            self.changes.records += _ADDED_HEAD.pack(*head, entry.n, entry.b)
            self.changes.records += key.to_bytes(self._key_bytes, "little") + self._args(entry)
        if self._rich:
            self._metered(entry)

    def added_masked(self, entry: Entry, key: int, mask: int, checks: Checks) -> None:
        """An entry of a masked key; `checks` are (shift, ones, low, high) of ranges."""
        size, action = self._key_bytes, entry.a
        entry.handle = self.changes.new_handle()
        head = ADD, self.number, entry.handle, action, entry.priority, 0, len(checks)
        record = _ADDED_HEAD.pack(*head, self._arg_words[action], entry.n, entry.b)
        record += key.to_bytes(size, "little") + mask.to_bytes(size, "little")
        for shift, ones, low, high in checks:
            record += _RANGE.pack(shift, ones.bit_length(), low, high)
        self.changes.records += record + self._args(entry)
        if self._rich:
            self._metered(entry)

    def removed(self, entry: Entry) -> None:
        self.changes.free_handle(entry.handle)
        self.changes.record(REMOVE, "I", entry.handle)

    def changed(self, entry: Entry, *, is_default: bool, counted: bool) -> None:
        """An entry, or the default entry, has another action, count or meter."""
        handle = self.number if is_default else entry.handle
        head = handle, entry.a, self._arg_words[entry.a], int(counted)
        self.changes.record(DEFAULT if is_default else SET, "4IQQ", *head, entry.n, entry.b)
        self.changes.records += self._args(entry)
        if isinstance(entry, Rich) and not is_default:
            self._meter(entry)

    def _args(self, entry: Entry) -> bytes:
        short = self._short_args[entry.a]
        if short is not None:
            return short.pack(*entry.args)
        words = zip(entry.args, self._params[entry.a], strict=True)
        return b"".join(value.to_bytes(8 * count, "little") for value, count in words)

    def _metered(self, entry: Entry) -> None:
        if isinstance(entry, Rich) and entry.meter is not None:
            self._meter(entry)

    def _meter(self, entry: Rich) -> None:
        config = None if entry.meter is None else entry.meter.config
        self.changes.record(METER, "2I4Q", entry.handle, int(config is not None), *rates(config))


def rates(config: MeterConfig | None) -> tuple[int, int, int, int]:
    """A meter's configuration as numbers; without one, zeros."""
    return (
        (0, 0, 0, 0) if config is None else (config.cir, config.cburst, config.pir, config.pburst)
    )
