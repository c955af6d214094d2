"""Placement at data-centre scale: seconds and optimality gap on seeded fat-tree instances.

The gap is (cores - bound) / cores, the bound from the same run: column generation's Lagrangian bound.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

import placement_instances as instances

from orchestrator.placement.checker import check
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.decompose import Scaled, solve_many
from orchestrator.placement.increment import grow
from orchestrator.placement.problem import Problem

Result = dict[str, Any]


@cache
def _k8() -> tuple[Problem, Scaled, float]:
    return _run(8, 100, 25.0)


@cache
def _k16() -> tuple[Problem, Scaled, float]:
    return _run(16, 1000, 240.0)


def _run(k: int, chains: int, seconds: float) -> tuple[Problem, Scaled, float]:
    problem = instances.fat_tree_instance(k, chains)
    started = time.perf_counter()
    solved = solve_many(problem, limits=Limits(seconds, deterministic=False))
    spent = time.perf_counter() - started
    assert check(problem, solved.solution) == ()
    used = solved.cores / sum(s.cores for s in problem.servers())
    assert 0.6 <= used <= 0.8, f"{used:.0%} of the cores are used: not the instance that is meant"
    return problem, solved, spent


def place_k8_100_seconds() -> Result:
    """100 chains on a k=8 fat-tree: all SLOs met, cores minimised."""
    return _figure("place_k8_100_seconds", _k8()[2], "s", "goal: 30 s")


def place_k8_100_gap() -> Result:
    """Its gap."""
    scaled = _k8()[1]
    return _figure("place_k8_100_gap", scaled.gap, "ratio", _bound_words(scaled, "goal: 0.05"))


def place_increment_seconds() -> Result:
    """One chain more, the others fixed (and movable only if it must be)."""
    problem = instances.fat_tree_instance(8, 100, extra=1)
    last = list(problem.chains)[-1]
    base = replace(
        problem,
        chains={n: c for n, c in problem.chains.items() if n != last},
        arcs=tuple(a for a in problem.arcs if last not in a.chains),
        tasks={n: t for n, t in problem.tasks.items() if not n.startswith(f"{last}/")},
        pools={n: p for n, p in problem.pools.items() if n != last},
    )
    running = solve_many(base, limits=Limits(25.0, deterministic=False)).solution
    started = time.perf_counter()
    grown = grow(problem, running)
    spent = time.perf_counter() - started
    assert check(problem, grown.solution) == ()
    words = f"goal: 2 s; {len(grown.moved)} other chains moved"
    return _figure("place_increment_seconds", spent, "s", words)


def place_k16_1000_seconds() -> Result:
    """1,000 chains on a k=16 fat-tree by column generation."""
    return _figure("place_k16_1000_seconds", _k16()[2], "s", "goal: 300 s")


def place_k16_1000_gap() -> Result:
    """Its gap."""
    scaled = _k16()[1]
    return _figure("place_k16_1000_gap", scaled.gap, "ratio", _bound_words(scaled, "goal: 0.15"))


def _bound_words(scaled: Scaled, goal: str) -> str:
    return (
        f"{goal}; {scaled.cores} cores against a bound of {scaled.bound} "
        f"(each chain alone: {scaled.alone}; {scaled.iterations} price updates)"
    )


def _figure(name: str, value: float, unit: str, compared_with: str) -> Result:
    return {"name": name, "value": round(value, 4), "unit": unit, "compared_with": compared_with}
