"""Direct counters: those of table entries, apart from the entries."""

from __future__ import annotations

from typing import Any

from finsy.proto import p4r

from orchestrator.softswitch.entities.base import DELETE, INSERT, ById, Entities, Operation
from orchestrator.softswitch.entities.counters import decode_count
from orchestrator.softswitch.entities.table_entries import TableEntries
from orchestrator.softswitch.state.tables import StoredEntry


class DirectCounters(Entities[p4r.DirectCounterEntry, TableEntries, StoredEntry]):
    def __init__(self, tables: ById[TableEntries]) -> None:
        self.tables = tables

    def counted(self, table_id: int) -> TableEntries:
        table = self.tables[table_id]
        if not table.counter_id:
            raise table.invalid("it has no direct counter")
        return table

    def decode(self, kind: int, e: p4r.DirectCounterEntry) -> Operation:
        table = self.counted(e.table_entry.table_id)
        if kind == INSERT:
            raise table.invalid("INSERT is not for direct counters (valid: MODIFY)")
        match: Any = None
        if not e.table_entry.is_default_action:
            match = table.match.decode(e.table_entry)
        return table.set_count, (match, (0, 0) if kind == DELETE else decode_count(e.data))

    def chosen(self, e: p4r.DirectCounterEntry) -> list[TableEntries]:
        if e.table_entry.table_id:
            return [self.counted(e.table_entry.table_id)]
        return [t for t in self.tables.values() if t.counter_id]

    def select(self, of: TableEntries, e: p4r.DirectCounterEntry) -> list[StoredEntry]:
        return of.select(e.table_entry)

    def encode(self, of: TableEntries, item: StoredEntry, e: p4r.DirectCounterEntry) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.direct_counter_entry
        of.encode_identity(item, out.table_entry)
        of.encode_counter(item, out.data)
        return entity
