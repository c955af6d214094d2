"""The stages in their order: the only module that calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx

from orchestrator.compiler.advice import advice, not_installed
from orchestrator.compiler.classes import traffic_classes
from orchestrator.compiler.cuts import Functions, cut
from orchestrator.compiler.fabric_program import fabric_programs
from orchestrator.compiler.forms import decide_filters, has_tree
from orchestrator.compiler.lowering import Lowered, footprint_of, lower
from orchestrator.compiler.merging import MOST_CLASSES, Costs
from orchestrator.compiler.story import ClassStory, Teller
from orchestrator.compiler.synthesis import synthesise
from orchestrator.errors import CompileError, DoesNotFit, InfeasibleError
from orchestrator.graph import check_hosts, functions_of
from orchestrator.linker.link import link
from orchestrator.model.away import Away
from orchestrator.model.builds import Slot
from orchestrator.model.bundle import Bundle, Slo, Story
from orchestrator.model.cuts import SERVER, SWITCH, Cuts
from orchestrator.model.devices import devices_of
from orchestrator.model.elements import FilterProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core, Plan
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.compiled import forced_by_pins
from orchestrator.placement.model import Options, place
from orchestrator.placement.problem import MEMORY
from orchestrator.placement.resources import Network, Used
from orchestrator.placement.running import running_of
from orchestrator.recall import large_frozen_data, recalling
from orchestrator.runtimes import runtime
from orchestrator.targets import Target, lookup, specialised
from orchestrator.targets.block import VERSION_TABLE
from orchestrator.targets.edge import EDGE
from orchestrator.targets.pipelines import SHIPPED, Pipeline, Pipelines, capability_for, footprint
from orchestrator.targets.target import filter_costs

STAYING = Options(objectives=("slo", "moves", "cores", "latency", "hops"))
"""How an update is placed: nothing moves that need not."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Every stage's output for one graph, and what it was made from."""

    cuts: Cuts
    plan: Plan
    lowered: Lowered
    bundle: Bundle
    graph: ServiceGraph
    topology: Topology

    def classes(self) -> tuple[ClassStory, ...]:
        """The stories of all traffic classes."""
        fabric, layouts = Fabric(self.topology), self.lowered.layouts
        teller = Teller(self.graph, self.cuts, self.plan, layouts, self.bundle.stories, fabric)
        return tuple(map(teller.tell, traffic_classes(self.cuts, self.graph)))


def compile_graph(
    graph: ServiceGraph,
    topology: Topology,
    *,
    graph_id: int = 1,
    used: Used | None = None,
    warnings: tuple[str, ...] = (),
    placing: Options | None = None,
    max_classes: int = MOST_CLASSES,
    ternary: Collection[str] = (),
    beside: Bundle | None = None,
    pipelines: Mapping[str, Pipeline] | None = None,
    away: Away | None = None,
    builds: Pipelines = SHIPPED,
) -> Compiled:
    """Cut, synthesise, place and lower a graph onto a topology, beside what `used` says is taken.

    `beside` is the version that is deployed: the new one stays where that runs, as far as it can, and
    keeps its numbers where the two are equal, so that both can be installed at once.

    `max_classes` bounds the traffic classes that two NFs in a row may make of their rules. The filters
    of NFs in `ternary` are not made trees, whatever they cost. `pipelines` (by switch) stand for those
    of the topology, whose builds are in `builds`. What is `away` is left out of placement; the graph
    must have no host behind it.

    Within a round of a `Recall` all that an earlier version of the graph has in common with this one is
    taken from there (`graph.load_graph` included): after a changed rule that is nearly all.
    """
    with large_frozen_data(), recalling():
        return _compile(
            graph,
            topology,
            graph_id=graph_id,
            used=used or Used(),
            warnings=warnings,
            placing=placing,
            max_classes=max_classes,
            plain=set(ternary),
            beside=beside,
            pipelines=pipelines,
            away=away or Away(),
            builds=builds,
        )


def _compile(
    graph: ServiceGraph,
    topology: Topology,
    *,
    graph_id: int,
    used: Used,
    warnings: tuple[str, ...],
    placing: Options | None,
    max_classes: int,
    plain: set[str],
    beside: Bundle | None,
    pipelines: Mapping[str, Pipeline] | None,
    away: Away,
    builds: Pipelines,
) -> Compiled:
    warnings = (*warnings, *check_hosts(graph, topology))
    fabric = Fabric(topology, away)
    used = replace(used, cores=used.cores | away.cores.keys() | away.cordon.cores)
    functions = functions_of(graph)
    pipelines = pipelines or {
        s.name: builds.capability(s.pipeline, s.target) for s in topology.switches.values()
    }
    if beside is not None:
        graph_id = beside.graph_id
        placing = replace(placing or STAYING, running=running_of(beside))
    network = Network(pipelines, used)
    access = {name: at.switch for name, at in fabric.attachments.items()}
    forced = forced_by_pins(graph, functions, topology.servers)
    slots = min(sum(s.block == FilterProgram.block for s in p.slots) for p in pipelines.values())
    costs = Costs(
        _filter_sizes(topology, pipelines, used),
        most_classes=max_classes,
        filter_slots=slots,
        ranges=all(p.target.ranges for p in pipelines.values()),
    )
    forms = filter_costs(switch.target for switch in topology.switches.values())
    while True:
        whole = cut(graph, functions, access, forced)
        cuts = synthesise(whole, graph, costs)
        cuts = decide_filters(cuts, forms, pipelines.values(), used.tables, plain)
        try:
            plan = place(graph, functions, cuts, fabric, network, options=placing)
            lowered = lower(
                graph,
                functions,
                cuts,
                plan,
                fabric,
                pipelines,
                taken=used.tables,
            )
            break
        except (DoesNotFit, InfeasibleError) as error:
            costs = _relaxed(error, cuts, pipelines, costs, plain, forced)
    bundle = Bundle(
        graph=graph.name,
        owner=graph.owner,
        graph_id=graph_id,
        topology=topology.name,
        sampling_rate=graph.verification.sampling_rate,
        devices=devices_of(topology),
        fabric=fabric_programs(Fabric(topology) if away else fabric),
        programs={},
        workers=(),
        plan=plan,
        block_use=_block_use(functions, cuts, plan, topology, pipelines),
        stories=tuple(_stories(cuts, plan, lowered, pipelines)),
        warnings=(*warnings, *advice(whole, cuts, graph, functions)),
        removed=tuple((f"{nf}: {rule}", why) for nf, rule, why in not_installed(whole, cuts)),
        slos={t.name: Slo(t.rate, t.min_rate, t.max_latency_us) for t in graph.traffic},
        endpoints={endpoint.name: endpoint.hosts for endpoint in graph.endpoints.values()},
        builds=builds.needed(s.pipeline for s in topology.switches.values()),
    )
    bundle = link(bundle, lowered.symbolic, beside)
    return Compiled(cuts, plan, lowered, bundle, graph, topology)


def compile_specialised(
    graph: ServiceGraph,
    topology: Topology,
    others: Collection[Bundle] = (),
    *,
    graph_id: int = 1,
    used: Used | None = None,
    warnings: tuple[str, ...] = (),
    max_classes: int = MOST_CLASSES,
    away: Away | None = None,
) -> Compiled:
    """Compile for a pipeline made by p4c for this graph and `others`, whose entries keep their tables.

    First the graph is cut as if there were room for everything, to see what blocks it needs and in what
    order; then it is lowered into an instance for each, and these are made as large as that asks for.
    """

    def compiled_for(slots: Sequence[Slot]) -> Compiled:
        room = specialised.roomy(slots, edge)
        return compile_graph(
            graph,
            topology,
            graph_id=graph_id,
            used=used,
            warnings=warnings,
            max_classes=max_classes,
            pipelines=dict.fromkeys(topology.switches, room),
            away=away,
        )

    target = _compiling(topology)
    edge = SHIPPED.capability(EDGE, target.name)
    kept: dict[str, Slot] = {}
    tables: dict[str, Counter[str]] = {name: Counter() for name in topology.switches}
    for bundle in others:
        for switch, program in bundle.programs.items():
            found = footprint_of(program)
            tables[switch].update(found)
            running = capability_for(bundle, switch)
            kept |= {slot.instance: slot for slot in specialised.kept_slots(found, running)}
    cuts = compiled_for(edge.slots).cuts
    slots = specialised.slots_for(_wanted(cuts), tuple(kept.values()))
    compiled = compiled_for(specialised.reserved(slots, tuple(kept.values())))
    for switch, program in compiled.bundle.programs.items():
        tables[switch].update(footprint_of(program))
    need: Counter[str] = Counter()
    for found in tables.values():
        need |= found
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


def _wanted(cuts: Cuts) -> list[specialised.Wanted]:
    """The blocks that switches need for a graph, in the order of its packets."""
    order: nx.DiGraph[str] = nx.DiGraph()
    order.add_nodes_from(cuts.units)
    order.add_edges_from((arc.source, arc.target) for arc in cuts.arcs)
    units = [cuts.units[name] for name in nx.lexicographical_topological_sort(order)]
    return [
        specialised.Wanted(unit.nf, unit.port, unit.element.program.block)
        for unit in units
        if unit.kind == SWITCH and unit.element is not None
    ]


def used_by(bundles: Mapping[str, Bundle], topology: Topology) -> Used:
    """What deployed graphs hold of a network."""
    fabric = Fabric(topology)
    tables: dict[str, Counter[str]] = {}
    entries: dict[str, Counter[tuple[str, str]]] = {}
    rates: Counter[tuple[str, str]] = Counter()
    cores: set[Core] = set()
    memory: Counter[str] = Counter()
    for bundle in bundles.values():
        for switch, use in bundle.block_use.items():
            for name, count in use.items():
                if name == MEMORY:
                    memory[switch] += count
                    continue
                block, table = name.split(".", 1)
                entries.setdefault(switch, Counter())[block, table] += count
        for hop in bundle.plan.hops:
            for way in pairwise(fabric.path(hop.source, hop.target, hop.tree)):
                rates[way] += hop.rate
        for switch, program in bundle.programs.items():
            tables.setdefault(switch, Counter()).update(footprint_of(program))
        cores.update(core for group in bundle.plan.cores_of for core in group)
    return Used(frozenset(cores), entries, rates, tables, memory)


def _filter_sizes(
    topology: Topology, pipelines: Mapping[str, Pipeline], used: Used
) -> dict[int, int]:
    """Entries by IP version that one filter may have on every switch."""
    sizes: dict[int, int] = {}
    for name, pipeline in pipelines.items():
        limits, taken = topology.switches[name].table_sizes, used.tables.get(name, Counter())
        filters = [s.instance for s in pipeline.slots if s.block == FilterProgram.block]
        for version, table in VERSION_TABLE.items():
            tables = [f"{instance}.{table}" for instance in filters]
            most = max((pipeline.table_sizes.get(t, 0) - taken[t] for t in tables), default=0)
            most = min(most, limits.get(f"{FilterProgram.block}.{table}", most))
            sizes[version] = min(most, sizes.get(version, most))
    return sizes


def _relaxed(
    error: DoesNotFit | InfeasibleError,
    cuts: Cuts,
    pipelines: Mapping[str, Pipeline],
    costs: Costs,
    plain: set[str],
    forced: dict[str, str],
) -> Costs:
    """What to give up for another try: a tree (`plain`), merged filters (the costs), or switches for an
    NF (`forced` onto servers, with the reason). Raises the error when nothing is left."""
    name, reason = (
        (error.nf, str(error))
        if isinstance(error, DoesNotFit)
        else _too_big(cuts, pipelines, error)
    )
    if name not in plain and has_tree(cuts, name):
        plain.add(name)  # its rules may fit where its tree does not
    elif costs.merging and any(unit.merged for unit in cuts.units.values()):
        return replace(costs, merging=False)  # two small tables may fit where one does not
    elif name:
        forced[name] = reason
    else:
        raise error
    return costs


def _too_big(
    cuts: Cuts, pipelines: Mapping[str, Pipeline], error: InfeasibleError
) -> tuple[str, str]:
    """The NF of the largest element in a table that overflowed, to be run on a server instead."""
    full = [name.removeprefix("tables:") for name in error.blocking if name.startswith("tables:")]
    sizes = {
        (need, unit.nf, f"{block}.{table}")
        for unit in cuts.units.values()
        for (block, table), need in footprint(unit, pipelines.values()).items()
        if f"{block}.{table}" in full
    }
    if not sizes:
        return "", ""
    need, nf, table = max(sizes)
    return nf, f"no switch holds it: {need} entries of {table}"


def _block_use(
    functions: Functions,
    cuts: Cuts,
    plan: Plan,
    topology: Topology,
    pipelines: Mapping[str, Pipeline],
) -> dict[str, dict[str, int]]:
    """Entries of devices by 'block.table', and the memory of servers."""
    use: dict[str, Counter[str]] = {}
    for unit, device in plan.device_of.items():
        for (block, table), count in footprint(cuts.units[unit], [pipelines[device]]).items():
            use.setdefault(device, Counter())[f"{block}.{table}"] += count
    for group, cores in zip(cuts.groups, plan.cores_of, strict=True):
        for core in cores:
            there = runtime(topology.servers[core.server].runtime)
            taken = sum(there.memory_bytes(functions[nf]) for nf in group.nfs)
            use.setdefault(core.server, Counter())[MEMORY] += taken
    return {device: dict(counts) for device, counts in use.items()}


def _stories(
    cuts: Cuts, plan: Plan, lowered: Lowered, pipelines: Mapping[str, Pipeline]
) -> list[Story]:
    """One line for each unit, in the order of the graph."""
    stories: list[Story] = []
    group_of = {u: i for i, group in enumerate(cuts.groups) for u in group.units}
    for unit in cuts.units.values():
        if unit.kind == SERVER:
            cores = plan.cores_of[group_of[unit.id]]
            where = ", ".join(f"{core.server} core {core.index + 1}" for core in cores)
            stories.append(Story(unit.id, SERVER, where, "", 0, unit.why))
            continue
        switch = plan.device_of[unit.id]
        step = lowered.layouts[switch].steps[unit.id]
        why = unit.why
        if any(target == unit.id for _, target in lowered.layouts[switch].recirculated):
            why += "; recirculated, since one pass cannot serve it behind what it follows"
        slot = step.slot.instance if step.slot else "deliver"
        count = footprint(unit, [pipelines[switch]]).total()
        stories.append(Story(unit.id, SWITCH, switch, slot, count, why))
    return stories


def entries_by_table(bundle: Bundle) -> dict[str, Counter[str]]:
    """Entries per switch and table that the graph installs."""
    return {name: footprint_of(program) for name, program in bundle.programs.items()}
