"""Many chains by columns: checked placements, and a bound that no placement beats.

Oracle: the exact model's proven optimum on small fat-trees. Blind spot: large ones (tests/bench).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.placement_instances import fat_tree_instance

from orchestrator.placement.checker import check
from orchestrator.placement.cpsat import Limits, Model
from orchestrator.placement.decompose import applicable, solve_many
from orchestrator.placement.increment import grow
from orchestrator.placement.measure import cores_used

pytestmark = pytest.mark.slow

LIMITS = Limits(seconds=4)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(1, 4))]
)
def test_the_bound_is_valid_and_the_placement_checked(seed: int) -> None:
    problem = fat_tree_instance(4, 8, seed=seed)
    assert applicable(problem)
    solved = solve_many(problem, limits=LIMITS)
    assert check(problem, solved.solution) == ()
    assert cores_used(solved.solution) == solved.cores
    assert solved.alone <= solved.bound <= solved.cores
    status, exact = Model(problem, ("cores",)).solve(Limits(seconds=20))
    assert exact is not None
    best = cores_used(exact)
    assert solved.bound <= best
    if status == "OPTIMAL":
        assert best <= solved.cores


def test_scarce_tables_raise_the_bound() -> None:
    """Not the sum of what each chain needs alone: chains compete for the programmable switches."""
    solved = solve_many(fat_tree_instance(4, 24), limits=LIMITS)
    assert solved.bound > solved.alone
    assert solved.gap <= 0.1


def test_one_chain_more_leaves_the_others() -> None:
    problem = fat_tree_instance(4, 8, load=0.4, extra=1)
    last = list(problem.chains)[-1]
    base = replace(
        problem,
        chains={n: c for n, c in problem.chains.items() if n != last},
        arcs=tuple(a for a in problem.arcs if last not in a.chains),
        tasks={n: t for n, t in problem.tasks.items() if not n.startswith(f"{last}/")},
        pools={n: p for n, p in problem.pools.items() if n != last},
    )
    running = solve_many(base, limits=LIMITS).solution
    grown = grow(problem, running)
    assert check(problem, grown.solution) == ()
    assert grown.moved == ()
    assert all(grown.solution.device_of[t] == d for t, d in running.device_of.items())
