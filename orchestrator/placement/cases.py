"""Place one what-if case: its chains, or its graphs, on what of the topology is left and free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator.compiler.cuts import cut
from orchestrator.errors import Constraint, InfeasibleError
from orchestrator.graph import functions_of
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import LoadedChains, NfSpec
from orchestrator.placement.compiled import Part, forced_by_pins, problem_of, with_prefix
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import DEFAULT_OBJECTIVES
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.resources import Network, Used
from orchestrator.placement.scenarios import Case
from orchestrator.placement.solve import OPTIMAL, solve
from orchestrator.targets.pipelines import SHIPPED, Pipeline, footprint

Placed = tuple[Problem, Solution, dict[str, float]]
"""Problem, placement (SLOs missed where they must be) and the SLOs of traffics that are cut off."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How every scenario is placed. `running` is where tasks run now, `workers` on how many cores
    pools do: the base case is then that placement (empty: the base case is placed anew)."""

    strategy: str = OPTIMAL
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: Limits = field(default_factory=lambda: Limits(seconds=10.0))
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: Mapping[str, int] = field(default_factory=dict[str, int])


def pipelines_of(topology: Topology) -> dict[str, Pipeline]:
    """What each switch's pipeline offers, or is assumed to (`Target.assumed`)."""
    return {s.name: SHIPPED.planned(s.pipeline, s.target) for s in topology.switches.values()}


def network_of(topology: Topology, used: Used | None = None) -> Network:
    """The topology with what is used of it (nothing, if not given)."""
    return Network(pipelines_of(topology), used or Used())


def without_lost(graph: ServiceGraph, fabric: Fabric) -> tuple[ServiceGraph, tuple[str, ...]]:
    """The graph without hosts that a failure cut off, and the traffics that cannot flow any more."""
    endpoints = {
        name: replace(e, hosts=tuple(h for h in e.hosts if h in fabric.attachments))
        for name, e in graph.endpoints.items()
    }
    lost = [
        t.name
        for t in graph.traffic
        if not endpoints[t.ingress].hosts
        or not endpoints[t.egress].hosts
        or not all(
            fabric.connected(a, b)
            for a in endpoints[t.ingress].hosts
            for b in endpoints[t.egress].hosts
        )
    ]
    kept = replace(
        graph,
        endpoints=endpoints,
        traffic=tuple(t for t in graph.traffic if t.name not in lost),
    )
    return kept, tuple(lost)


def place_case(
    case: Case,
    settings: Settings,
    running: Mapping[str, str] | None = None,
    *,
    held: bool = False,
) -> Placed:
    """The best placement of a case.

    `held`: nothing may leave its place, and pools keep their number of cores.
    """
    where = dict(running if running is not None else settings.running)
    if case.chains is not None:
        return _place_chains(case, case.chains, settings, where)
    return _place_graphs(case, settings, where, held)


def _place_chains(
    case: Case, loaded: LoadedChains, settings: Settings, running: Mapping[str, str]
) -> Placed:
    fabric, hosts = Fabric(case.topology), case.topology.hosts
    lost = [
        c.name
        for c in loaded.chains
        if c.ingress not in hosts
        or c.egress not in hosts
        or not fabric.connected(c.ingress, c.egress)
    ]
    chains = tuple(c for c in loaded.chains if c.name not in lost)
    if not chains:
        raise InfeasibleError(f"{loaded.name}: every chain is cut off")
    catalogue = loaded.catalogue if case.offload else _on_servers(loaded.catalogue)
    left = replace(loaded, chains=chains, catalogue=catalogue)
    problem = left.problem(case.topology, network_of(case.topology, case.used))
    problem = replace(problem, running=running)
    return problem, _hard_or_soft(problem, settings), dict.fromkeys(lost, 1.0)


def _on_servers(catalogue: Mapping[str, NfSpec]) -> dict[str, NfSpec]:
    """The catalogue with servers alone for every NF that can run on one."""
    return {
        name: replace(spec, platforms=frozenset({"server"})) if "server" in spec.platforms else spec
        for name, spec in catalogue.items()
    }


def _place_graphs(case: Case, settings: Settings, running: Mapping[str, str], held: bool) -> Placed:
    fabric = Fabric(case.topology)
    several = len(case.graphs) > 1
    lost_share: dict[str, float] = {}
    graphs: list[ServiceGraph] = []
    for graph in case.graphs:
        kept, lost = without_lost(graph, fabric)
        prefix = f"{graph.name}/" if several else ""
        lost_share |= {prefix + name: 1.0 for name in lost}
        if kept.traffic:
            graphs.append(kept)
    if not graphs:
        raise InfeasibleError("every traffic is cut off")
    problem_of_parts = partial(
        problem_of,
        fabric=fabric,
        network=network_of(case.topology, case.used),
        running=running,
        marginal="throughput" in settings.objectives,
    )
    forced = {g.name: _forced(g, case) for g in graphs}
    while True:
        parts = [_cut(g, fabric, forced[g.name]) for g in graphs]
        if several:
            parts = [with_prefix(p) for p in parts]
        problem = problem_of_parts(parts)
        if held:
            problem = _held(problem, settings)
        try:
            return problem, _hard_or_soft(problem, settings), lost_share
        except InfeasibleError as error:
            name, nf = _too_big(parts, pipelines_of(case.topology), error)
            if not name or nf in forced[name]:
                wide = problem_of_parts(parts, everywhere=True)
                return wide, _hard_or_soft(wide, settings), lost_share
            forced[name][nf] = "no switch holds it"


def _forced(graph: ServiceGraph, case: Case) -> dict[str, str]:
    """The NFs that the case forces onto servers, with the reason."""
    forced = forced_by_pins(graph, functions_of(graph), case.topology.servers)
    if not case.offload:
        forced |= dict.fromkeys(graph.nfs, "offloading is switched off in this scenario")
    return forced


def _cut(graph: ServiceGraph, fabric: Fabric, forced: Mapping[str, str]) -> Part:
    functions = functions_of(graph)
    access = {name: at.switch for name, at in fabric.attachments.items()}
    return Part(graph, functions, cut(graph, functions, access, forced))


def _too_big(
    parts: Sequence[Part], pipelines: Mapping[str, Pipeline], error: InfeasibleError
) -> tuple[str, str]:
    """(graph, NF) of the largest element in a table that no switch holds."""
    full = {n for b in error.blocking if b.kind is Constraint.TABLES for n in b.names}
    sizes = [
        (need, part.graph.name, unit.nf)
        for part in parts
        for unit in part.cuts.units.values()
        for (block, table), need in footprint(unit, pipelines.values()).items()
        if f"{block}.{table}" in full
    ]
    return max(sizes)[1:] if sizes else ("", "")


def _held(problem: Problem, settings: Settings) -> Problem:
    """The problem in which everything stays where it runs."""
    places = {
        task: device
        for task, device in settings.running.items()
        if task in problem.tasks and device in problem.tasks[task].candidates
    }
    pools = {
        name: replace(pool, min_workers=count, max_workers=count)
        if (count := settings.workers.get(name))
        else pool
        for name, pool in problem.pools.items()
    }
    return replace(problem, pinned={**problem.pinned, **places}, pools=pools)


def _hard_or_soft(problem: Problem, settings: Settings) -> Solution:
    """All SLOs met if possible, else as much of them as can be; the first error if not even that."""

    def run(soft: bool) -> Solution:
        objectives = settings.objectives
        if soft and "slo" not in objectives:
            objectives = ("slo", *objectives)
        return solve(
            problem,
            objectives=objectives,
            strategy=settings.strategy,
            limits=settings.limits,
            soft=soft,
        )

    try:
        return run(soft=False)
    except InfeasibleError as error:
        if settings.strategy != OPTIMAL:
            raise
        try:
            found = run(soft=True)
        except InfeasibleError:
            raise error from None
        return replace(found, notes=(*found.notes, str(error)))
