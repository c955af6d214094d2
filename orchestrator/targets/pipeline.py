"""What a P4 pipeline offers, read from its P4Info: what placement and lowering may use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.model.cuts import Unit
from orchestrator.model.elements import FilterProgram, Program, RewriteProgram, RouteProgram
from orchestrator.model.versions import versions_of

ACL, REWRITE, ROUTE = "acl", "rewrite", "route"
VERSION_TABLE = {4: "ipv4", 6: "ipv6", 0: "other"}


@dataclass(frozen=True, slots=True)
class Slot:
    """One instance of a block, in pipeline order."""

    instance: str
    block: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A compiled pipeline: its block instances in order, and each table's size in entries."""

    name: str
    slots: tuple[Slot, ...]
    table_sizes: dict[str, int]

    def capacity(self, block: str, table: str) -> int:
        """Entries that all instances of a block hold in tables of this name."""
        return sum(
            self.table_sizes[f"{slot.instance}.{table}"]
            for slot in self.slots
            if slot.block == block
        )


EDGE_SLOTS = (
    Slot("acl", ACL),
    Slot("steer", ACL),
    Slot("split", ACL),
    Slot("rewrite", REWRITE),
    Slot("route", ROUTE),
)


def block_of(program: Program) -> str:
    """The block that executes a stateless program."""
    if isinstance(program, FilterProgram):
        return ACL
    return REWRITE if isinstance(program, RewriteProgram) else ROUTE


def footprint(unit: Unit) -> Counter[tuple[str, str]]:
    """Entries that a switch unit needs, by (block, table): an upper bound that lowering keeps."""
    need: Counter[tuple[str, str]] = Counter()
    if unit.element is None:
        return need
    program = unit.element.program
    if isinstance(program, FilterProgram):
        for version in unit.versions:
            need[ACL, VERSION_TABLE[version]] += 1  # the default
        for rule in program.rules:
            for version in versions_of(rule.match) & unit.versions:
                need[ACL, VERSION_TABLE[version]] += 1
    elif isinstance(program, RewriteProgram):
        for version, _, _ in program.pairs:
            if version in unit.versions:
                need[REWRITE, f"{program.field}_ipv{version}"] += 1
    elif isinstance(program, RouteProgram):
        need[ROUTE, "segments_routed"] += 1
        for route in program.routes:
            if route.prefix.version in unit.versions:
                need[ROUTE, VERSION_TABLE[route.prefix.version]] += 1
    return need
