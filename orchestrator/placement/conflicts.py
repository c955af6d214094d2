"""Why nothing fits: an irreducible set of constraint groups, in sentences.

CP-SAT's own explanation is large (field notes: 28 groups where 5 do), so it is only the start of a
deletion filter: drop each group in turn, and keep it only if the rest becomes feasible without it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ortools.sat.python import cp_model

from orchestrator.errors import Blocking, Constraint
from orchestrator.placement import interruptible
from orchestrator.placement.cpsat import Limits, Model
from orchestrator.placement.problem import Problem


@dataclass(frozen=True, slots=True)
class Conflict:
    """Groups that cannot hold together, and their sentences. `irreducible`: every solve of the filter
    was decided within its time, so dropping any one group makes the rest feasible."""

    groups: tuple[Blocking, ...]
    sentences: tuple[str, ...]
    irreducible: bool


def explain(problem: Problem, *, seconds_each: float = 5.0) -> Conflict:
    """The conflict of an infeasible problem; no groups when it is feasible after all."""
    built = Model(problem, (), diagnose=True)
    limits = Limits(seconds=seconds_each)
    literals = {name: group.literal for name, group in built.draft.groups.items()}

    def solve(names: Iterable[Blocking]) -> tuple[cp_model.CpSolverStatus, list[Blocking]]:
        built.draft.model.clear_assumptions()
        chosen = {literals[n].index: n for n in names}
        built.draft.model.add_assumptions([literals[n] for n in chosen.values()])
        solver = built.solver(limits, seconds_each)
        status = interruptible.solve(solver, built.draft.model)
        if status != cp_model.INFEASIBLE:
            return status, []
        core = solver.sufficient_assumptions_for_infeasibility()
        return status, [chosen[i] for i in core if i in chosen]

    status, core = solve(literals)
    if status != cp_model.INFEASIBLE:
        return Conflict((), (), irreducible=False)
    needed = core
    if (needed and solve(needed)[0] != cp_model.INFEASIBLE) or not needed:
        needed = list(literals)
    decided = True
    for name in list(needed):
        if name not in needed:
            continue
        trial = [other for other in needed if other != name]
        status, core = solve(trial)
        if status == cp_model.INFEASIBLE:
            needed = [n for n in trial if n in core] if core else trial
        elif status == cp_model.UNKNOWN:
            decided = False
    needed.sort(key=_rank)
    return Conflict(
        tuple(needed), (*_sentences(built, needed), *_undivided(problem, needed)), decided
    )


_RANKS = {kind: rank for rank, kind in enumerate(Constraint)}


def _rank(group: Blocking) -> tuple[int, tuple[str, ...]]:
    return _RANKS[group.kind], group.names


def _sentences(built: Model, names: list[Blocking]) -> list[str]:
    """One sentence a group; servers' free cores are told in one."""
    cores = [n for n in names if n.kind is Constraint.CORES]
    told = [built.draft.groups[n].sentence() for n in names if n.kind is not Constraint.CORES]
    if cores:
        words = [built.draft.groups[n].sentence() for n in cores]
        if len(words) > 8:
            free = sum(int(m.group(1)) for w in words if (m := re.search(r"has (\d+)", w)))
            words = [f"{len(words)} servers have {free} free cores in all"]
        told.append("; ".join(words))
    return told


def _undivided(problem: Problem, names: Iterable[Blocking]) -> list[str]:
    """Pools that rules of place would tear apart: no group says that they stay on one server."""
    ruled: dict[str, set[str]] = defaultdict(set)
    for group in names:
        if group.kind in (Constraint.PIN, Constraint.APART):
            for task in group.names:
                ruled[problem.tasks[task].pool].add(task)
    return [
        f"{problem.pools[pool].label} run on one server: what is between a traffic's first and last "
        "function with state does not leave it"
        for pool, tasks in ruled.items()
        if pool and len(tasks) > 1 and problem.pools[pool].one_server
    ]
