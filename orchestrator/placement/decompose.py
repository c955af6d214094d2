"""Placement of many chains: column generation for the bound, CP-SAT over the columns for the answer.

A column is one way to run one chain: which of its tasks are offloaded, to the switch of its ingress, of
its server, of its egress or to one far switch, and which server runs the rest. The master problem
chooses one column a chain under the servers' cores, the servers' links and the switches' tables. Paths
through the middle of the network (trees) are chosen afterwards. Columns are some of all placements; the
bound holds for all of them (docs/decisions/0010-placement-model.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from orchestrator.errors import InfeasibleError
from orchestrator.placement.columns.choice import Choice, candidates, choose, cores_of, greedy
from orchestrator.placement.columns.generation import generate
from orchestrator.placement.columns.routing import route
from orchestrator.placement.columns.space import Prices, Space
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.problem import MEMORY, SERVER, SWITCH, ObjectiveStage, Problem, Solution
from orchestrator.placement.slots import pack_all

_MOST_FLEXIBLE = 10
_GENERATION = 0.5
"""Share of the time that may go into the bound."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A placement of many chains with its bound on cores and what the search did."""

    solution: Solution
    cores: int
    bound: int
    alone: int
    """What all chains need if each has the network to itself: the bound at prices of 0."""
    iterations: int
    columns: int
    seconds: float

    @property
    def gap(self) -> float:
        """(cores - bound) / cores."""
        return (self.cores - self.bound) / max(self.cores, 1)


def applicable(problem: Problem) -> bool:
    """Whether every chain is a line of its own tasks, with cores of its own, and neither memory nor
    packets/s are short."""
    largest = max((p.worker_memory_bytes for p in problem.pools.values()), default=0)
    if any(largest * s.cores > s.capacity.get(MEMORY, 0) for s in problem.servers()):
        return False
    if any(d.packets_per_second for d in problem.devices.values()):
        return False
    if problem.share_cores or problem.pinned or problem.apart or problem.together:
        return False
    seen: set[str] = set()
    for chain, indices in problem.chain_arcs.items():
        arcs = [problem.arcs[i] for i in indices]
        if not arcs or any(len(a.chains) != 1 for a in arcs):
            return False
        if any(a.target != b.source for a, b in pairwise(arcs)) or arcs[0].source[0] != "@":
            return False
        for arc in arcs:
            task = problem.tasks[arc.target]
            if arc.target in seen or (task.pool and task.pool != chain):
                return False
            if len(problem.pool_tasks.get(chain, ())) > _MOST_FLEXIBLE:
                return False
            seen.add(arc.target)
        if len(problem.tasks[arcs[-1].target].candidates) != 1:
            return False
        for arc in arcs:
            kinds = {problem.devices[d].kind for d in problem.tasks[arc.target].candidates}
            if not kinds & {SWITCH, SERVER}:
                return False
    servers = {(s.cycles_per_second, s.runtime) for s in problem.servers()}
    return len(servers) == 1 and len(seen) == len(problem.tasks)


def solve_many(problem: Problem, *, limits: Limits | None = None, seed: int = 1) -> Scaled:
    """Place many chains with few cores. InfeasibleError when no column choice is found in time."""
    started = time.perf_counter()
    limits = limits or Limits(seconds=25.0, deterministic=False)
    space = Space(problem, seed)
    first = greedy(space, Prices(space, {}))
    generated = generate(
        space, first.values() if first else (), started + limits.seconds * _GENERATION
    )
    start = _fewest(first, greedy(space, generated.prices))
    columns = candidates(space, generated.columns, generated.prices, start)
    chosen = choose(space, columns, start, limits, started)
    solution = route(space, chosen)
    slots = pack_all(problem, solution.device_of)
    if slots is None:
        raise InfeasibleError(f"{problem.name}: the chosen switches' blocks do not hold it")
    cores = cores_of(chosen)
    seconds = time.perf_counter() - started
    bound = math.ceil(generated.bound - 1e-6)
    status = "OPTIMAL" if cores == bound else "FEASIBLE"
    stage = ObjectiveStage("cores", cores, bound, status, round(seconds, 3))
    return Scaled(
        replace(solution, stages=(stage,), slot_of=slots),
        cores,
        bound,
        space.least_cores(),
        generated.iterations,
        sum(len(columns_of) for columns_of in generated.columns.values()),
        seconds,
    )


def _fewest(*choices: Choice | None) -> Choice | None:
    """The choice with the fewest cores."""
    choices_left: Sequence[Choice] = [c for c in choices if c is not None]
    return min(choices_left, key=cores_of) if choices_left else None
