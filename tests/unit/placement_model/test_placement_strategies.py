"""No baseline beats the optimiser, and the independent checker accepts what it returns."""

from __future__ import annotations

import pytest
from bench.placement_instances import small_instance

from orchestrator.errors import InfeasibleError
from orchestrator.placement.baselines import BASELINES, fill_rates, run_baseline
from orchestrator.placement.checker import check
from orchestrator.placement.conflicts import explain
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import score
from orchestrator.placement.solve import solve

OBJECTIVES = (
    ("slo", "cores", "latency"),
    ("slo", "latency", "cores"),
    ("slo", "cores", "bounces", "hops"),
    ("slo", "throughput", "cores"),
)


@pytest.mark.parametrize("seed", range(100))
def test_optimal_is_never_worse_than_a_baseline(seed: int) -> None:
    problem = small_instance(seed)
    objectives = OBJECTIVES[seed % len(OBJECTIVES)]
    found = {}
    for name in BASELINES:
        solution = run_baseline(problem, name)
        if solution is None:
            continue
        if "throughput" in objectives:
            solution = fill_rates(problem, solution)
        assert check(problem, solution) == (), name
        found[name] = solution
    try:
        best = solve(problem, objectives=objectives, limits=Limits(seconds=3))
    except InfeasibleError:
        assert not found, f"{sorted(found)} found a placement"
        assert explain(problem).groups
        return
    assert check(problem, best) == ()
    for name, solution in found.items():
        mine, theirs = (score(problem, s, objectives) for s in (best, solution))
        assert not theirs.better_than(mine), f"{name}: {theirs.values} beats {mine.values}"
