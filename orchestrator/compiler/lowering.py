"""Lower a placement: table entries for every switch, chains and configs for every worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.compiler.layout import Layout
from orchestrator.compiler.nodes import part_of, parts_of
from orchestrator.compiler.origins import origin_entries
from orchestrator.compiler.ranges import without_ranges
from orchestrator.compiler.switch_entries import SwitchEntries
from orchestrator.compiler.wiring import Wiring
from orchestrator.compiler.worker_programs import worker_programs
from orchestrator.model.cuts import Cuts
from orchestrator.model.entries import Entries, PipelineProgram, WorkerProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.targets.pipelines import Pipeline


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one graph puts on each switch and worker; `layouts` and `paths` are for explanations."""

    programs: dict[str, PipelineProgram]
    workers: tuple[WorkerProgram, ...]
    layouts: dict[str, Layout]
    paths: dict[tuple[str, str], tuple[int, int]]
    """(device or group, entered unit) -> (SPI, SI)."""


def lower(
    graph: ServiceGraph,
    functions: Functions,
    cuts: Cuts,
    plan: Plan,
    fabric: Fabric,
    pipelines: Mapping[str, Pipeline],
    *,
    graph_id: int,
    taken: Mapping[str, Counter[str]] | None = None,
) -> Lowered:
    """Entries and chains of a placed graph, beside the entries that are `taken` by switch and table."""
    wiring = Wiring(graph, functions, cuts, plan, fabric, pipelines, graph_id, taken or {})
    entries = SwitchEntries(wiring)
    programs = {name: entries.program(name, layout) for name, layout in wiring.layouts.items()}
    workers = tuple(worker_programs(wiring))
    for switch, origins in origin_entries(workers, fabric).items():
        program = programs.get(switch, PipelineProgram((), (), ()))
        parts = (*parts_of(switch, program.entries), part_of(switch, None, origins))
        programs[switch] = replace(program, entries=Entries(parts))
    for name, program in programs.items():
        if not pipelines[name].target.ranges:
            programs[name] = without_ranges(name, program)
    return Lowered(programs, workers, wiring.layouts, wiring.paths)
