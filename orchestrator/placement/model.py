"""`place`: the stage between cutting and lowering. Problem, strategy, and the plan in names.

The exact model is in `cpsat`, what it is given in `problem` and `compiled`, the comparison strategies
in `baselines`, the independent check in `checker`, the words for failure in `conflicts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.errors import InfeasibleError
from orchestrator.model.cuts import Cuts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import ClassMap, Core, HashSlice, Hop, Plan
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.placement.buckets import group_buckets, whole_buckets, with_pools
from orchestrator.placement.classes import state_classes
from orchestrator.placement.compiled import GraphPart, problem_of
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import (
    DEFAULT_OBJECTIVES,
    chain_latency_us,
    core_load,
    cores_used,
)
from orchestrator.placement.offers import check_offers
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.resources import Network, demands
from orchestrator.placement.running import Running, stay
from orchestrator.placement.slots import contended
from orchestrator.placement.solve import OPTIMAL, solve
from orchestrator.placement.sources import begins_flows, latencies, sources
from orchestrator.placement.standby import standby_rules, with_standbys

_NEAREST = 6
_MANY_SWITCHES = 40


@dataclass(frozen=True, slots=True)
class Options:
    """How to place: a strategy, lexicographic objectives, limits; `running` is where it is now."""

    strategy: str = OPTIMAL
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: Limits = field(default_factory=Limits)
    running: Running | None = None


def place(
    graph: ServiceGraph,
    functions: Functions,
    cuts: Cuts,
    fabric: Fabric,
    network: Network,
    *,
    deterministic_time: float = 20.0,
    options: Options | None = None,
    not_on: frozenset[tuple[str, str]] = frozenset(),
) -> Plan:
    """The plan; InfeasibleError names the constraint groups that cannot hold together.

    Switch elements are tried on the switches of ingress, egress and servers first, and on all of them
    if those do not do (in topologies of at most 40 switches); NFs on the six nearest servers first.
    `deterministic_time` is CP-SAT's unit, about a second; `not_on`: see `Part`.
    """
    check_offers(graph, fabric)
    chosen = options or Options(limits=Limits(seconds=deterministic_time))
    running = chosen.running
    # Where a standby takes over, its group runs where its standby was.
    alone = running is not None and running.takes_over
    part = GraphPart(graph, functions, cuts, alone=alone, not_on=not_on)
    where = {} if running is None else running.devices(cuts)
    problem, solution = search([part], fabric, network, chosen, running=where)
    plan = plan_of(part, problem, solution)

    def buckets(number: int, cores: int) -> int:
        return group_buckets(functions, cuts.groups[number].nfs, cores)

    now: frozenset[Core] = frozenset()
    if running is not None:
        taken = network.used.cores | running.standbys
        undivided = with_pools(functions) | standby_rules(graph, graph.nfs).keys()
        plan = stay(plan, cuts, running, taken, buckets, undivided)
        now = running.standbys
    topology, used = fabric.topology, network.used
    return with_standbys(plan, graph, functions, cuts.groups, topology, used, now)


def search(
    parts: Sequence[GraphPart],
    fabric: Fabric,
    network: Network,
    options: Options,
    *,
    running: Mapping[str, str],
    soft: bool = False,
    changed: Callable[[Problem], Problem] | None = None,
) -> tuple[Problem, Solution]:
    """The problem of placing cut graphs together, and its solution; InfeasibleError says why not.

    `running` is where their tasks are now. `soft` lets rates and latencies miss their SLO. `changed`
    may ask for more than the graphs do. Where graphs do not fit beside their standbys, they go without.
    """
    if any(part.standbys for part in parts):
        try:
            return _searched(parts, fabric, network, options, running, soft, changed)
        except InfeasibleError:
            parts = [replace(part, alone=True) for part in parts]
    return _searched(parts, fabric, network, options, running, soft, changed)


def _searched(
    parts: Sequence[GraphPart],
    fabric: Fabric,
    network: Network,
    options: Options,
    running: Mapping[str, str],
    soft: bool,
    changed: Callable[[Problem], Problem] | None,
) -> tuple[Problem, Solution]:
    tries: list[tuple[int | None, bool]] = [(None, False), (None, True)]
    if len(fabric.topology.servers) > _NEAREST and not soft:
        # The nearest servers first: all of a data centre would make a large model of a small one.
        tries.insert(0, (_NEAREST, False))
    if len(fabric.topology.switches) > _MANY_SWITCHES:
        tries.remove((None, True))
    for last, (nearest, everywhere) in enumerate(tries, 1 - len(tries)):
        problem = problem_of(
            parts,
            fabric,
            network,
            everywhere=everywhere,
            running=running,
            marginal="throughput" in options.objectives,
            nearest=nearest,
        )
        problem = problem if changed is None else changed(problem)
        try:
            solution = solve(
                problem,
                objectives=options.objectives,
                strategy=options.strategy,
                limits=options.limits,
                soft=soft,
                explained=not last,
            )
        except InfeasibleError:
            if not last:
                raise
            continue
        if nearest is not None:
            note = f"searched among the {nearest} servers that are nearest to the graph's hosts"
            solution = replace(solution, notes=(*solution.notes, note))
        return problem, solution
    raise AssertionError("unreachable")


def plan_of(part: GraphPart, problem: Problem, solution: Solution) -> Plan:
    """The plan of one graph in a solution."""
    prefix, cuts = part.prefix, part.cuts
    grouped = {u for group in cuts.groups for u in group.units}
    device_of = {u: solution.device_of[prefix + u] for u in cuts.units if u not in grouped}
    cores_of = tuple(
        tuple(Core(c.server, c.core) for c in solution.cores_of[f"{prefix}group{i}"])
        for i in range(len(cuts.groups))
    )
    tree_of: dict[tuple[str, str], int] = {}
    hops: list[Hop] = []
    for arc, way in zip(problem.arcs, solution.ways, strict=True):
        ids = (arc.source, arc.target)
        own = any(n.startswith(prefix) and not n.startswith("@") for n in ids)
        if not own or (
            arc.source in problem.tasks
            and problem.tasks[arc.source].pool
            and way.source == way.target
        ):
            continue
        source, target = (n if n.startswith("@") else n.removeprefix(prefix) for n in ids)
        tree_of[source, target] = way.tree
        if way.source != way.target:
            rate = sum(solution.rate_of[c] for c in arc.chains)
            hops.append(Hop(way.source, way.target, way.tree, rate))
    return Plan(
        device_of=device_of,
        cores_of=cores_of,
        dispatch=tuple(
            tuple(_class_maps(part, problem, solution, i)) for i in range(len(cuts.groups))
        ),
        tree_of=tree_of,
        hops=tuple(sorted(hops, key=lambda h: (h.source, h.target, h.tree, h.rate))),
        latency_us={
            traffic.name: round(chain_latency_us(problem, solution, prefix + traffic.name))
            for traffic in part.graph.traffic
            if prefix + traffic.name in problem.chains
        },
        core_load=core_load(problem, solution),
        status=solution.status,
        objective=cores_used(solution),
        notes=(
            *_notes(part, solution),
            *sources(problem, solution, list(part.functions.values()), begins_flows(part.graph)),
            *latencies(problem, solution, prefix),
        ),
        slot_of=_contended_slots(part, problem, solution),
        spread={nf: group.spread for group in cuts.groups for nf in group.nfs},
    )


def _contended_slots(part: GraphPart, problem: Problem, solution: Solution) -> dict[str, str]:
    """The block instances of units, where lowering might run into a dead end by its own choice."""
    slots: dict[str, str] = {}
    for device in problem.devices.values():
        mine = [problem.tasks[t] for t, d in solution.device_of.items() if d == device.name]
        for block, tasks in contended(device, mine).items():
            slots |= {t.id: solution.slot_of[t.id, block] for t in tasks}
    prefix = part.prefix
    return {t.removeprefix(prefix): s for t, s in slots.items() if t.startswith(prefix)}


def _class_maps(
    part: GraphPart, problem: Problem, solution: Solution, group: int
) -> Iterable[ClassMap]:
    """Who owns the classes of a group."""
    cores = solution.cores_of[f"{part.prefix}group{group}"]
    wants = demands(part.graph, part.cuts)
    classes = state_classes(part.functions, part.cuts, part.cuts.groups[group], wants)
    buckets = group_buckets(part.functions, part.cuts.groups[group].nfs, len(cores))
    for index, regions in enumerate(classes):
        slices = [
            HashSlice(Core(c.server, c.core), s.low, s.high)
            for c in cores
            for s in c.slices
            if s.index == index
        ]
        slices = whole_buckets(slices, buckets)
        if slices:
            yield ClassMap(tuple(sorted(regions.traffics)), regions.regions, tuple(slices))


def _notes(part: GraphPart, solution: Solution) -> Iterable[str]:
    for group in part.cuts.groups:
        yield f"{', '.join(group.nfs)}: packets find their core by {group.spread} ({group.why})"
    if solution.strategy != OPTIMAL:
        yield f"placed by strategy {solution.strategy}"
    yield from solution.notes
    for stage in solution.stages:
        if stage.objective == "hops":
            continue  # a tie-break, in units of its own
        if stage.status == "OPTIMAL":
            yield f"{stage.objective}: {stage.value:g}, proven best"
        else:
            yield (
                f"{stage.objective}: {stage.value:g}, at best {stage.bound:g} "
                f"(gap {stage.gap:.1%}; {stage.status})"
            )
