"""Trees for the chosen columns: the middle of the network, which columns leave open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from orchestrator.errors import InfeasibleError
from orchestrator.placement.columns.space import Column, Space
from orchestrator.placement.measure import chain_latency_us, number_cores, way_ns
from orchestrator.placement.problem import ArcWay, Problem, Solution, links_of, trees_between

_ORDERS = 20
_Load = dict[tuple[str, str], float]


def route(space: Space, chosen: Mapping[str, Column]) -> Solution:
    """A way for every arc: big chains first, each on the tree whose busiest link is least busy.

    On trouble, restarts in another order; InfeasibleError when none of 20 orders does.
    """
    problem = space.problem
    order = sorted(chosen, key=lambda c: -problem.chains[c].rate)
    for _ in range(_ORDERS):
        routed = _in_order(space, chosen, order)
        if routed is not None:
            return routed
        space.rng.shuffle(order)
    raise InfeasibleError(f"{problem.name}: no paths found for the chosen servers")


def _in_order(space: Space, chosen: Mapping[str, Column], order: Sequence[str]) -> Solution | None:
    problem = space.problem
    load: _Load = defaultdict(float, problem.link_taken)
    ways: dict[int, ArcWay] = {}
    device_of: dict[str, str] = {}
    rates = {c.name: c.rate for c in problem.chains.values()}
    for chain in order:
        for pick in (_least_busy(problem, load, rates[chain]), _fastest(problem)):
            devices, assigned = space.assign(chosen[chain], pick)
            device_of |= devices
            ways |= dict(zip(problem.chain_arcs[chain], assigned, strict=True))
            if _in_time(problem, chain, device_of, ways):
                break
        for way in assigned:
            for link in links_of(problem, way):
                load[link] += rates[chain]
                if load[link] > problem.fabric.link(*link).capacity * (1 + 1e-9):
                    return None
    return Solution(
        device_of,
        tuple(ways[i] for i in range(len(problem.arcs))),
        number_cores(problem, device_of, rates),
        rates,
    )


def _least_busy(problem: Problem, load: _Load, rate: int) -> Callable[[str, str], int]:
    def pick(a: str, b: str) -> int:
        def worst(tree: int) -> float:
            return max(
                (load[link] + rate) / max(problem.fabric.link(*link).capacity, 1)
                for link in links_of(problem, ArcWay(a, b, tree))
            )

        return min(trees_between(problem, a, b), key=worst)

    return pick


def _fastest(problem: Problem) -> Callable[[str, str], int]:
    def pick(a: str, b: str) -> int:
        trees = trees_between(problem, a, b)
        return min(trees, key=lambda tree: way_ns(problem, ArcWay(a, b, tree)))

    return pick


def _in_time(
    problem: Problem, chain: str, device_of: Mapping[str, str], ways: Mapping[int, ArcWay]
) -> bool:
    limit = problem.chains[chain].max_latency_us
    if limit is None:
        return True
    chosen_ways = tuple(ways.get(i, ArcWay("", "", 0)) for i in range(len(problem.arcs)))
    return chain_latency_us(problem, Solution(device_of, chosen_ways, {}, {}), chain) <= limit
