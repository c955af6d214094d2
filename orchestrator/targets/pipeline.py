"""What a P4 pipeline offers, read from its P4Info: what placement and lowering may use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.model.cuts import Unit
from orchestrator.targets.footprints import entries_needed


@dataclass(frozen=True, slots=True)
class Slot:
    """One instance of a block, in pipeline order; with `nf` only for that NF."""

    instance: str
    block: str
    nf: str = ""


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


EDGE_SLOTS = (
    Slot("acl", "acl"),
    Slot("steer", "acl"),
    Slot("mirror", "mirror"),
    Slot("policer", "policer"),
    Slot("mark", "mark"),
    Slot("hash_lb", "hash_lb"),
    Slot("untag", "vlan"),
    Slot("split", "acl"),
    Slot("rewrite", "rewrite"),
    Slot("route", "route"),
    Slot("tag", "vlan"),
    Slot("tunnel", "tunnel"),
)
"""The blocks between steer and split look at the packet as the filters before them left it; a copy is
made of what arrived, so nothing may change it before `mirror`."""

GATED_BLOCKS = frozenset({"mirror", "policer", "mark", "hash_lb", "vlan", "tunnel"})
"""Blocks that only packets of a segment with GATED_SEGMENT come to: the others pay nothing for them."""
GATED_SEGMENT = 1 << 13
"""The bit of a segment's number (shared/metadata.p4)."""


def footprint(unit: Unit) -> Counter[tuple[str, str]]:
    """Entries that a switch unit needs, by (block, table): an upper bound that lowering keeps."""
    if unit.element is None:
        return Counter()
    return entries_needed(unit.element.program, unit.versions)
