"""Place one what-if case: its chains, or its graphs, on what of the topology is left and free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator.compile import (
    CompileRequest,
    Front,
    OnServer,
    check_room,
    feasible,
    fronts_of,
)
from orchestrator.errors import Blocking, Constraint, DoesNotFit, InfeasibleError, ReportedError
from orchestrator.garbage import large_frozen_data
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import CatalogueNf, LoadedChains
from orchestrator.placement.compiled import GraphPart, with_prefix
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import DEFAULT_OBJECTIVES
from orchestrator.placement.model import Options, plan_of, search
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.solve import OPTIMAL, solve
from orchestrator.whatif.scenarios import Case

PlacedCase = tuple[Problem, Solution, dict[str, float]]
"""Problem, placement (SLOs missed where they must be) and the share that traffics lost as cut off."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How every scenario is placed. `running` is where tasks run now, `workers` on how many cores
    pools do: the base case is then that placement (empty: the base case is placed anew)."""

    strategy: str = OPTIMAL
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: Limits = field(default_factory=lambda: Limits(seconds=10.0))
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: Mapping[str, int] = field(default_factory=dict[str, int])


def without_lost(graph: ServiceGraph, fabric: Fabric) -> tuple[ServiceGraph, Mapping[str, float]]:
    """The graph without hosts that a failure cut off, and the share that each traffic lost by it.

    A traffic's rate is spread evenly over the pairs of its endpoints' hosts. One whose hosts do not
    all reach each other any more is lost whole (1), as is one without hosts at an end.
    """
    left = {
        name: replace(e, hosts=tuple(h for h in e.hosts if h in fabric.attachments))
        for name, e in graph.endpoints.items()
    }
    lost: dict[str, float] = {}
    traffic: list[Traffic] = []
    for t in graph.traffic:
        now = [(a, b) for a in left[t.ingress].hosts for b in left[t.egress].hosts]
        before = len(graph.endpoints[t.ingress].hosts) * len(graph.endpoints[t.egress].hosts)
        if not now or not all(fabric.connected(a, b) for a, b in now):
            lost[t.name] = 1.0
        elif len(now) == before:
            traffic.append(t)
        else:
            lost[t.name] = 1 - len(now) / before
            traffic.append(_scaled(t, len(now), before))
    return replace(graph, endpoints=left, traffic=tuple(traffic)), lost


def _scaled(traffic: Traffic, left: int, before: int) -> Traffic:
    least = traffic.min_rate
    return replace(
        traffic,
        rate=traffic.rate * left // before,
        min_rate=None if least is None else least * left // before,
    )


def place_case(
    case: Case,
    settings: Settings,
    running: Mapping[str, str] | None = None,
    *,
    held: bool = False,
    fronts: Sequence[Front] = (),
) -> PlacedCase:
    """The best placement of a case; graphs are compiled as `deploy` would compile them.

    `held`: nothing may leave its place, and pools keep their number of cores. `known` is what
    `prepared` made of the case that scenarios start from.
    """
    where = dict(running if running is not None else settings.running)
    if case.chains is not None:
        return _place_chains(case, case.chains, settings, where)
    with large_frozen_data():
        return _place_graphs(case, settings, where, held, fronts)


def prepared(case: Case) -> tuple[Front, ...]:
    """The case's graphs before they are placed, for scenarios that change nothing of that."""
    fabric = case.fabric()
    with large_frozen_data(), suppress(ReportedError):  # said of the base case itself
        return fronts_of(_requests(case, fabric)[0], fabric)
    return ()


def _place_chains(
    case: Case, loaded: LoadedChains, settings: Settings, running: Mapping[str, str]
) -> PlacedCase:
    fabric, hosts = case.fabric(), case.topology.hosts
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
    problem = left.problem(case.topology, case.network())
    problem = replace(problem, running=running)
    return problem, _hard_or_soft(problem, settings), dict.fromkeys(lost, 1.0)


def _on_servers(catalogue: Mapping[str, CatalogueNf]) -> dict[str, CatalogueNf]:
    """The catalogue with servers alone for every NF that can run on one."""
    return {
        name: replace(spec, platforms=frozenset({"server"})) if "server" in spec.platforms else spec
        for name, spec in catalogue.items()
    }


def _place_graphs(
    case: Case,
    settings: Settings,
    running: Mapping[str, str],
    held: bool,
    earlier: Sequence[Front],
) -> PlacedCase:
    fabric, network = case.fabric(), case.network()
    requests, lost = _requests(case, fabric)
    if not requests:
        raise InfeasibleError("every traffic is cut off")
    options = Options(settings.strategy, settings.objectives, settings.limits)

    def placed(fronts: Sequence[Front], *, soft: bool = False) -> tuple[Problem, Solution]:
        parts = [
            GraphPart(f.request.graph, f.functions, f.cuts, not_on=f.request.not_on())
            for f in fronts
        ]
        if len(case.graphs) > 1:
            parts = [with_prefix(part) for part in parts]
        problem, solution = search(
            parts,
            fabric,
            network,
            options,
            running=running,
            soft=soft,
            changed=(lambda problem: _held(problem, settings)) if held else None,
        )
        plans = [plan_of(part, problem, solution) for part in parts]
        check_room(fronts, plans, fabric, network)
        return problem, solution

    try:
        return *feasible(requests, fabric, placed, earlier)[1], lost
    except (InfeasibleError, DoesNotFit) as error:
        if settings.strategy != OPTIMAL:
            raise
        try:
            _, (problem, solution) = feasible(requests, fabric, partial(placed, soft=True), earlier)
        except (InfeasibleError, DoesNotFit):
            raise error from None
        return problem, replace(solution, notes=(*solution.notes, str(error))), lost


def _requests(case: Case, fabric: Fabric) -> tuple[list[CompileRequest], dict[str, float]]:
    """What is asked for of each graph that has some traffic left; the share of each traffic
    that is lost (1: all)."""
    requests: list[CompileRequest] = []
    lost: dict[str, float] = {}
    network = case.network()
    for graph in case.graphs:
        kept, gone = without_lost(graph, fabric)
        prefix = f"{graph.name}/" if len(case.graphs) > 1 else ""
        lost |= {prefix + name: share for name, share in gone.items()}
        _check_pins(graph, case.failed)
        request = CompileRequest(
            kept, case.topology, used=network.used, pipelines=network.pipelines
        )
        if not case.offload:
            why = "offloading is switched off in this scenario"
            request = replace(request, relaxations=tuple(OnServer(nf, why) for nf in graph.nfs))
        if kept.traffic:
            requests.append(request)
    return requests, lost


def _check_pins(graph: ServiceGraph, failed: frozenset[str]) -> None:
    """InfeasibleError for NFs that are pinned to what has failed."""
    gone = {nf: device for nf, device in graph.placement.pinned.items() if device in failed}
    if gone:
        raise InfeasibleError(
            "\n".join(
                f"{nf} is pinned to {device}, which has failed" for nf, device in gone.items()
            ),
            [Blocking(Constraint.PIN, (nf,)) for nf in gone],
        )


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
    run = partial(
        solve,
        problem,
        objectives=settings.objectives,
        strategy=settings.strategy,
        limits=settings.limits,
    )
    try:
        return run()
    except InfeasibleError as error:
        if settings.strategy != OPTIMAL:
            raise
        try:
            solution = run(soft=True)
        except InfeasibleError:
            raise error from None
        return replace(solution, notes=(*solution.notes, str(error)))
