"""Lower a placement: entries for every switch, chains and configs for every worker, by reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.compiler.layout import Layout
from orchestrator.compiler.origins import origin_entries
from orchestrator.compiler.ranges import without_ranges
from orchestrator.compiler.switch_entries import SwitchEntries
from orchestrator.compiler.wiring import Wiring
from orchestrator.compiler.worker_programs import worker_programs
from orchestrator.memo import Memo
from orchestrator.model.cuts import Cuts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.model.refs import PathRef
from orchestrator.model.symbolic import Symbolic, SymbolicProgram
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.targets.pipelines import Pipeline


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one graph puts on each switch and worker, to be linked; `layouts` and `paths` are for
    explanations."""

    symbolic: Symbolic
    layouts: dict[str, Layout]
    paths: dict[tuple[str, str], PathRef]
    """By (device or group, entered unit)."""


def lower(
    graph: ServiceGraph,
    functions: Functions,
    cuts: Cuts,
    plan: Plan,
    fabric: Fabric,
    pipelines: Mapping[str, Pipeline],
    *,
    taken: Mapping[str, Counter[str]] | None = None,
    memo: Memo | None = None,
) -> Lowered:
    """Entries and chains of a placed graph, beside the entries that are `taken` by switch and table."""
    wiring = Wiring(graph, functions, cuts, plan, fabric, pipelines, taken or {})
    memo = Memo() if memo is None else memo
    entries = SwitchEntries(wiring, memo)
    programs = {name: entries.program(name, layout) for name, layout in wiring.layouts.items()}
    workers = tuple(worker_programs(wiring, memo))
    for switch, origins in origin_entries(workers, fabric).items():
        program = programs.get(switch, SymbolicProgram())
        programs[switch] = replace(program, entries=(*program.entries, *origins))
    for name, program in programs.items():
        if not pipelines[name].target.ranges:
            programs[name] = without_ranges(program)
    paths = tuple(dict.fromkeys(way.path for way in wiring.paths.values()))
    return Lowered(Symbolic(programs, workers, paths), wiring.layouts, wiring.paths)
