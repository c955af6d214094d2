"""Which device runs each task, which way each arc takes; pinning, affinity, anti-affinity."""

from __future__ import annotations

import math
from collections import defaultdict

from ortools.sat.python import cp_model

from orchestrator.errors import Constraint
from orchestrator.placement.exact.draft import KBIT, ModelDraft
from orchestrator.placement.problem import ArcWay, trees_between


def assign(draft: ModelDraft) -> None:
    """Every task on exactly one of its candidates; a one-server pool shares its literals."""
    problem = draft.problem
    leader: dict[str, str] = {}
    for task in problem.tasks.values():
        pool = problem.pools.get(task.pool)
        if pool is not None and pool.one_server and pool.name in leader:
            first = leader[pool.name]
            for device in task.candidates:
                if (first, device) in draft.on:
                    draft.on[task.id, device] = draft.on[first, device]
            continue
        for device in task.candidates:
            draft.on[task.id, device] = draft.model.new_bool_var(f"on[{task.id},{device}]")
        if pool is not None and pool.one_server:
            leader[pool.name] = task.id
        guard = draft.group(
            Constraint.DEVICES,
            (task.id,),
            lambda label=task.label or task.id: f"{label}: no device can run it",
        )
        if guard and not task.candidates:
            draft.model.add_bool_or([~guard[0]])
        elif not task.candidates:
            draft.model.add_bool_or([])
        else:
            draft.model.add_exactly_one(draft.on[task.id, d] for d in task.candidates)


def rate_variables(draft: ModelDraft) -> None:
    for chain in draft.problem.chains.values():
        least = math.ceil(chain.rate / KBIT)
        if not draft.free_rates:
            draft.rate[chain.name] = least
            continue
        most = max(least, max(chain.max_rate, 0) // KBIT)
        if "throughput" not in draft.objectives:
            most = least
        low = 0 if draft.soft else least
        draft.rate[chain.name] = draft.model.new_int_var(low, most, f"rate[{chain.name}]")


def hops(draft: ModelDraft) -> None:
    """For each arc: which two devices and which tree. Staying on a device is no hop."""
    for arc in draft.problem.arcs:
        choices: dict[ArcWay, cp_model.IntVar] = {}
        if _same_pool(draft, arc.source, arc.target):
            for device in draft.ends(arc.source):
                choices[ArcWay(device, device, 0)] = draft.on[arc.source, device]
            draft.hop.append(choices)
            continue
        by_source: dict[str, list[cp_model.IntVar]] = defaultdict(list)
        by_target: dict[str, list[cp_model.IntVar]] = defaultdict(list)
        for source in draft.ends(arc.source):
            for target in draft.ends(arc.target):
                for tree in trees_between(draft.problem, source, target):
                    way = ArcWay(source, target, tree)
                    literal = draft.model.new_bool_var(
                        f"hop[{arc.source},{arc.target},{source},{target},{tree}]"
                    )
                    choices[way] = literal
                    by_source[source].append(literal)
                    by_target[target].append(literal)
        guard = draft.group(
            Constraint.REACH,
            (arc.source, arc.target),
            lambda arc=arc: (
                f"there is no way from {draft.words(arc.source)} to {draft.words(arc.target)}"
            ),
        )
        for source in draft.ends(arc.source):
            draft.model.add(
                sum(by_source[source]) == draft.literal(arc.source, source)
            ).only_enforce_if(guard)
        for target in draft.ends(arc.target):
            draft.model.add(
                sum(by_target[target]) == draft.literal(arc.target, target)
            ).only_enforce_if(guard)
        draft.hop.append(choices)


def _same_pool(draft: ModelDraft, a: str, b: str) -> bool:
    if a.startswith("@") or b.startswith("@"):
        return False
    pool = draft.problem.tasks[a].pool
    return (
        bool(pool) and pool == draft.problem.tasks[b].pool and draft.problem.pools[pool].one_server
    )


def rules(draft: ModelDraft) -> None:
    """Pinning, affinity and anti-affinity."""
    for task, device in draft.problem.pinned.items():
        guard = draft.group(
            Constraint.PIN, (task,), lambda t=task, d=device: f"{draft.words(t)} is pinned to {d}"
        )
        variable = draft.on.get((task, device))
        literals = [variable] if variable is not None else []
        draft.model.add_bool_or([*literals, *(~g for g in guard)])
    for a, b in draft.problem.apart:
        guard = draft.group(
            Constraint.APART,
            (a, b),
            lambda a=a, b=b: (
                f"{draft.words(a)} and {draft.words(b)} must not share a device"
                + (", but both are in one server segment" if _same_pool(draft, a, b) else "")
            ),
        )
        for device in draft.problem.tasks[a].candidates:
            if (a, device) in draft.on and (b, device) in draft.on:
                draft.model.add_bool_or(
                    [~draft.on[a, device], ~draft.on[b, device], *(~g for g in guard)]
                )
    for a, b in draft.problem.together:
        guard = draft.group(
            Constraint.TOGETHER,
            (a, b),
            lambda a=a, b=b: f"{draft.words(a)} and {draft.words(b)} must share a device",
        )
        for device in {d for t, d in draft.on if t in (a, b)}:
            mine = draft.on.get((a, device), 0)
            theirs = draft.on.get((b, device), 0)
            draft.model.add(mine == theirs).only_enforce_if(guard)
