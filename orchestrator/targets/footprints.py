"""What each kind of program costs in a switch: entries by block and table."""

from __future__ import annotations

from collections import Counter
from functools import singledispatch
from operator import itemgetter

from orchestrator.model.decision import DecidedProgram
from orchestrator.model.elements import (
    DecapProgram,
    DscpProgram,
    EncapProgram,
    FilterProgram,
    HashProgram,
    MeterProgram,
    MirrorProgram,
    Program,
    RewriteProgram,
    RouteProgram,
    TtlProgram,
    VlanPopProgram,
    VlanPushProgram,
)
from orchestrator.model.versions import kinds
from orchestrator.recall import recalled
from orchestrator.targets.block import BY_SEGMENT, TREE_LEVELS, TREE_ROOTS, VERSION_TABLE


@singledispatch
def entries_needed(program: Program, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    """Entries by (block, table) for packets of some kinds: an upper bound that lowering keeps."""
    raise TypeError(f"{type(program).__name__} runs on no switch")


@entries_needed.register
@recalled
def _filter(program: FilterProgram, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    need = Counter({(program.block, VERSION_TABLE[v]): 1 for v in versions})  # the defaults
    for asked, count in Counter(map(itemgetter(0), kinds(program))).items():
        for version in asked & versions:
            need[program.block, VERSION_TABLE[version]] += count
    return need


@entries_needed.register
def _decided(program: DecidedProgram, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    diagram = program.diagram
    others = versions - {4}
    need = Counter(_filter(program, others) if others else {})
    need[program.block, VERSION_TABLE[4]] = len(diagram.weighed) + 1
    need[program.block, TREE_ROOTS] = 1
    for level, size in zip(TREE_LEVELS, diagram.sizes, strict=True):
        if size:
            need[program.block, level] = size
    return need


@entries_needed.register
def _rewrite(program: RewriteProgram, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    return Counter(
        (program.block, f"{program.field}_ipv{version}")
        for version, _, _ in program.pairs
        if version in versions
    )


@entries_needed.register
@recalled
def _route(program: RouteProgram, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    need = Counter({(program.block, "segments_routed"): 1})
    for version, count in Counter(route.prefix.version for route in program.routes).items():
        if version in versions:
            need[program.block, VERSION_TABLE[version]] += count
    return need


@entries_needed.register
def _hash(program: HashProgram, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    buckets = (program.block, f"buckets_ipv{program.version}")
    return Counter({(program.block, BY_SEGMENT): 1, buckets: len(program.buckets)})


@entries_needed.register(DscpProgram)
@entries_needed.register(TtlProgram)
@entries_needed.register(VlanPushProgram)
@entries_needed.register(VlanPopProgram)
@entries_needed.register(MeterProgram)
@entries_needed.register(MirrorProgram)
@entries_needed.register(EncapProgram)
@entries_needed.register(DecapProgram)
def _one_entry(program: Program, versions: frozenset[int]) -> Counter[tuple[str, str]]:
    return Counter({(program.block, BY_SEGMENT): 1})
