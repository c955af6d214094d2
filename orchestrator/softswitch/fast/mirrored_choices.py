"""Action profiles and value sets of a program that runs elsewhere: what changes here is recorded."""

from __future__ import annotations

from collections.abc import Sequence

from finsy.proto import p4i, p4r

from orchestrator.softswitch.fast.records import Checks, ProfileChanges, TableRecords
from orchestrator.softswitch.state.profiles import (
    Args,
    Member,
    ProfileStore,
    SelectorGroup,
    WatchPort,
)
from orchestrator.softswitch.state.tables import TernaryEntry, is_prefix, prefix_of_range
from orchestrator.softswitch.state.value_sets import Test, ValueSet


class MirroredProfile(ProfileStore):
    """The device has of it what entries refer to; a group there has its members' actions."""

    def __init__(self, info: p4i.ActionProfile, down: set[int], changes: ProfileChanges) -> None:
        super().__init__(info, down)
        self._changes = changes

    def modify_member(self, ident: int, a: int, args: Args, source: p4r.Action) -> None:
        super().modify_member(ident, a, args, source)
        member = self.members[ident]
        self._changes.changed(member)
        for group in member.groups:
            self._changes.changed(self.groups[group])

    def _set_membership(
        self, group: SelectorGroup, wanted: dict[int, tuple[int, WatchPort]]
    ) -> None:
        super()._set_membership(group, wanted)
        self._changes.changed(group)

    def take(self, target: Member | SelectorGroup) -> None:
        super().take(target)
        self._changes.taken(target)

    def drop(self, target: Member | SelectorGroup) -> None:
        super().drop(target)
        if not target.refs:
            self._changes.dropped(target)

    def port_changed(self) -> None:
        super().port_changed()
        for group in (*self.groups.values(), *self.one_shots):
            self._changes.changed(group)


class MirroredValueSet(ValueSet):
    """On the device a table of masks without actions, of fields of `widths` bits."""

    def __init__(self, changes: TableRecords, widths: Sequence[int]) -> None:
        super().__init__()
        self._changes = changes
        self._widths = widths
        self._entries: list[TernaryEntry] = []

    def replace(self, members: Sequence[tuple[Test, ...]]) -> None:
        super().replace(members)
        for entry in self._entries:
            self._changes.removed(entry)
        self._entries = []
        for tests in members:
            packed = _packed(tests, self._widths)
            if packed is not None:
                entry = TernaryEntry(0, ())
                self._entries.append(entry)
                self._changes.added_masked(entry, *packed)


def _packed(tests: Sequence[Test], widths: Sequence[int]) -> tuple[int, int, Checks] | None:
    """(key, mask, checks) of a member; None: no packet is in it."""
    if len(tests) != len(widths):
        return None
    key = mask = 0
    checks: list[tuple[int, int, int, int]] = []
    shift = sum(widths)
    for (kind, a, b), width in zip(tests, widths, strict=True):
        shift -= width
        ones = (1 << width) - 1
        if a > ones:
            return None
        low, high = (a, min(b, ones)) if kind == "range" else (0, 0)
        bits = prefix_of_range(low, high, width) if kind == "range" else b & ones
        if kind == "range" and not is_prefix(low, high):
            checks.append((shift, ones, low, high))
        key |= (a & bits) << shift
        mask |= bits << shift
    return key, mask, tuple(checks)
