"""Run what-if scenarios: here, on the local cores, or on a Dask cluster. Nothing live is touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from orchestrator.compiler.cuts import cut
from orchestrator.errors import EnvironmentMissing, InfeasibleError, InputError, OrchestratorError
from orchestrator.graph import functions_of
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.placement.compiled import (
    Part,
    check_offers,
    forced_by_pins,
    problem_of,
    with_prefix,
)
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.fabric import Fabric
from orchestrator.placement.measure import DEFAULT_OBJECTIVES, report
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.resources import Network, Used
from orchestrator.placement.scenarios import BASE, Case, Scenario
from orchestrator.placement.solve import OPTIMAL, solve
from orchestrator.targets.pipeline import Pipeline, footprint
from orchestrator.targets.shipped import capability


@dataclass(frozen=True, slots=True)
class Settings:
    """How every scenario is placed. `running` is where tasks run now, `workers` on how many cores
    pools do: the base case is then that placement (empty: the base case is placed anew)."""

    strategy: str = OPTIMAL
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: Limits = field(default_factory=lambda: Limits(seconds=10.0))
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario comes to. Rates bit/s, latencies us. `missed` is the share of each SLO that is
    not met (1: nothing of it). `why` is empty unless something cannot be placed as asked."""

    scenario: str
    status: str
    cores: int = 0
    rate_of: dict[str, int] = field(default_factory=dict[str, int])
    latency_us: dict[str, float] = field(default_factory=dict[str, float])
    missed: dict[str, float] = field(default_factory=dict[str, float])
    moved: tuple[str, ...] = ()
    core_load: dict[str, float] = field(default_factory=dict[str, float])
    """Share of its cycles that each core spends, by 'server.index'."""
    busiest: tuple[tuple[str, float], ...] = ()
    """The busiest link directions, with the share of their capacity."""
    device_of: dict[str, str] = field(default_factory=dict[str, str])
    paths: dict[str, tuple[tuple[str, ...], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, ...], ...]]
    )
    """Node sequences by chain, for pictures."""
    bound: float | None = None
    seconds: float = 0.0
    why: str = ""

    @property
    def slo_met(self) -> bool:
        """Whether every SLO is met."""
        return not self.missed and self.status not in ("INFEASIBLE", "ERROR")


def pipelines_of(topology: Topology) -> dict[str, Pipeline]:
    """What each switch's pipeline offers. For a Tofino, the shipped table sizes are assumed: no TNA
    build is resource-checked here."""
    return {
        s.name: capability(s.pipeline, "auto" if s.target == "tofino" else s.target)
        for s in topology.switches.values()
    }


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


def _cut(graph: ServiceGraph, fabric: Fabric, forced: Mapping[str, str]) -> Part:
    functions = functions_of(graph)
    access = {name: at.switch for name, at in fabric.attachments.items()}
    return Part(graph, functions, cut(graph, functions, access, forced))


def _too_big(parts: Sequence[Part], error: InfeasibleError) -> tuple[str, str]:
    """(graph, NF) of the largest element in a table that no switch holds."""
    full = {b.removeprefix("tables:") for b in error.blocking if b.startswith("tables:")}
    sizes = [
        (need, part.graph.name, unit.nf)
        for part in parts
        for unit in part.cuts.units.values()
        for (block, table), need in footprint(unit).items()
        if f"{block}.{table}" in full
    ]
    return max(sizes)[1:] if sizes else ("", "")


def place_case(
    case: Case,
    settings: Settings,
    running: Mapping[str, str] | None = None,
    *,
    held: bool = False,
) -> tuple[Problem, Solution, dict[str, float]]:
    """Problem, placement (SLOs missed where they must be) and the SLOs of traffics that are cut off.

    `held`: nothing may leave its place, and pools keep their number of cores.
    """
    fabric = Fabric(case.topology)
    network = network_of(case.topology, case.used)
    where = dict(running if running is not None else settings.running)
    marginal = "throughput" in settings.objectives
    if case.chains is not None:
        loaded = case.chains
        lost = [
            c.name
            for c in loaded.chains
            if not fabric.connected(c.ingress, c.egress) and c.ingress in nodes_known(case.topology)
        ] + [
            c.name
            for c in loaded.chains
            if c.ingress not in case.topology.hosts or c.egress not in case.topology.hosts
        ]
        chains = tuple(c for c in loaded.chains if c.name not in lost)
        if not chains:
            raise InfeasibleError(f"{loaded.name}: every chain is cut off")
        catalogue = loaded.catalogue
        if not case.offload:
            catalogue = {
                n: replace(s, platforms=frozenset({"server"})) if "server" in s.platforms else s
                for n, s in catalogue.items()
            }
        problem = replace(
            replace(loaded, chains=chains, catalogue=catalogue).problem(case.topology, network),
            running=where,
        )
        return problem, _hard_or_soft(problem, settings), dict.fromkeys(lost, 1.0)
    lost_share: dict[str, float] = {}
    graphs: list[ServiceGraph] = []
    for graph in case.graphs:
        kept, lost = without_lost(graph, fabric)
        prefix = f"{graph.name}/" if len(case.graphs) > 1 else ""
        lost_share |= {prefix + name: 1.0 for name in lost}
        if kept.traffic:
            graphs.append(kept)
    if not graphs:
        raise InfeasibleError("every traffic is cut off")
    forced: dict[str, dict[str, str]] = {
        g.name: {}
        if case.offload
        else dict.fromkeys(g.nfs, "offloading is switched off in this scenario")
        for g in graphs
    }
    for graph in graphs:
        pinned = forced_by_pins(graph, functions_of(graph), case.topology.servers)
        forced[graph.name] = pinned | forced[graph.name]
    while True:
        parts = [_cut(g, fabric, forced[g.name]) for g in graphs]
        if len(case.graphs) > 1:
            parts = [with_prefix(p) for p in parts]
        problem = problem_of(parts, fabric, network, running=where, marginal=marginal)
        if held:
            problem = _held(problem, settings)
        try:
            return problem, _hard_or_soft(problem, settings), lost_share
        except InfeasibleError as error:
            name, nf = _too_big(parts, error)
            if not name or nf in forced[name]:
                wide = problem_of(
                    parts,
                    fabric,
                    network,
                    everywhere=True,
                    running=where,
                    marginal=marginal,
                )
                return wide, _hard_or_soft(wide, settings), lost_share
            forced[name][nf] = "no switch holds it"


def nodes_known(topology: Topology) -> set[str]:
    """Hosts that exist."""
    return set(topology.hosts)


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


def run_scenario(
    case: Case, scenario: Scenario, settings: Settings, running: Mapping[str, str] | None = None
) -> Outcome:
    """One scenario's outcome; problems of the scenario become its `why`."""
    started = time.perf_counter()
    try:
        changed = scenario.apply(case)
        if changed.chains is None:
            fabric = Fabric(changed.topology)
            for graph in changed.graphs:
                kept, _ = without_lost(graph, fabric)
                if kept.traffic and settings.strategy != OPTIMAL:
                    check_offers(kept, fabric)
        held = scenario.name == BASE and bool(settings.workers)
        problem, solution, lost = place_case(changed, settings, running, held=held)
    except InfeasibleError as error:
        spent = time.perf_counter() - started
        return Outcome(scenario.name, "INFEASIBLE", why=str(error), seconds=spent)
    except OrchestratorError as error:
        spent = time.perf_counter() - started
        return Outcome(scenario.name, "ERROR", why=str(error), seconds=spent)
    facts = report(problem, solution)
    loads = sorted(facts.link_load.items(), key=lambda item: -item[1])
    before = running if running is not None else settings.running
    cores = next((s for s in solution.stages if s.objective == "cores"), None)
    return Outcome(
        scenario=scenario.name,
        status=solution.status,
        cores=facts.cores,
        rate_of=facts.rate_of,
        latency_us={n: round(v, 3) for n, v in facts.latency_us.items()},
        missed=facts.missed | lost,
        moved=tuple(
            f"{task}: {before[task]} -> {device}"
            for task, device in solution.device_of.items()
            if before and task in before and before[task] != device
        ),
        core_load={core: round(share, 6) for core, share in facts.core_load.items()},
        busiest=tuple(loads[:5]),
        device_of=dict(solution.device_of),
        paths=_paths(problem, solution),
        bound=cores.bound if cores else None,
        seconds=time.perf_counter() - started,
        why="\n".join(n for n in solution.notes if "cannot hold" in n or "do not hold" in n),
    )


def _paths(problem: Problem, solution: Solution) -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, list[tuple[str, ...]]] = {c: [] for c in problem.chains}
    for arc, way in zip(problem.arcs, solution.ways, strict=True):
        source, target = problem.place_of(way.source), problem.place_of(way.target)
        if source == target:
            continue
        path = problem.fabric.path(source, target, way.tree)
        for chain in arc.chains:
            found[chain].append(path)
    return {c: tuple(paths) for c, paths in found.items()}


def unchanged(case: Case, scenario: Scenario, settings: Settings, base: Outcome) -> Outcome | None:
    """The base case's outcome, if only servers fail that run nothing of it; else None.

    Nothing is forwarded through a server, so all ways stay and what is left is the base case with
    fewer choices: its placement still holds, and no other is better, since it was proven best among
    more. (A switch that fails changes the trees: then there may be new ways, so it is placed anew.)
    """
    if not scenario.fail or scenario != Scenario(scenario.name, fail=scenario.fail):
        return None
    if base.status != "OPTIMAL" or not base.slo_met or settings.workers:
        return None
    nics = case.topology.smartnics
    used = {nics[d].server if d in nics else d for d in base.device_of.values()}
    for what in scenario.fail:
        kind, _, name = what.partition(":")
        if kind != "node" or name not in case.topology.servers or name in used:
            return None
    return replace(base, scenario=scenario.name, seconds=0.0)


Progress = Callable[[Outcome], None]


def run_local(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """The base case, then every scenario on the local cores; Ctrl-C keeps what is finished."""
    base = run_scenario(case, Scenario(BASE), settings)
    done = [base]
    if progress:
        progress(base)
    running = dict(settings.running) or base.device_of
    todo = _still_to_place(case, scenarios, settings, done, progress)
    if not todo:
        return _in_order(done, scenarios)
    count = min(processes or os.cpu_count() or 1, len(todo))
    if count <= 1:
        try:
            for scenario in todo:
                done.append(run_scenario(case, scenario, settings, running))
                if progress:
                    progress(done[-1])
        except KeyboardInterrupt:
            pass
        return _in_order(done, scenarios)
    executor = ProcessPoolExecutor(count, initializer=_ignore_interrupts)
    futures = [executor.submit(run_scenario, case, s, settings, running) for s in todo]
    try:
        for future in as_completed(futures):
            done.append(future.result())
            if progress:
                progress(done[-1])
    except KeyboardInterrupt:
        executor.shutdown(wait=False, cancel_futures=True)
    else:
        executor.shutdown()  # without waiting, its thread and the interpreter's end race for a pipe
    return _in_order(done, scenarios)


def _still_to_place(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    done: list[Outcome],
    progress: Progress | None,
) -> list[Scenario]:
    """Scenarios that change the base case (`done[0]`); the outcomes of the others are added."""
    todo: list[Scenario] = []
    for scenario in scenarios:
        outcome = unchanged(case, scenario, settings, done[0])
        if outcome is None:
            todo.append(scenario)
            continue
        done.append(outcome)
        if progress:
            progress(outcome)
    return todo


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_dask(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    address: str,
    *,
    progress: Progress | None = None,
) -> list[Outcome]:
    """The same on a Dask cluster; a scenario whose worker dies is run again by another."""
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise EnvironmentMissing(
            "dask.distributed is not installed; pip install 'p4-offload-orchestrator[scale]'"
        ) from error
    base = run_scenario(case, Scenario(BASE), settings)
    done = [base]
    running = dict(settings.running) or base.device_of
    todo = _still_to_place(case, scenarios, settings, done, progress)
    try:
        client = distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers there ({error})") from error
    try:
        futures = [
            client.submit(run_scenario, case, s, settings, running, pure=False, retries=5)
            for s in todo
        ]
        try:
            for outcome in _finished(distributed, client, futures):
                done.append(outcome)
                if progress:
                    progress(outcome)
        except KeyboardInterrupt:
            client.cancel(futures)
    finally:
        client.close()
    return _in_order(done, scenarios)


def _finished(distributed: Any, client: Any, futures: Sequence[Any]) -> Iterator[Outcome]:
    for future in distributed.as_completed(futures, loop=client.loop):
        yield future.result()


def _in_order(done: Sequence[Outcome], scenarios: Sequence[Scenario]) -> list[Outcome]:
    rank = {BASE: -1} | {s.name: i for i, s in enumerate(scenarios)}
    return sorted(done, key=lambda o: rank[o.scenario])
