"""No baseline beats the optimiser, and the independent checker accepts what it returns."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from bench.placement_instances import small_instance

from orchestrator.errors import InfeasibleError
from orchestrator.graph import load_graph, load_topology
from orchestrator.placement.baselines import BASELINES, fill_rates, run_baseline
from orchestrator.placement.chains import load_chains
from orchestrator.placement.checker import check
from orchestrator.placement.conflicts import explain
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import score
from orchestrator.placement.solve import solve
from orchestrator.placement.topologies import resolve_topology
from orchestrator.whatif.cases import Settings, place_case
from orchestrator.whatif.scenarios import Case

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "examples"
SHIPPED = [*sorted(p.parent.name for p in EXAMPLES.glob("*/graph.json")), "lemur"]

OBJECTIVES = (
    ("slo", "cores", "latency"),
    ("slo", "latency", "cores"),
    ("slo", "cores", "bounces", "hops"),
    ("slo", "throughput", "cores"),
    ("slo", "moves", "cores", "latency"),
)


@pytest.mark.parametrize("seed", range(100))
def test_optimal_is_never_worse_than_a_baseline(seed: int) -> None:
    problem = small_instance(seed)
    objectives = OBJECTIVES[seed % len(OBJECTIVES)]
    if "moves" in objectives:
        rng = random.Random(seed)
        running = {t.id: rng.choice(t.candidates) for t in problem.tasks.values() if t.candidates}
        problem = replace(problem, running=running)
    placed_by = {}
    for name in BASELINES:
        solution = run_baseline(problem, name)
        if solution is None:
            continue
        if "throughput" in objectives:
            solution = fill_rates(problem, solution)
        assert check(problem, solution) == (), name
        placed_by[name] = solution
    try:
        best = solve(problem, objectives=objectives, limits=Limits(seconds=3))
    except InfeasibleError:
        assert not placed_by, f"{sorted(placed_by)} found a placement"
        assert explain(problem).groups
        return
    assert check(problem, best) == ()
    for name, solution in placed_by.items():
        mine, theirs = (score(problem, s, objectives) for s in (best, solution))
        assert not theirs.better_than(mine), f"{name}: {theirs.values} beats {mine.values}"


@pytest.mark.parametrize("objectives", OBJECTIVES, ids=",".join)
@pytest.mark.parametrize("name", SHIPPED)
def test_nor_on_what_is_shipped(name: str, objectives: tuple[str, ...]) -> None:
    if name == "lemur":
        loaded = load_chains(EXAMPLES / name / "chains.json")
        case = Case((), loaded, resolve_topology(loaded.topology))
    else:
        graph = load_graph(EXAMPLES / name / "graph.json").graph
        case = Case((graph,), None, load_topology("leaf-spine"))
    settings = Settings(objectives=objectives, limits=Limits(seconds=3))
    running: dict[str, str] = {}
    if "moves" in objectives:  # from where a baseline had it
        problem, _, _ = place_case(case, settings)
        start = run_baseline(problem, "switch-first")
        running = dict(start.device_of) if start is not None else {}
    problem, best, _ = place_case(case, settings, running)
    assert check(problem, best) == ()
    for baseline in BASELINES:
        placement = run_baseline(problem, baseline)
        if placement is None:
            continue
        if "throughput" in objectives:
            placement = fill_rates(problem, placement)
        assert check(problem, placement) == (), baseline
        mine, theirs = (score(problem, s, objectives) for s in (best, placement))
        assert not theirs.better_than(mine), f"{baseline}: {theirs.values} beats {mine.values}"
