"""What a P4 pipeline offers, read from its P4Info: what placement and lowering may use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.model.builds import Slot
from orchestrator.model.cuts import Unit
from orchestrator.targets.footprints import entries_needed


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A compiled pipeline: its block instances in order, and each table's size in entries."""

    name: str
    slots: tuple[Slot, ...]
    table_sizes: dict[str, int]

    def capacity(self, block: str, table: str) -> int:
        """Entries that all instances of a block hold in tables of this name."""
        return sum(
            self.table_sizes.get(f"{slot.instance}.{table}", 0)
            for slot in self.slots
            if slot.block == block
        )


def footprint(unit: Unit) -> Counter[tuple[str, str]]:
    """Entries that a switch unit needs, by (block, table): an upper bound that lowering keeps."""
    if unit.element is None:
        return Counter()
    return entries_needed(unit.element.program, unit.versions)
