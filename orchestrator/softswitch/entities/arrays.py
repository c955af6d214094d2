"""Kinds of entities that are arrays of cells: a message names one cell, or none for all."""

from __future__ import annotations

from typing import TypeVar

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.base import Entities
from orchestrator.softswitch.entity_errors import Named

CellT = TypeVar("CellT", p4r.CounterEntry, p4r.MeterEntry, p4r.RegisterEntry)
ArrayT = TypeVar("ArrayT", bound="Array")


class Array(Named):
    """An array of the program, `size` cells long."""

    def __init__(self, preamble: p4i.Preamble, size: int) -> None:
        super().__init__(preamble)
        self.size = size

    def cells_of(self, e: p4r.CounterEntry | p4r.MeterEntry | p4r.RegisterEntry) -> range:
        """The cells that a message means: the one at its index, or all."""
        if not e.HasField("index"):
            return range(self.size)
        index = e.index.index
        if not 0 <= index < self.size:
            raise self.error(rpc_code.OUT_OF_RANGE, f"index {index} is not in 0..{self.size - 1}")
        return range(index, index + 1)


class Arrays(Entities[CellT, ArrayT, int]):
    """Cells of arrays, by index."""

    def select(self, of: ArrayT, e: CellT) -> range:
        return of.cells_of(e)
