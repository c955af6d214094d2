"""From a solved model to a placement."""

from __future__ import annotations

from collections import defaultdict

from ortools.sat.python import cp_model

from orchestrator.placement.dispatch import proportional
from orchestrator.placement.exact.draft import KBIT, ModelDraft
from orchestrator.placement.measure import number_cores
from orchestrator.placement.problem import CoreShare, SlotOf, Solution, Task
from orchestrator.placement.slots import pack


def extract(draft: ModelDraft, solver: cp_model.CpSolver) -> Solution:
    """The placement that a solver found; cores are numbered server by server."""
    problem = draft.problem
    device_of = {
        task: device for (task, device), lit in draft.on.items() if solver.boolean_value(lit)
    }
    ways = tuple(
        next(way for way, lit in choices.items() if solver.boolean_value(lit))
        for choices in draft.hop
    )
    rate_of: dict[str, int] = {}
    for chain, rate in draft.rate.items():
        spec = problem.chains[chain]
        if isinstance(rate, int):
            rate_of[chain] = spec.rate
        else:
            carried = solver.value(rate) * KBIT
            close = spec.rate <= carried < spec.rate + KBIT
            rate_of[chain] = spec.rate if close else carried
    if problem.share_cores:
        cores_of = _shared_cores(draft, solver, device_of)
    else:
        cores_of = number_cores(problem, device_of, rate_of)
    return Solution(device_of, ways, cores_of, rate_of, slot_of=_slots(draft, solver, device_of))


def _slots(draft: ModelDraft, solver: cp_model.CpSolver, device_of: dict[str, str]) -> SlotOf:
    """As chosen where blocks are short; anywhere else one instance could hold everything."""
    problem = draft.problem
    slots: dict[tuple[str, str], str] = {}
    placed: defaultdict[str, list[Task]] = defaultdict(list)
    for name, device in device_of.items():
        placed[device].append(problem.tasks[name])
    taken: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for (task, where, slot), literal in draft.slot.items():
        if solver.boolean_value(literal):
            taken[where].append((task, slot))
    for device in problem.devices.values():
        blocks = {slot.name: slot.block for slot in device.slots}
        chosen = {(task, blocks[slot]): slot for task, slot in taken[device.name]}
        rest = pack(device, placed[device.name], {block for _, block in chosen})
        slots |= chosen | (rest or {})
    return slots


def _shared_cores(
    draft: ModelDraft, solver: cp_model.CpSolver, device_of: dict[str, str]
) -> dict[str, tuple[CoreShare, ...]]:
    cores_of: dict[str, tuple[CoreShare, ...]] = {}
    for pool in draft.problem.pools:
        given: list[CoreShare] = []
        for server in {device_of[t] for t in draft.problem.pool_tasks[pool]}:
            device = draft.problem.devices[server]
            used = [
                c
                for c in range(device.cores)
                if (pool, server, c) in draft.uses
                and solver.boolean_value(draft.uses[pool, server, c])
            ]
            if not used:
                continue
            loads = [solver.value(draft.share[pool, server, c]) for c in used]
            if not any(loads):
                loads = [1] * len(used)
            total = sum(loads)
            slices = proportional(len(draft.problem.classes(pool)), loads)
            given += [
                CoreShare(server, device.core_number(c), n / total, own)
                for c, n, own in zip(used, loads, slices, strict=True)
                if n
            ]
        cores_of[pool] = tuple(given)
    return cores_of
