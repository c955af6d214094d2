"""The objectives as expressions, all minimised."""

from __future__ import annotations

import math

from orchestrator.placement.exact.draft import KBIT, Linear, ModelDraft, kind_of
from orchestrator.placement.problem import SERVER, SWITCH, links_of

_SHORT_SCALE = 10**9
_PREFERENCE = 50_000
"""Against 10^7 for the busiest arc's rate over one link: dropping early decides near-ties."""


def objective(draft: ModelDraft, name: str) -> Linear:
    """The expression of an objective; all are minimised."""
    if name not in draft.expressions:
        draft.expressions[name] = _expression(draft, name)
    return draft.expressions[name]


def _expression(draft: ModelDraft, name: str) -> Linear:
    problem = draft.problem
    if name == "slo":
        if not draft.soft:
            return 0
        terms: list[Linear] = []
        for chain in problem.chains.values():
            least = math.ceil(chain.rate / KBIT)
            short = draft.model.new_int_var(0, least, f"short[{chain.name}]")
            draft.model.add(short >= least - draft.rate[chain.name])
            terms.append(math.ceil(_SHORT_SCALE / max(least, 1)) * short)
        for name_, late in draft.late_ns.items():
            limit = problem.chains[name_].max_latency_us or 1
            terms.append(max(1, _SHORT_SCALE // (limit * 1000)) * late)
        return sum(terms)
    if name == "throughput":
        return -sum(draft.rate.values())
    if name == "cores":
        return sum(draft.core_on.values()) if problem.share_cores else sum(draft.cores.values())
    if name == "latency":
        return sum(draft.latency_ns.values())
    if name == "moves":
        return sum(
            1 - draft.on.get((task, device), 0)
            for task, device in problem.running.items()
            if task in problem.tasks
        )
    if name == "bounces":
        return sum(
            literal
            for choices in draft.hop
            for way, literal in choices.items()
            if {kind_of(problem, way.source), kind_of(problem, way.target)} == {SWITCH, SERVER}
        )
    if name == "hops":
        return _hop_cost(draft)
    raise KeyError(name)


def _hop_cost(draft: ModelDraft) -> Linear:
    """Rate-weighted links; ties go to lower trees, to what a task prefers, away from what is spare."""
    peak = max(draft.problem.expected, default=0.0) or 1.0
    terms: list[Linear] = []
    for rate, choices in zip(draft.problem.expected, draft.hop, strict=True):
        weight = 1000 * round(10_000 * rate / peak) + 100
        for way, literal in choices.items():
            cost = weight * len(links_of(draft.problem, way)) + way.tree
            if cost:
                terms.append(cost * literal)
    for task in draft.problem.tasks.values():
        for device in task.candidates:
            if (task.id, device) not in draft.on:
                continue
            elsewhere = bool(task.prefer) and device != task.prefer
            worse = elsewhere + draft.problem.devices[device].spare
            if worse:
                terms.append(worse * _PREFERENCE * draft.on[task.id, device])
    return sum(terms)


def in_units(draft: ModelDraft, name: str, value: float) -> float:
    """A solver's objective value in the unit of `measure.OBJECTIVES`."""
    if name == "slo":
        return value / _SHORT_SCALE
    if name == "throughput":
        floor = sum(chain.rate for chain in draft.problem.chains.values())
        return value * KBIT + floor
    if name == "latency":
        return value / 1000
    return value
