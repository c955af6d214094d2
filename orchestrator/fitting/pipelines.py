"""A pipeline of this package's blocks on a chip: for what a switch needs, and where that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from orchestrator.fitting.stages import Fit, PlacedStep, fit
from orchestrator.fitting.steps import Asked, instance_table
from orchestrator.model.builds import Build
from orchestrator.softswitch.ir import program_of
from orchestrator.targets.block import BLOCKS, BY_SEGMENT
from orchestrator.targets.chip import Chip
from orchestrator.targets.pipelines import Pipeline
from orchestrator.targets.specialised import size_for

ORDER = "order"
_WORDS = {
    "logical_tables": "logical tables",
    "gateways": "gateways",
    "sram": "SRAM",
    "tcam": "TCAM",
    "map_ram": "map RAM",
    "exact_bytes": "bytes of the exact crossbar",
    "ternary_bytes": "bytes of the ternary crossbar",
    "hash_bits": "hash bits",
    "ternary_tables": "ternary tables",
    "counters": "units that count",
    "meters": "units that meter",
}


@dataclass(frozen=True, slots=True)
class ChipRefusal:
    """Why a chip does not hold a pipeline: the table, what it lacks, and what would fit.

    `fewer`: a table and so many entries of it; `without`: instances of blocks of which each, taken out,
    makes the others fit; `never`: those that do not fit by themselves. `least`: stages that the blocks
    of every pipeline take.
    """

    table: str
    resource: str
    stages: int
    least: int
    fewer: tuple[str, int] | None
    without: tuple[str, ...]
    never: tuple[str, ...]
    text: str


def fitted(build: Build, chip: Chip, need: Mapping[str, int]) -> Fit:
    """A build's blocks on a chip, as a pipeline made for so many entries by table would have them.

    Blocks without entries are left out; tables that every pipeline has are as the chip has them, or
    larger where more is needed.
    """
    wanted = tuple(sorted((table, count) for table, count in need.items() if count))
    return _fitted(build, _ByIdentity(chip), wanted)


def holdable(build: Build, chip: Chip) -> frozenset[str]:
    """The tables of NF blocks that a chip can hold, each with one entry and no other NF beside."""
    tables = [instance_table(table.name) for table in program_of(build.device_config).tables()]
    held: set[str] = set()
    for slot in build.slots:
        if slot.block in chip.lacks:
            continue
        mine = [table for table in tables if _owner(table) == slot.instance]
        # Without an entry here no packet comes to the block's others.
        first = {table for table in mine if table.partition(".")[2].startswith(BY_SEGMENT)}
        helper = BLOCKS[slot.block].helper
        for table in mine:
            needed = {table, *first}
            if helper is not None and f".{helper.name}." in table:
                needed.add(f"{slot.instance}.{helper.needed_for}")
            if fitted(build, chip, dict.fromkeys(needed, 1)).fits:
                held.add(table)
    return frozenset(held)


def as_planned(pipeline: Pipeline, build: Build) -> Pipeline:
    """What of a pipeline plans may use: on a chip not the tables that it cannot hold."""
    chip = pipeline.target.chip
    if chip is None:
        return pipeline
    held = holdable(build, chip)
    instances = {slot.instance for slot in pipeline.slots}
    sizes = {
        table: size if _owner(table) not in instances or table in held else 0
        for table, size in pipeline.table_sizes.items()
    }
    return replace(pipeline, table_sizes=sizes)


def refusal(build: Build, chip: Chip, need: Mapping[str, int]) -> ChipRefusal | None:
    """What keeps a pipeline from a chip, and what would fit; None: nothing does."""
    placement = fitted(build, chip, need)
    if placement.fits:
        return None
    bare = fitted(build, chip, {})
    used = {_owner(table) for table, count in need.items() if count}
    instances = [slot.instance for slot in build.slots if slot.instance in used]
    without: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    if bare.fits:
        without = tuple(i for i in instances if fitted(build, chip, _rest(need, i)).fits)
        never = tuple(i for i in instances if not fitted(build, chip, _own(need, i)).fits)
    fewer = _fewer(build, placement, need) if bare.fits else None
    table, resource, why = _stopped(placement)
    would = [f"with {fewer[1]:,} entries of {fewer[0]}"] if fewer else []
    would += [f"without {instance}" for instance in without]
    if not bare.fits:
        helps = f"the blocks that every pipeline has need {len(bare.stages)} by themselves"
    elif would:
        helps = "it would fit " + " or ".join(would)
    else:
        helps = (
            f"alone, {', '.join(never)} would not fit" if never else "no one of them is too much"
        )
    text = f"{why} ({helps})"
    stages, least = len(placement.stages), len(bare.stages)
    return ChipRefusal(table, resource, stages, least, fewer, without, never, text)


def _own(need: Mapping[str, int], instance: str) -> dict[str, int]:
    return {table: count for table, count in need.items() if _owner(table) == instance}


def _rest(need: Mapping[str, int], instance: str) -> dict[str, int]:
    return {table: count for table, count in need.items() if _owner(table) != instance}


def _stopped(placement: Fit) -> tuple[str, str, str]:
    """(table, resource, in words) of what the chip has no room for."""
    chip, stopped = placement.chip, placement.refused
    if stopped is None:
        return (
            "",
            "phv_bits",
            f"{chip.title} has {chip.phv_bits:,} bits of packet header vector, {placement.phv_bits:,} "
            "are needed",
        )
    table = _table_of(placement, stopped)
    there = f"{chip.title} has {chip.stages} stages, {len(placement.stages)} are needed"
    if stopped.bound in ("", ORDER) or stopped.first >= chip.stages:
        waits = f"{table or 'its last step'} stands behind what it depends on"
        return table, ORDER, f"{waits}, in stage {stopped.first + 1}: {there}"
    short = f"{table} needs more {_WORDS[stopped.bound]} than stages {stopped.first + 1} to"
    return table, stopped.bound, f"{short} {chip.stages} have left: {there}"


def _fewer(build: Build, placement: Fit, need: Mapping[str, int]) -> tuple[str, int] | None:
    """The NF's table that takes most, with as many entries as would fit; None: fewer do not help."""
    chip = placement.chip
    taken = {instance_table(p.name): p.use.tcam + p.use.sram for p in placement.placed if p.keyed}
    some = [table for table, count in need.items() if count]
    table = max(some, key=lambda t: (taken.get(t, 0), t), default="")
    if not table or not fitted(build, chip, {**need, table: 1}).fits:
        return None
    low, high = 1, need[table]
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        if fitted(build, chip, {**need, table: middle}).fits:
            low = middle
        else:
            high = middle
    return table, low


def _table_of(placement: Fit, stopped: PlacedStep) -> str:
    """The last table with entries that leads to a step; a condition has no name that anyone knows."""
    by_name = {placed.name: placed for placed in placement.placed}
    at: PlacedStep | None = stopped
    seen: set[str] = set()
    while at is not None and not at.keyed and at.name not in seen:
        seen.add(at.name)
        at = by_name.get(at.behind)
    return instance_table(at.name) if at is not None and at.keyed else ""


def _owner(table: str) -> str:
    return table.partition(".")[0]


@dataclass(frozen=True, slots=True, eq=False)
class _ByIdentity:
    """A chip as a key: there are as many as targets."""

    chip: Chip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.chip is other.chip

    def __hash__(self) -> int:
        return id(self.chip)


@lru_cache(maxsize=512)
def _fitted(build: Build, on: _ByIdentity, need: tuple[tuple[str, int], ...]) -> Fit:
    chip, wanted = on.chip, dict(need)
    program = program_of(build.device_config)
    used = {_owner(table) for table in wanted}
    here = {slot.block for slot in build.slots if slot.instance in used}
    instances = {slot.instance: slot for slot in build.slots}
    entries: dict[str, int] = dict(chip.sizes)
    for table in program.tables():
        name = instance_table(table.name)
        if _owner(name) in instances:
            entries[name] = size_for(wanted[name]) if name in wanted else 0
        elif wanted.get(name, 0) > entries.get(name, table.size):
            entries[name] = size_for(wanted[name])
    return fit(program, Asked(entries, chip.elsewhere, chip.known, _absent(here, wanted)), chip)


def _absent(here: set[str], wanted: Mapping[str, int]) -> frozenset[str]:
    """The blocks that nothing needs, and helpers that nothing is handed to."""
    absent = {name for name in BLOCKS if name not in here}
    for block in BLOCKS.values():
        if block.helper is not None and not any(block.helper.name in t for t in wanted):
            absent.add(block.helper.name)
    return frozenset(absent)
