"""What entities change here, as records for the device (c/boundary.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.softswitch.fast.ccode import words_of
from orchestrator.softswitch.fast.ccode.kinds import words_of_bits
from orchestrator.softswitch.ir.program import P4Program, Param
from orchestrator.softswitch.state.meters import MeterConfig
from orchestrator.softswitch.state.profiles import Member, SelectorGroup
from orchestrator.softswitch.state.tables import Rich, StoredEntry

DEFAULT_OF = 0x8000_0000
ADD, REMOVE, SET, DEFAULT, METER, METER_CELL, COUNTER, REGISTER, GROUP, SESSION, CHOICE = range(
    1, 12
)
NO_CHOICE = (1 << 64) - 1

_ADDED = "=8IQQ"
_ADDED_HEAD = struct.Struct(_ADDED)
_RANGE = struct.Struct("=IIQQ")
Checks = tuple[tuple[int, int, int, int], ...]


class _Numbers:
    """Numbers that are taken and given back."""

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        self._free.append(number)


class Changes:
    """Records, in order, and the numbers by which entries and choices are known there."""

    def __init__(self) -> None:
        self.records = bytearray()
        self.handles = _Numbers()
        self.choices = _Numbers()

    def taken(self) -> bytearray:
        """What has been collected; from now on anew."""
        records, self.records = self.records, bytearray()
        return records

    def record(self, kind: int, layout: str, *numbers: int) -> None:
        self.records += struct.pack(f"=I{layout}", kind, *numbers)

    def words(self, number: int, count: int) -> None:
        self.records += number.to_bytes(8 * count, "little")


class _Arguments:
    """How the arguments of an action are written: words, each parameter from one on."""

    def __init__(self, params: Sequence[Param]) -> None:
        self.count = words_of(params)
        self._words = [words_of_bits(p.width) for p in params]
        self.short = all(n == 1 for n in self._words)
        self._packed = struct.Struct(f"={len(self._words)}Q")

    def pack(self, args: Sequence[int]) -> bytes:
        if self.short:
            return self._packed.pack(*args)
        words = zip(args, self._words, strict=True)
        return b"".join(value.to_bytes(8 * count, "little") for value, count in words)


_CHOICE = ((Param("choice", 64),),)
"""The one action of a table with an action profile: do as what is referred to says."""


class TableRecords:
    """Records of a table, the `number`th, with keys of `width` bits.

    `choice` is, for a table with an action profile, the number of what an entry refers to.
    """

    def __init__(
        self,
        changes: Changes,
        number: int,
        width: int,
        actions: Sequence[Sequence[Param]] = ((),),
        *,
        metered: bool = False,
        choice: Callable[[Any], int] | None = None,
    ) -> None:
        self.changes = changes
        self.number = number
        self._metered = metered
        self._configs: dict[int, MeterConfig] = {}
        """Of entries' meters, by handle, as they were told."""
        self._choice = choice
        self._key_bytes = 8 * words_of_bits(width)
        self._actions = [_Arguments(a) for a in (actions if choice is None else _CHOICE)]
        self._short = [
            (
                a.count,
                struct.Struct(f"{_ADDED}{1 + a.count}Q").pack
                if self._key_bytes == 8 and a.short
                else None,
            )
            for a in self._actions
        ]
        """(words of arguments, the whole record where key and arguments are one word each)."""

    def has_action(self, action: int) -> bool:
        return self._choice is not None or 0 <= action < len(self._actions)

    def _call(self, entry: StoredEntry) -> tuple[int, Any]:
        """(number of its action, arguments) of an entry."""
        choice = self._choice
        return (entry.a, entry.args) if choice is None else (0, (choice(entry.args),))

    def added(self, entry: StoredEntry, key: int, length: int = 0) -> None:
        """An entry of a packed key, or of a prefix of one."""
        changes, number, n, b = self.changes, self.number, entry.n, entry.b
        action, args = (entry.a, entry.args) if self._choice is None else self._call(entry)
        entry.handle = handle = changes.handles.take()
        priority, (count, short) = entry.priority, self._short[action]
        if short is not None:  # written out: most entries come this way
            changes.records += short(
                ADD, number, handle, action, priority, length, 0, count, n, b, key, *args
            )
        else:
            head = ADD, number, handle, action, priority, length, 0, count, n, b
            changes.records += _ADDED_HEAD.pack(*head) + key.to_bytes(self._key_bytes, "little")
            changes.records += self._actions[action].pack(args)
        if self._metered:
            self._meter(entry)

    def added_masked(self, entry: StoredEntry, key: int, mask: int, checks: Checks) -> None:
        """An entry of a masked key; `checks` are (shift, ones, low, high) of ranges."""
        size = self._key_bytes
        action, args = self._call(entry)
        entry.handle = self.changes.handles.take()
        head = ADD, self.number, entry.handle, action, entry.priority, 0, len(checks)
        record = _ADDED_HEAD.pack(*head, self._actions[action].count, entry.n, entry.b)
        record += key.to_bytes(size, "little") + mask.to_bytes(size, "little")
        for shift, ones, low, high in checks:
            record += _RANGE.pack(shift, ones.bit_length(), low, high)
        self.changes.records += record + self._actions[action].pack(args)
        if self._metered:
            self._meter(entry)

    def removed(self, entry: StoredEntry) -> None:
        self._configs.pop(entry.handle, None)
        self.changes.handles.give(entry.handle)
        self.changes.record(REMOVE, "I", entry.handle)

    def changed(self, entry: StoredEntry, *, is_default: bool, counted: bool) -> None:
        """An entry, or the default entry, has another action, count or meter."""
        action, args = self._call(entry)
        handle = self.number if is_default else entry.handle
        head = handle, action, self._actions[action].count, int(counted)
        self.changes.record(DEFAULT if is_default else SET, "4IQQ", *head, entry.n, entry.b)
        self.changes.records += self._actions[action].pack(args)
        if self._metered and not is_default:
            self._meter(entry)

    def _meter(self, entry: StoredEntry) -> None:
        """A configuration that is written, even the same, fills the buckets; nothing else does."""
        assert isinstance(entry, Rich)
        config = None if entry.meter is None else entry.meter.config
        if config is self._configs.get(entry.handle):
            return
        if config is None:
            del self._configs[entry.handle]
        else:
            self._configs[entry.handle] = config
        self.changes.record(METER, "2I4Q", entry.handle, int(config is not None), *rates(config))


class ProfileChanges:
    """Records of an action profile, the `number`th: what entries refer to, as long as one does."""

    def __init__(self, changes: Changes, number: int, program: P4Program, profile: str) -> None:
        tables = [t for t in program.tables() if t.profile == profile]
        params = {a.name: a.params for t in tables for a in t.actions}
        self.changes = changes
        self._number = number
        self._actions = [_Arguments(params[a]) for a in program.profile_actions(profile)]
        self._numbers: dict[Member | SelectorGroup, int] = {}

    def number(self, target: Member | SelectorGroup) -> int:
        """What an entry refers to; NO_CHOICE for what nobody has taken."""
        return self._numbers.get(target, NO_CHOICE)

    def taken(self, target: Member | SelectorGroup) -> None:
        """An entry refers to it."""
        if target not in self._numbers:
            self._numbers[target] = self.changes.choices.take()
            self.changed(target)

    def dropped(self, target: Member | SelectorGroup) -> None:
        """No entry refers to it any more."""
        number = self._numbers.pop(target)
        self.changes.choices.give(number)
        self.changes.record(CHOICE, "5I", number, self._number, 0, 0, 0)

    def changed(self, target: Member | SelectorGroup) -> None:
        """It has other actions."""
        number = self._numbers.get(target)
        if number is None:
            return
        members = target.live if isinstance(target, SelectorGroup) else [target]
        head = number, self._number, int(isinstance(target, SelectorGroup)), 1, len(members)
        self.changes.record(CHOICE, "5I", *head)
        for member in members:
            self.changes.record(member.a, "")
            self.changes.records += self._actions[member.a].pack(member.args)


def rates(config: MeterConfig | None) -> tuple[int, int, int, int]:
    """A meter's configuration as numbers; without one, zeros."""
    return (
        (0, 0, 0, 0) if config is None else (config.cir, config.cburst, config.pir, config.pburst)
    )
