"""Indirect meters."""

from __future__ import annotations

from collections.abc import Mapping

from finsy.proto import p4i, p4r

from orchestrator.softswitch.entities.arrays import Array, Arrays
from orchestrator.softswitch.entities.base import MODIFY, ById, Operation, in_program
from orchestrator.softswitch.state.meters import (
    MeterCells,
    MeterConfig,
    decode_meter_config,
    encode_meter_config,
)


class MeterArray(Array):
    word = "meter"

    def __init__(self, info: p4i.Meter, cells: MeterCells) -> None:
        super().__init__(info.preamble, cells.size)
        self.cells = cells

    def configure(self, where: range, config: MeterConfig | None) -> None:
        for i in where:
            self.cells.configure(i, config)


class Meters(Arrays[p4r.MeterEntry, MeterArray]):
    def __init__(
        self, p4info: p4i.P4Info, live: Mapping[str, MeterCells], problems: list[str]
    ) -> None:
        meters = in_program("meter", p4info.meters, live, problems)
        self.by_id = ById("meter", (MeterArray(info, cells) for info, cells in meters))

    def decode(self, kind: int, e: p4r.MeterEntry) -> Operation:
        meter = self.by_id[e.meter_id]
        if kind != MODIFY:
            raise meter.invalid("only MODIFY writes a meter")
        what = f"meter {meter.name}"
        config = decode_meter_config(what, e.config) if e.HasField("config") else None
        return meter.configure, (meter.cells_of(e), config)

    def chosen(self, e: p4r.MeterEntry) -> list[MeterArray]:
        return self.by_id.chosen(e.meter_id)

    def encode(self, of: MeterArray, item: int, e: p4r.MeterEntry) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.meter_entry
        out.meter_id, out.index.index = of.id, item
        config = of.cells.config(item)
        if config is not None:
            encode_meter_config(config, out.config)
        return entity
