"""Worker cores: enough cycles for the pools of a server, whether cores are shared or not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from ortools.sat.python import cp_model

from orchestrator.errors import Constraint
from orchestrator.placement.exact.draft import KBIT, MILLI, Linear, ModelDraft
from orchestrator.placement.exact.words import free_words, need_words, workers_words

_MANY_CORES = 100_000
"""More than any pool needs: when diagnosing, a server's size is a group of its own."""


def cores(draft: ModelDraft) -> None:
    problem = draft.problem
    by_server: dict[str, list[str]] = defaultdict(list)
    for pool in problem.pools:
        tasks = [problem.tasks[t] for t in problem.pool_tasks[pool]]
        names = {d for t in tasks for d in t.candidates if (t.id, d) in draft.on}
        flows = _task_flows(draft, pool)
        for server in problem.servers():
            if server.name in names:
                by_server[server.name].append(pool)
                _pool_at(draft, pool, server.name, flows)
    for server in problem.servers():
        pools = by_server[server.name]
        for pool in pools:
            shared = [use for (p, s, _), use in draft.uses.items() if (p, s) == (pool, server.name)]
            draft.workers[pool, server.name] = (
                sum(shared) if problem.share_cores else draft.cores[pool, server.name]
            )
        if not pools:
            continue
        guard = draft.group(
            Constraint.CORES, (server.name,), lambda s=server: free_words(draft, s.name)
        )
        if problem.share_cores:
            _shared(draft, server.name, pools, guard)
        else:
            draft.model.add(
                sum(draft.cores[pool, server.name] for pool in pools) <= server.cores
            ).only_enforce_if(guard)


def _task_flows(draft: ModelDraft, pool: str) -> dict[tuple[str, str, str], Linear]:
    """kbit/s of a chain through a task on a device; only where rates are variables."""
    flows: dict[tuple[str, str, str], Linear] = {}
    if not draft.free_rates:
        return flows
    done: dict[tuple[str, str], dict[str, Linear]] = {}
    for name in draft.problem.pool_tasks[pool]:
        task = draft.problem.tasks[name]
        devices = draft.ends(name)
        for chain in task.cycles:
            key = (chain, str([draft.on[name, d].index for d in devices]))
            if key not in done:
                literals = [draft.on[name, d] for d in devices]
                parts = draft.at_rate(chain, literals, f"flow[{chain},{name}]")
                done[key] = dict(zip(devices, parts, strict=True))
            for device in devices:
                flows[chain, name, device] = done[key][device]
    return flows


def _pool_at(
    draft: ModelDraft, pool: str, server: str, flows: dict[tuple[str, str, str], Linear]
) -> None:
    """cores[pool,server]: enough cycles for the pool's tasks there."""
    problem, spec = draft.problem, draft.problem.pools[pool]
    tasks = [problem.tasks[t] for t in problem.pool_tasks[pool] if (t, server) in draft.on]
    device = problem.devices[server]
    literals = {draft.on[t.id, server].index: draft.on[t.id, server] for t in tasks}
    need = draft.group(Constraint.NEED, (pool,), lambda: need_words(draft, pool))
    limit = draft.group(Constraint.WORKERS, (pool,), lambda: workers_words(draft, pool))
    single = any(not t.replicable for t in tasks)
    top = _MANY_CORES if draft.diagnose else device.cores
    terms: list[Linear] = []
    fixed = 0.0
    for task in tasks:
        for chain, cycles in task.load_on(device).items():
            coefficient = _cycles(draft, chain, cycles)
            if draft.free_rates:
                terms.append(coefficient * flows[chain, task.id, server])
            else:
                rate = problem.chains[chain].rate
                exact = problem.chains[chain].cycles_per_second(cycles, rate)
                fixed += exact
                terms.append(math.ceil(exact * MILLI - 1e-6) * draft.on[task.id, server])
    budget = problem.budget(server)
    if problem.share_cores:
        _pool_shares(draft, pool, server, terms, list(literals.values()), single, need)
        return
    if len(literals) == 1 and not draft.free_rates:
        (literal,) = literals.values()
        wanted = max(spec.min_workers, math.ceil(fixed / budget - 1e-9), 1)
        most = 1 if single else spec.max_workers
        if most is not None and wanted > most:
            draft.model.add_bool_or([~literal, *(~g for g in limit)])
        if need:
            count = draft.model.new_int_var(0, max(wanted, 1), f"cores[{pool},{server}]")
            draft.model.add(count >= wanted * literal).only_enforce_if(need)
            draft.cores[pool, server] = count
        else:
            draft.cores[pool, server] = wanted * literal
        return
    count = draft.model.new_int_var(0, max(top, 0), f"cores[{pool},{server}]")
    draft.cores[pool, server] = count
    if terms:
        draft.model.add(budget * MILLI * count >= sum(terms)).only_enforce_if(need)
    for literal in literals.values():
        draft.model.add(count >= max(spec.min_workers, 1)).only_enforce_if([literal, *need])
    if spec.max_workers is not None:
        draft.model.add(count <= spec.max_workers).only_enforce_if(limit)
    for task in tasks:
        if not task.replicable:
            draft.model.add(count <= 1).only_enforce_if([draft.on[task.id, server], *limit])


def _pool_shares(
    draft: ModelDraft,
    pool: str,
    server: str,
    terms: Sequence[Linear],
    literals: Sequence[cp_model.IntVar],
    single: bool,
    need: Sequence[cp_model.IntVar],
) -> None:
    """share[pool,server,core]: the pool's load split over cores that others may use, too."""
    spec, device = draft.problem.pools[pool], draft.problem.devices[server]
    most = draft.problem.budget(server) * MILLI
    uses: list[cp_model.IntVar] = []
    shares: list[cp_model.IntVar] = []
    for core in range(device.cores):
        key = (pool, server, core)
        draft.share[key] = draft.model.new_int_var(0, most, f"share[{pool},{server},{core}]")
        draft.uses[key] = draft.model.new_bool_var(f"uses[{pool},{server},{core}]")
        draft.model.add(draft.share[key] <= most * draft.uses[key])
        uses.append(draft.uses[key])
        shares.append(draft.share[key])
    supply: list[Linear] = list(shares)
    if draft.diagnose:
        beyond = draft.model.new_int_var(0, most * _MANY_CORES, f"beyond[{pool},{server}]")
        free = draft.group(Constraint.CORES, (server,), lambda: free_words(draft, server))
        draft.model.add(beyond == 0).only_enforce_if(free)
        supply.append(beyond)
    draft.model.add(sum(supply) >= sum(terms)).only_enforce_if(list(need))
    for literal in literals:
        draft.model.add(sum(uses) >= max(1, spec.min_workers)).only_enforce_if(literal)
    limit = draft.group(Constraint.WORKERS, (pool,), lambda: workers_words(draft, pool))
    if spec.max_workers is not None:
        draft.model.add(sum(uses) <= spec.max_workers).only_enforce_if(limit)
    if single:
        for task in draft.problem.pool_tasks[pool]:
            if not draft.problem.tasks[task].replicable and (task, server) in draft.on:
                draft.model.add(sum(uses) <= 1).only_enforce_if([draft.on[task, server], *limit])


def _shared(
    draft: ModelDraft, server: str, pools: Sequence[str], guard: Sequence[cp_model.IntVar]
) -> None:
    device = draft.problem.devices[server]
    for core in range(device.cores):
        running = draft.model.new_bool_var(f"core[{server},{core}]")
        draft.core_on[server, core] = running
        for pool in pools:
            draft.model.add_implication(draft.uses[pool, server, core], running)
        draft.model.add(
            sum(draft.share[pool, server, core] for pool in pools)
            <= draft.problem.budget(server) * MILLI
        ).only_enforce_if(list(guard))
        if core:
            draft.model.add_implication(running, draft.core_on[server, core - 1])


def _cycles(draft: ModelDraft, chain: str, cycles: float) -> int:
    """Thousandths of cycles/s that one kbit/s of a chain costs."""
    size = draft.problem.chains[chain].packet_bytes
    return math.ceil(cycles * KBIT * MILLI / (8 * size) - 1e-9)
