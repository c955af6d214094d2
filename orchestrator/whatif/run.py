"""Run what-if scenarios: here, on the local cores, or on a Dask cluster. Nothing live is touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

from orchestrator.compile import Front
from orchestrator.errors import (
    DoesNotFit,
    EnvironmentMissing,
    InfeasibleError,
    InputError,
    ReportedError,
)
from orchestrator.graph import functions_of
from orchestrator.nfs.base import NetworkFunction
from orchestrator.placement.measure import report
from orchestrator.placement.offers import check_offers
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.solve import OPTIMAL
from orchestrator.placement.sources import begins_flows, sources
from orchestrator.whatif.cases import Settings, place_case, prepared, without_lost
from orchestrator.whatif.parallel import in_processes
from orchestrator.whatif.scenarios import BASE, RATE, Case, Scenario


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
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
    sources: tuple[str, ...] = ()
    """Where the figures come from, as sentences."""
    bound: float | None = None
    seconds: float = 0.0
    why: str = ""

    @property
    def slo_met(self) -> bool:
        """Whether every SLO is met."""
        return not self.missed and self.status not in ("INFEASIBLE", "ERROR")


def run_scenario(
    case: Case,
    scenario: Scenario,
    settings: Settings,
    running: Mapping[str, str] | None = None,
    fronts: Sequence[Front] = (),
) -> ScenarioOutcome:
    """One scenario's outcome; problems of the scenario become its `why`. `known`: see `prepared`."""
    started = time.perf_counter()
    try:
        changed = scenario.apply(case)
        if changed.chains is None:
            fabric = changed.fabric()
            for graph in changed.graphs:
                kept, _ = without_lost(graph, fabric)
                if kept.traffic and settings.strategy != OPTIMAL:
                    check_offers(kept, fabric)
        held = scenario.name == BASE and bool(settings.workers)
        problem, solution, lost = place_case(changed, settings, running, held=held, fronts=fronts)
    except (InfeasibleError, DoesNotFit) as error:
        spent = time.perf_counter() - started
        return ScenarioOutcome(scenario.name, "INFEASIBLE", why=str(error), seconds=spent)
    except ReportedError as error:
        spent = time.perf_counter() - started
        return ScenarioOutcome(scenario.name, "ERROR", why=str(error), seconds=spent)
    facts = report(problem, solution)
    loads = sorted(facts.link_load.items(), key=lambda item: -item[1])
    before = running if running is not None else settings.running
    cores = next((s for s in solution.stages if s.objective == "cores"), None)
    return ScenarioOutcome(
        scenario=scenario.name,
        status=solution.status,
        cores=facts.cores,
        rate_of=facts.rate_of,
        latency_us={n: round(v, 3) for n, v in facts.latency_us.items()},
        missed=_missed(facts.missed, lost),
        moved=tuple(
            f"{task}: {before[task]} -> {device}"
            for task, device in solution.device_of.items()
            if before and task in before and before[task] != device
        ),
        core_load={str(core): round(share, 6) for core, share in facts.core_load.items()},
        busiest=tuple(loads[:5]),
        device_of=dict(solution.device_of),
        paths=_paths(problem, solution),
        sources=tuple(
            sources(problem, solution, _functions(changed), any(map(begins_flows, changed.graphs)))
        ),
        bound=cores.bound if cores else None,
        seconds=time.perf_counter() - started,
        why="\n".join(n for n in solution.notes if "cannot hold" in n or "do not hold" in n),
    )


def _functions(case: Case) -> list[NetworkFunction[Any]]:
    return [nf for graph in case.graphs for nf in functions_of(graph).values()]


def _missed(late: Mapping[str, float], lost: Mapping[str, float]) -> dict[str, float]:
    """Of each SLO: what is lost with cut-off hosts, and what is missed of the rest."""
    return {
        name: lost.get(name, 0.0) + (1 - lost.get(name, 0.0)) * late.get(name, 0.0)
        for name in dict.fromkeys((*late, *lost))
    }


def _paths(problem: Problem, solution: Solution) -> dict[str, tuple[tuple[str, ...], ...]]:
    by_chain: dict[str, list[tuple[str, ...]]] = {c: [] for c in problem.chains}
    for arc, way in zip(problem.arcs, solution.ways, strict=True):
        source, target = problem.place_of(way.source), problem.place_of(way.target)
        if source == target:
            continue
        path = problem.fabric.path(source, target, way.tree)
        for chain in arc.chains:
            by_chain[chain].append(path)
    return {c: tuple(paths) for c, paths in by_chain.items()}


def capacity_end(outcomes: Sequence[ScenarioOutcome]) -> str:
    """Of a sweep, between which rates capacity ends, and what ends it; "" where it does not."""
    swept = [o for o in outcomes if o.scenario.startswith(RATE)]
    for met, beyond in pairwise(swept):
        if met.slo_met and not beyond.slo_met:
            told = [line.removeprefix("  - ") for line in beyond.why.splitlines()[1:]]
            limits = [line for line in told if not line.startswith("there is no way")]
            why = "; ".join(limits) or beyond.why or "SLOs are missed"
            return f"capacity ends between {met.scenario} and {beyond.scenario}: {why}"
    return ""


def unchanged(
    case: Case, scenario: Scenario, settings: Settings, base: ScenarioOutcome
) -> ScenarioOutcome | None:
    """The base case's outcome, if only servers fail that run nothing of it; else None.

    Nothing is forwarded through a server, so all ways stay and what is left is the base case with
    fewer choices: its placement still holds, and no other of those searched is better, since it was
    proven best among more. (A switch that fails changes the trees: then there may be new ways, so it
    is placed anew.)
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


Progress = Callable[[ScenarioOutcome], None]


def run_local(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
) -> list[ScenarioOutcome]:
    """The base case, then every scenario on the local cores; Ctrl-C keeps what is finished.

    What is not finished then is not computed: running processes are killed, queued work is not begun.
    """
    fronts = prepared(case)
    base = run_scenario(case, Scenario(BASE), settings, fronts=fronts)
    done = [base]
    if progress:
        progress(base)
    running = dict(settings.running) or base.device_of
    todo = _still_to_place(case, scenarios, settings, done, progress)
    if not todo:
        return _in_order(done, scenarios)
    count = min(processes or os.cpu_count() or 1, len(todo))
    work = partial(run_scenario, case, settings=settings, running=running, fronts=fronts)
    results = in_processes(work, todo, count) if count > 1 else (work(s) for s in todo)
    with suppress(KeyboardInterrupt), closing(results):  # what is done until Ctrl-C is the answer
        for outcome in results:
            done.append(outcome)
            if progress:
                progress(outcome)
    return _in_order(done, scenarios)


def _still_to_place(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    done: list[ScenarioOutcome],
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


def run_dask(
    case: Case,
    scenarios: Sequence[Scenario],
    settings: Settings,
    address: str,
    *,
    progress: Progress | None = None,
) -> list[ScenarioOutcome]:
    """The same on a Dask cluster; a scenario whose worker dies is run again by another.

    Each scenario is compiled from the start there: what graphs become is larger than what makes it.
    """
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
    futures: list[Any] = []
    try:
        for scenario in todo:
            arguments = case, scenario, settings, running
            futures.append(client.submit(run_scenario, *arguments, pure=False, retries=5))
        for outcome in _finished(distributed, client, futures):
            done.append(outcome)
            if progress:
                progress(outcome)
    except KeyboardInterrupt:
        client.cancel(futures)  # what a worker has begun it finishes, for nobody
    finally:
        client.close()
    return _in_order(done, scenarios)


def _finished(distributed: Any, client: Any, futures: Sequence[Any]) -> Iterator[ScenarioOutcome]:
    for future in distributed.as_completed(futures, loop=client.loop):
        yield future.result()


def _in_order(
    done: Sequence[ScenarioOutcome], scenarios: Sequence[Scenario]
) -> list[ScenarioOutcome]:
    rank = {BASE: -1} | {s.name: i for i, s in enumerate(scenarios)}
    return sorted(done, key=lambda o: rank[o.scenario])
