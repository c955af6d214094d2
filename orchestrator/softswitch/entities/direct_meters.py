"""Direct meters: those of table entries, apart from the entries."""

from __future__ import annotations

from finsy.proto import p4r

from orchestrator.softswitch.entities.base import MODIFY, ById, Entities, Operation
from orchestrator.softswitch.entities.special_entries import SpecialEntries, encode_meter
from orchestrator.softswitch.entities.table_entries import TableEntries
from orchestrator.softswitch.state.meters import decode_meter_config
from orchestrator.softswitch.state.tables import Rich


class DirectMeters(Entities[p4r.DirectMeterEntry, TableEntries, Rich]):
    def __init__(self, tables: ById[TableEntries]) -> None:
        self.tables = tables

    def metered(self, table_id: int) -> TableEntries:
        table = self.tables[table_id]
        if not table.meter_id:
            raise table.invalid("it has no direct meter")
        return table

    def decode(self, kind: int, e: p4r.DirectMeterEntry) -> Operation:
        table = self.metered(e.table_entry.table_id)
        if kind != MODIFY:
            raise table.invalid("only MODIFY writes a direct meter")
        if e.table_entry.is_default_action:
            raise table.invalid("the default entry has no meter")
        what = f"table {table.name}: direct meter"
        config = decode_meter_config(what, e.config) if e.HasField("config") else None
        assert isinstance(table, SpecialEntries)
        return table.set_meter, (table.match.decode(e.table_entry), config)

    def chosen(self, e: p4r.DirectMeterEntry) -> list[TableEntries]:
        if e.table_entry.table_id:
            return [self.metered(e.table_entry.table_id)]
        return [t for t in self.tables.values() if t.meter_id]

    def select(self, of: TableEntries, e: p4r.DirectMeterEntry) -> list[Rich]:
        return [
            entry
            for entry in of.select(e.table_entry)
            if isinstance(entry, Rich) and entry is not of.table.miss
        ]

    def encode(self, of: TableEntries, item: Rich, e: p4r.DirectMeterEntry) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.direct_meter_entry
        of.encode_identity(item, out.table_entry)
        encode_meter(item, out.config)
        return entity
