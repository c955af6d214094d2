"""A graph compiled for a pipeline that p4c makes for it: for as much room as it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import networkx as nx

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.errors import CompileError
from orchestrator.model.builds import Slot
from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import SWITCH, Cuts
from orchestrator.model.topology import Topology
from orchestrator.targets import Target, lookup, specialised
from orchestrator.targets.edge import EDGE
from orchestrator.targets.pipelines import SHIPPED, capability_for


def compile_specialised(request: CompileRequest, others: Collection[Bundle] = ()) -> Compiled:
    """Compile for a pipeline made by p4c for this graph and `others`, whose entries keep their tables.

    First the graph is cut as if there were room for everything, to see what blocks it needs and in what
    order; then it is lowered into an instance for each, and these are made as large as that asks for.
    """

    def compiled_for(slots: Sequence[Slot]) -> Compiled:
        room = specialised.roomy(slots, edge)
        pipelines = dict.fromkeys(topology.switches, room)
        return compile_graph(replace(request, pipelines=pipelines))

    topology = request.topology
    target = _compiling(topology)
    edge = SHIPPED.capability(EDGE, target.name)
    kept: dict[str, Slot] = {}
    tables: dict[str, Counter[str]] = {name: Counter() for name in topology.switches}
    for bundle in others:
        for switch, program in bundle.programs.items():
            counts = program.entries_by_table()
            tables[switch].update(counts)
            running = capability_for(bundle, switch)
            kept |= {slot.instance: slot for slot in specialised.kept_slots(counts, running)}
    cuts = compiled_for(edge.slots).cuts
    slots = specialised.slots_for(_wanted(cuts), tuple(kept.values()))
    compiled = compiled_for(specialised.reserved(slots, tuple(kept.values())))
    for switch, program in compiled.bundle.programs.items():
        tables[switch].update(program.entries_by_table())
    need: Counter[str] = Counter()
    for counts in tables.values():
        need |= counts
    made = specialised.build(slots, need, target)
    devices = {
        device.name: replace(device, pipeline=made.name) if device.has_pipeline else device
        for device in compiled.bundle.devices.values()
    }
    bundle = replace(compiled.bundle, devices=devices, builds=(made,))
    return replace(compiled, bundle=bundle)


def _compiling(topology: Topology) -> Target:
    """The target for which a pipeline of all switches is compiled; CompileError without one."""
    targets = {switch.target: lookup(switch.target) for switch in topology.switches.values()}
    if len({target.architecture for target in targets.values()}) != 1 or not all(
        target.compiler() for target in targets.values()
    ):
        raise CompileError(
            f"{topology.name}: no compiler makes one pipeline for all of its switches "
            f"({', '.join(sorted(targets))})"
        )
    return next(iter(targets.values()))


def _wanted(cuts: Cuts) -> list[specialised.BlockWanted]:
    """The blocks that switches need for a graph, in the order of its packets."""
    order: nx.DiGraph[str] = nx.DiGraph()
    order.add_nodes_from(cuts.units)
    order.add_edges_from((arc.source, arc.target) for arc in cuts.arcs)
    units = [cuts.units[name] for name in nx.lexicographical_topological_sort(order)]
    return [
        specialised.BlockWanted(unit.nf, unit.port, unit.element.program.block)
        for unit in units
        if unit.kind == SWITCH and unit.element is not None
    ]
