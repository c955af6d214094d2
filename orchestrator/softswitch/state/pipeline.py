"""What a loaded program has at run time: tables, arrays, groups, value sets, digests in flight.

Entities change it, generated code reads and counts in it; it knows neither.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.softswitch.ir.program import Key, Lookup, P4Program, P4Table, lookup_of
from orchestrator.softswitch.state.digests import DigestQueue
from orchestrator.softswitch.state.meters import MeterCells
from orchestrator.softswitch.state.profiles import NO_MEMBER, ProfileStore
from orchestrator.softswitch.state.tables import MatchTable, make_table
from orchestrator.softswitch.state.value_sets import ValueSet

Replica = tuple[int, int]

MAX_MESSAGES = 1000
"""Texts of log_msg that are kept; older ones are forgotten."""


class PipelineState:
    """The state of one program, as it starts: without entries but the constant ones.

    `now` is the switch's clock in microseconds, as programs see it, `clock` one in nanoseconds.
    """

    def __init__(
        self,
        program: P4Program,
        now: Callable[[], int],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        send_digest: Callable[[p4r.DigestList], None] | None = None,
        tables: Callable[[str, Sequence[Key], int, bool], MatchTable] = make_table,
    ) -> None:
        self.program = program
        self.now = now
        self.clock = clock
        self.send_digest = send_digest or _ignore
        self.ports_down: set[int] = set()
        self.digest_queues: dict[int, DigestQueue] = {}
        self.messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self.meters = {
            m.name: MeterCells(m.size, m.packets, now)
            for m in program.meters.values()
            if m.table is None
        }
        self.value_sets = {name: ValueSet() for name in program.value_sets}
        self.tables: dict[str, MatchTable] = {t.name: _table(t, tables) for t in program.tables()}
        self.counters = {c.name: ([0] * c.size, [0] * c.size) for c in program.counters.values()}
        self.registers = {r.name: [0] * r.size for r in program.registers.values()}
        self.groups: dict[int, tuple[Replica, ...]] = {}
        self.clone_sessions: dict[int, tuple[Replica, ...]] = {}
        self.random = random.Random(0)

    def profile_store(self, info: p4i.ActionProfile) -> ProfileStore:
        """The members and groups of an action profile, which has none yet."""
        return ProfileStore(info, self.ports_down)

    def learn(self, list_id: int, sample: tuple[int, ...]) -> None:
        """A packet's digest; without P4Info's word on it there is nobody to send it to."""
        queue = self.digest_queues.get(list_id)
        if queue is not None:
            queue.learn(sample)


def _ignore(message: p4r.DigestList) -> None:
    return


def _table(t: P4Table, made: Callable[[str, Sequence[Key], int, bool], MatchTable]) -> MatchTable:
    table = made(t.name, t.keys, t.size, t.rich)
    if t.profile is not None:
        table.miss.a, table.miss.args = -1, NO_MEMBER
    elif t.default_action >= 0:
        table.miss.a = t.action_index(t.default_action)
        table.miss.args = t.default_args
    highest = max((e.priority for e in t.entries), default=0)
    for const in t.entries:
        entry = table.make(t.action_index(const.action_id), const.args)
        # BMv2: the lowest number wins; P4Runtime and the tables here: the highest.
        table.add(_const_match(table, const.matches, highest - const.priority + 1), entry)
    table.commit()
    return table


def _const_match(table: MatchTable, matches: Sequence[tuple[int, ...]], priority: int) -> Any:
    """The table's own form of a `const entries` match."""
    value = mask = 0
    ranges: list[tuple[int, int]] = []
    length = 0
    values: list[int] = []
    for key, shift, match in zip(table.keys, table.shifts, matches, strict=True):
        ones = (1 << key.width) - 1
        if key.kind == "range":
            ranges.append((match[0], match[1]))
            continue
        if key.kind == "lpm":
            length = match[1]
            m = ones >> (key.width - length) << (key.width - length) if length else 0
        elif key.kind in ("ternary", "optional"):
            m = match[1] & ones
        else:
            m = ones
        values.append(match[0])
        value |= (match[0] & m) << shift
        mask |= m << shift
    lookup = lookup_of(table.keys)
    if lookup is Lookup.TERNARY:
        return value, mask, tuple(ranges), priority
    if lookup is Lookup.LPM:
        return value, length
    return values[0] if len(values) == 1 else tuple(values)
