"""Updates that are plainly right, read in C (`c/plain.c`); what remains is `EntityStore.decode`'s.

Reading a message field by field is nine tenths of what a table entry costs in Python. An engine in C
has a compiler at hand, so most entries are read by it; they come out as the very operations that
`TableEntries.decode` makes, which checks and refuses all others.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from struct import Struct
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.softswitch.entities.actions import ActionSpec
from orchestrator.softswitch.entities.base import DELETE, INSERT, Operation
from orchestrator.softswitch.entities.matches import FieldSpec
from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entities.table_entries import TableEntries
from orchestrator.softswitch.entity_errors import EntityError
from orchestrator.softswitch.fast.building import build_reader
from orchestrator.softswitch.state.tables import ExactTable, LpmTable

FEW = 8
"""Updates that are not worth a call."""
HEAD, MAX_PARAMS, MAX_FIELDS, MAX_KEY = 8, 16, 32, 8  # as in plain.c
KINDS = ("exact", "ternary", "lpm", "range", "optional")

Row = tuple[Any, ...]
"""The head, as plain.c has it; the match, packed keys and masks as bytes; arguments."""


class PlainUpdates:
    """Of a store. SwitchError where there is no compiler."""

    def __init__(self, store: EntityStore, *, sanitized: bool = False) -> None:
        self._store = store
        tables = [t for t in store.tables.by_id.values() if _is_plain(t)]
        self._rows = [_Rows(table) for table in tables]
        self.tables = array("I", [word for rows in self._rows for word in rows.description()])
        self.table_count = len(tables)
        self.row_bytes = 8 * max((rows.words for rows in self._rows), default=1)
        self._read = reader(sanitized=sanitized)

    def decoded(self, updates: Iterable[p4r.Update]) -> list[Operation | EntityError]:
        """`EntityStore.decoded`."""
        updates = list(updates)
        if len(updates) < FEW:
            return self._store.decoded(updates)
        out: list[Operation | EntityError] = []
        for update, operation in zip(updates, self.operations(updates), strict=True):
            out += self._store.decoded([update]) if operation is None else [operation]
        return out

    def operations(self, updates: Sequence[p4r.Update]) -> Iterator[Operation | None]:
        """What applies each update; None: it is not plain."""
        messages = [update.SerializeToString() for update in updates]
        joined = b"".join(messages)
        ends = array("Q", accumulate(map(len, messages)))
        room = bytearray(self.row_bytes * len(updates))
        self._read(self.tables, self.table_count, joined, ends, room)
        numbers = memoryview(room).cast("Q")
        at = 0
        for _ in updates:
            table = numbers[at]
            if table:
                rows = self._rows[table - 1]
                yield rows.operation(rows.unpack(room, 8 * at), joined)
                at += rows.words
            else:
                yield None
                at += 1


class _Rows:
    """The rows of one table: how C is told of it, and what they say."""

    def __init__(self, table: TableEntries) -> None:
        self.table = table
        fields = table.match.fields
        self.actions = [a for a in table.actions.by_id.values() if _is_plain_action(a)]
        self.params = max((len(a.params) for a in self.actions), default=0)
        self.counts = {a.index: len(a.params) for a in self.actions}
        self.match: Callable[[Row], Any]
        key = 8 * self.key_words
        if isinstance(table.table, ExactTable):
            self.form, match = 0, "Q" * len(fields)
            self.match = _scalar if len(fields) == 1 else _each
        elif isinstance(table.table, LpmTable):
            self.form, match, self.match = 1, f"{key}s", _prefix
        else:
            match = f"{key}s{key}s" + "QQ" * len(table.match.ranges)
            self.form, self.match = 2, _masked
        self.args = HEAD + len(match.replace(str(key), ""))
        layout = Struct(f"={HEAD}Q{match}{self.params}Q")
        self.unpack = layout.unpack_from
        self.words = layout.size // 8

    @property
    def key_words(self) -> int:
        return (self.table.table.width + 63) // 64

    def description(self) -> list[int]:
        """`struct table` of plain.c."""
        table, match = self.table, self.table.match
        rest: list[int] = []
        for field in match.fields:
            rest += (field.id, KINDS.index(field.kind), field.width, self._place(field))
        for action in self.actions:
            rest += (action.id, action.index, len(action.params))
            rest += (word for p in action.params for word in (p.id, p.width))
        head = (
            *(table.id, self.form, self.key_words),
            *(len(match.fields), len(match.ranges), len(self.actions), self.params),
        )
        return [1 + len(head) + len(rest), *head, *rest]

    def _place(self, field: FieldSpec) -> int:
        if self.form == 0:
            return field.position
        return self.table.match.range_slot.get(field.id, field.shift)

    def operation(self, row: Row, messages: bytes) -> Operation:
        """What `TableEntries.decode` makes of the update."""
        _, kind, action, _, _, cookie, start, size = row[:HEAD]
        table, match = self.table, self.match(row[: self.args])
        if kind == DELETE:
            return table.delete, (match,)
        args = row[self.args : self.args + self.counts[action]]
        extra = (messages[start : start + size], cookie, 0) if size or cookie else None
        function = table.insert if kind == INSERT else table.modify
        return function, (match, action, args, extra, None)


def _scalar(row: Row) -> int:
    return row[HEAD]


def _each(row: Row) -> tuple[int, ...]:
    return row[HEAD:]


def _prefix(row: Row) -> tuple[int, int]:
    return int.from_bytes(row[HEAD], "little"), row[4]


def _masked(row: Row) -> tuple[int, int, tuple[tuple[int, int], ...], int]:
    key, mask, *bounds = row[HEAD:]
    ranges = tuple(zip(bounds[::2], bounds[1::2], strict=True))
    return int.from_bytes(key, "little"), int.from_bytes(mask, "little"), ranges, row[3]


def _is_plain(table: TableEntries) -> bool:
    """Its entries have an action of their own, and its keys fit the numbers of C."""
    fields = table.match.fields
    if type(table) is not TableEntries or table.immutable or not 0 < len(fields) <= MAX_FIELDS:
        return False
    exact = isinstance(table.table, ExactTable)
    return (exact or table.table.width <= 64 * MAX_KEY) and all(
        f.width <= (64 if exact or f.kind == "range" else 128) for f in fields
    )


def _is_plain_action(action: ActionSpec) -> bool:
    return (
        action.scope != p4i.ActionRef.DEFAULT_ONLY
        and len(action.params) <= MAX_PARAMS
        and all(p.width <= 64 for p in action.params)
    )


@cache
def reader(*, sanitized: bool) -> Callable[[array[int], int, bytes, array[int], bytearray], None]:
    """`plain_rows` of c/plain.c; SwitchError where there is no compiler."""
    function = ctypes.CDLL(str(build_reader(sanitized=sanitized))).plain_rows
    pointer = ctypes.c_void_p
    function.argtypes = (
        pointer, ctypes.c_uint32, ctypes.c_char_p, pointer, ctypes.c_uint64, pointer,
    )  # fmt: skip
    function.restype = None

    def read(
        tables: array[int], count: int, messages: bytes, ends: array[int], rows: bytearray
    ) -> None:
        room = (ctypes.c_char * len(rows)).from_buffer(rows)
        function(
            tables.buffer_info()[0], count, messages, ends.buffer_info()[0], len(ends),
            ctypes.addressof(room),
        )  # fmt: skip

    return read
