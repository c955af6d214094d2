"""What of tasks' cycles loads a core, where a packet takes one of several ways through them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.placement.problem import Task


def with_shares(
    tasks: Mapping[str, Task], arcs: Mapping[tuple[str, str], Iterable[str]]
) -> dict[str, Task]:
    """The tasks of pools through which a packet takes one of several ways: it costs the costliest.

    `arcs`: the chains whose packets go from one node to another.
    """
    after: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (source, target), chains in arcs.items():
        for chain in chains:
            after[chain][source].append(target)
    pools: dict[str, list[Task]] = defaultdict(list)
    for task in tasks.values():
        if task.pool:
            pools[task.pool].append(task)
    shared: dict[str, Task] = {}
    for members in pools.values():
        shares = {
            chain: max(
                _costliest(after[chain], {t.id: c[chain] for t, c in costs if chain in c})
                for costs in _by_runtime(members)
            )
            for chain in dict.fromkeys(c for t in members for c in t.cycles)
        }
        if any(share < 1 for share in shares.values()):
            for task in members:
                mine = {chain: shares[chain] for chain in task.cycles}
                shared[task.id] = replace(task, shares=mine)
    return shared


def _by_runtime(tasks: Sequence[Task]) -> list[list[tuple[Task, Mapping[str, float]]]]:
    """Each task with its cycles by chain, for each runtime."""
    names = dict.fromkeys(name for task in tasks for name in task.cycles_by) or {"": None}
    return [[(task, task.cycles_by.get(name, task.cycles)) for task in tasks] for name in names]


def _costliest(after: Mapping[str, Sequence[str]], cycles: Mapping[str, float]) -> float:
    """The most cycles on any way, of those of all tasks together."""
    costs: dict[str, float] = {}

    def most(node: str) -> float:
        if node not in costs:
            behind = max((most(n) for n in after.get(node, ())), default=0.0)
            costs[node] = cycles.get(node, 0.0) + behind
        return costs[node]

    total = sum(cycles.values())
    reached = max((most(node) for node in list(after)), default=total)
    return min(1.0, reached / total) if total else 1.0
