"""What each kind of program costs in a switch: entries by block and table."""

from __future__ import annotations

from collections import Counter
from functools import singledispatch

from orchestrator.model.decision import DecidedProgram
from orchestrator.model.elements import (
    DecapProgram,
    DscpProgram,
    ElementProgram,
    EncapProgram,
    FilterProgram,
    HashProgram,
    MeterProgram,
    MirrorProgram,
    RewriteProgram,
    RouteProgram,
    TtlProgram,
    VlanPopProgram,
    VlanPushProgram,
)
from orchestrator.targets.block import (
    BY_SEGMENT,
    OTHER_FIELD,
    TREE_LEVELS,
    TREE_ROOTS,
    VERSION_TABLE,
)


@singledispatch
def entries_needed(
    program: ElementProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    """Entries by (block, table) for packets of some kinds: an upper bound that lowering keeps.

    Without `ranges` a rule has an entry for each prefix of its ranges (compiler/ranges.py).
    """
    raise TypeError(f"{type(program).__name__} runs on no switch")


@entries_needed.register
def _filter(
    program: FilterProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    need = Counter({(program.block, VERSION_TABLE[v]): 1 for v in versions})  # the defaults
    for fields, count in (program.counts if ranges else program.prefix_counts).items():
        for version in fields & versions:
            need[program.block, VERSION_TABLE[version]] += count
    return need


@entries_needed.register
def _decided(
    program: DecidedProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    diagram = program.diagram
    others = versions - {4}
    need = Counter(_filter(program, others, ranges) if others else {})
    weighed = diagram.weighed
    beside = len(weighed) if ranges else sum(program.matches[i].prefixes for i in weighed)
    need[program.block, VERSION_TABLE[4]] = beside + 1
    need[program.block, TREE_ROOTS] = 1
    for level, size in zip(TREE_LEVELS, diagram.sizes, strict=True):
        if size:
            need[program.block, level] = size
    return need


@entries_needed.register
def _rewrite(
    program: RewriteProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    quoted = OTHER_FIELD[program.field]
    return Counter(
        (program.block, table)
        for version, _, _ in program.pairs
        if version in versions
        for table in (f"{program.field}_ipv{version}", f"quoted_{quoted}_ipv{version}")
    )


@entries_needed.register
def _route(
    program: RouteProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    need = Counter({(program.block, "segments_routed"): 1})
    for version, count in program.routes.counts.items():
        if version in versions:
            need[program.block, VERSION_TABLE[version]] += count
    return need


@entries_needed.register
def _hash(
    program: HashProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    buckets = (program.block, f"buckets_ipv{program.version}")
    return Counter({(program.block, BY_SEGMENT): 1, buckets: len(program.buckets)})


@entries_needed.register
def _meter(
    program: MeterProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    return Counter({(program.block, BY_SEGMENT): 1, (program.block, "colours"): 2})


@entries_needed.register(DscpProgram)
@entries_needed.register(TtlProgram)
@entries_needed.register(VlanPushProgram)
@entries_needed.register(VlanPopProgram)
@entries_needed.register(MirrorProgram)
@entries_needed.register(EncapProgram)
@entries_needed.register(DecapProgram)
def _one_entry(
    program: ElementProgram, versions: frozenset[int], ranges: bool = True
) -> Counter[tuple[str, str]]:
    return Counter({(program.block, BY_SEGMENT): 1})
