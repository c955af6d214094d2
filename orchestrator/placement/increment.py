"""One chain more on a network that runs others: what stays, stays; what must move, is counted."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import InfeasibleError
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.decompose import applicable, solve_many
from orchestrator.placement.problem import MEMORY, ArcWay, Problem, Solution, TaskDevice, links_of
from orchestrator.placement.solve import solve

_RELEASES = (0, 5, 20, 80)
"""How many chains may move: none, then a few, then more; only as many as it takes."""


@dataclass(frozen=True, slots=True)
class Grown:
    """The new placement and which old chains have a task on another device."""

    solution: Solution
    moved: tuple[str, ...]


def residual(problem: Problem, running: Solution, free: Iterable[str]) -> Problem:
    """The problem of placing chains `free` beside all others, which stay as `running` has them."""
    wanted = set(free)
    used: dict[tuple[str, str], int] = defaultdict(int)
    held: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    cores: dict[str, set[int]] = defaultdict(set)
    tasks = {}
    for arc in problem.arcs:
        if set(arc.chains) & wanted:
            for node in (arc.source, arc.target):
                if node in problem.tasks:
                    tasks[node] = problem.tasks[node]
    for name, task in problem.tasks.items():
        if name in tasks or name not in running.device_of:
            continue
        device = problem.devices[running.device_of[name]]
        for resource, amount in task.needs.get(device.kind, {}).items():
            used[device.name, resource] += amount
            slot = running.slot_of.get((name, resource.partition(".")[0]))
            if slot is not None:
                held[device.name, slot][resource] += amount
    pools = {t.pool for t in tasks.values() if t.pool}
    for pool, shares in running.cores_of.items():
        if pool not in pools:
            for share in shares:
                cores[share.server].add(share.core)
                used[share.server, MEMORY] += problem.pools[pool].worker_memory_bytes
    taken = defaultdict(int, problem.link_taken)
    for arc, way in zip(problem.arcs, running.ways, strict=False):
        if not set(arc.chains) & wanted:
            for link in links_of(problem, way):
                taken[link] += sum(running.rate_of[c] for c in arc.chains)
    return replace(
        problem,
        devices={d.name: _rest(d, used, held, cores[d.name]) for d in problem.devices.values()},
        chains={n: c for n, c in problem.chains.items() if n in wanted},
        tasks=tasks,
        pools={n: p for n, p in problem.pools.items() if n in pools},
        arcs=tuple(a for a in problem.arcs if set(a.chains) & wanted),
        link_taken=dict(taken),
        running={t: d for t, d in running.device_of.items() if t in tasks},
    )


def _rest(
    device: TaskDevice,
    used: Mapping[tuple[str, str], int],
    held: Mapping[tuple[str, str], Mapping[str, int]],
    cores: set[int],
) -> TaskDevice:
    free = tuple(
        device.core_number(i) for i in range(device.cores) if device.core_number(i) not in cores
    )
    capacity = {r: n - used.get((device.name, r), 0) for r, n in device.capacity.items()}
    slots = tuple(
        replace(slot, free={r: n - here.get(r, 0) for r, n in slot.free.items()})
        if (here := held.get((device.name, slot.name)))
        else slot
        for slot in device.slots
    )
    return replace(device, capacity=capacity, cores=len(free), core_ids=free, slots=slots)


def grow(
    problem: Problem,
    running: Solution,
    *,
    limits: Limits | None = None,
    objectives: Sequence[str] = ("slo", "cores", "moves"),
    seed: int = 1,
) -> Grown:
    """Place the chains of `problem` that `running` does not have; `running` is of the same problem
    without them (its arcs come first). Others move only if it must be, and as few as that takes."""
    new = [c for c in problem.chains if c not in running.rate_of]
    old = [c for c in problem.chains if c in running.rate_of]
    random.Random(seed).shuffle(old)
    for count in (*_RELEASES, len(old)):
        if count > len(old):
            continue
        free = [*new, *old[:count]]
        rest = residual(problem, running, free)
        try:
            if applicable(rest):
                added = solve_many(rest, limits=limits or Limits(2.0, deterministic=False)).solution
            else:
                added = solve(rest, objectives=objectives, limits=limits)
        except InfeasibleError:
            if count == len(old):
                raise
            continue
        return _merged(problem, running, rest, added)
    raise AssertionError("unreachable")


def _merged(problem: Problem, running: Solution, rest: Problem, added: Solution) -> Grown:
    ways: dict[int, ArcWay] = dict(enumerate(running.ways))
    inner = iter(added.ways)
    for index, arc in enumerate(problem.arcs):
        if set(arc.chains) & set(rest.chains):
            ways[index] = next(inner)
    solution = Solution(
        {**running.device_of, **added.device_of},
        tuple(ways[i] for i in range(len(problem.arcs))),
        {**running.cores_of, **added.cores_of},
        {**running.rate_of, **added.rate_of},
        stages=added.stages,
        slot_of={**running.slot_of, **added.slot_of},
    )
    moved = {
        chain
        for arc in problem.arcs
        for chain in arc.chains
        if chain in running.rate_of
        and running.device_of.get(arc.target) != solution.device_of.get(arc.target)
    }
    return Grown(solution, tuple(sorted(moved)))
