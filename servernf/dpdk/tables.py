"""Tables of state on the C side (c/table.h), each for one that an NF has declared in Python.

Configurations that follow each other share Python's tables, and so the C side's. Python's stay empty.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from servernf.dpdk.memory import RecordPlace, SharedMemory
from servernf.dpdk.process import ProcessRequest
from servernf.python.fair_table import FairTable
from servernf.python.state import Declared
from servernf.wire.errors import ServerError

MOST_TABLES = 16_384
SEED_BYTES = 11 * 8
"""Of randomness: nobody who sends packets can choose keys that collide."""
_COUNTS = ("count", "evicted", "waiting")


class TableCounts:
    """What the C side counts of a table, as it was when that was last asked."""

    def __init__(self) -> None:
        self.count = self.evicted = self.waiting = 0


@dataclass(slots=True)
class StateTable:
    """A table, and how many instances use it."""

    declared: Declared
    number: int
    message: bytes
    place: RecordPlace
    counts: TableCounts
    users: int = 0
    notes: dict[Any, int] = field(default_factory=dict[Any, int])
    """What a form keeps beside the table."""

    @property
    def name(self) -> str:
        """As it is declared."""
        return self.declared.name


class StateTables:
    """Those of a core. `ask` asks its process."""

    def __init__(
        self, memory: SharedMemory, ask: Callable[[ProcessRequest, bytes, int], bytes]
    ) -> None:
        self._memory, self._ask = memory, ask
        self._known: dict[int, StateTable] = {}
        """By the identity of Python's table."""
        self._free = list(range(MOST_TABLES - 1, -1, -1))

    def take(self, declared: Declared, kind: str, bound: int, more: bytes) -> StateTable:
        """The C side's of a declared table, made if there is none yet. `give` it back once."""
        table = self._known.get(id(declared.table))
        if table is None:
            if not self._free:
                raise ServerError(f"a core has {MOST_TABLES} tables of state at most")
            counts = TableCounts()
            place = self._memory.place(counts, _COUNTS)
            name = kind.encode()
            head = struct.pack("=3I", bound, place.at, len(name)) + name
            message = head + os.urandom(SEED_BYTES) + more
            number = self._free[-1]
            try:
                self._ask(ProcessRequest.STATE, message, number)
            except BaseException:
                self._memory.release(place)
                raise
            self._free.pop()
            table = StateTable(declared, number, message, place, counts)
            self._known[id(declared.table)] = table
        table.users += 1
        return table

    def give(self, tables: Iterable[StateTable]) -> None:
        """One user less of each; the C side forgets those that have none."""
        for table in tables:
            table.users -= 1
            if not table.users:
                self._ask(ProcessRequest.END_STATE, b"", table.number)
                self._memory.release(table.place)
                self._free.append(table.number)
                del self._known[id(table.declared.table)]

    def refresh(self) -> None:
        """Have counts say what the C side has counted."""
        for table in list(self._known.values()):
            self._memory.refresh(table.place)
            if isinstance(table.declared.table, FairTable):
                table.declared.table.evicted = table.counts.evicted

    def made_again(self) -> Iterable[tuple[bytes, int]]:
        """Messages and numbers of all, for another process: they are empty there."""
        return [(table.message, table.number) for table in self._known.values()]
