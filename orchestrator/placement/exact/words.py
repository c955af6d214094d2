"""What pools need, in the words of conflicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.placement.exact.draft import ModelDraft, listed
from orchestrator.placement.problem import MEMORY, SERVER, Task, TaskDevice, pool_chains

MIB = 1 << 20


def need_words(draft: ModelDraft, pool: str) -> str:
    """`chain web needs 3 cores at 1.1 Gbit/s` and what for."""
    problem, label = draft.problem, draft.problem.pools[pool].label
    total = sum(problem.chains[c].rate for c in pool_chains(problem, pool)) / 1e9
    tasks = [problem.tasks[t] for t in problem.pool_tasks[pool]]
    must = [t for t in tasks if {problem.devices[d].kind for d in t.candidates} <= {SERVER}]
    if not problem.servers():
        return f"{label} needs a server"
    fewest, most = (_fewest_cores(draft, pool, counted) for counted in (must, tasks))
    if not must:
        fewest = 0
    words = f"{fewest} core{'s' if fewest != 1 else ''}"
    if most > fewest:
        words += f" ({most} with all that may run on a server)"
    return f"{label} needs {words} at {total:.4g} Gbit/s"


def _fewest_cores(draft: ModelDraft, pool: str, tasks: Sequence[Task]) -> int:
    """Cores for these tasks of a pool on the fastest server."""
    problem = draft.problem
    loads = [
        sum(
            problem.chains[c].cycles_per_second(n, problem.chains[c].rate)
            for t in tasks
            for c, n in t.load_on(server).items()
        )
        / problem.budget(server.name)
        for server in problem.servers()
    ]
    return max(problem.pools[pool].min_workers, math.ceil(min(loads) - 1e-9), 1)


def workers_words(draft: ModelDraft, pool: str) -> str:
    spec = draft.problem.pools[pool]
    names = [
        draft.problem.tasks[t].label or t
        for t in draft.problem.pool_tasks[pool]
        if not draft.problem.tasks[t].replicable
    ]
    if names:
        return f"{spec.label}: {', '.join(dict.fromkeys(names))} cannot be replicated: 1 worker"
    return f"{spec.label}: at most {spec.max_workers} workers" + (
        f" ({spec.why})" if spec.why else ""
    )


def free_words(draft: ModelDraft, server: str) -> str:
    device = draft.problem.devices[server]
    return f"{server} has {device.cores} free cores"


def memory_words(draft: ModelDraft, server: TaskDevice) -> str:
    """`server1 has 1024 MiB free; a worker of ids takes 600 MiB`."""
    pools = [p for p in draft.problem.pools.values() if (p.name, server.name) in draft.workers]
    pools.sort(key=lambda p: -p.worker_memory_bytes)
    each = listed(
        f"a worker of {p.label} takes {math.ceil(p.worker_memory_bytes / MIB)} MiB"
        for p in pools
        if p.worker_memory_bytes
    )
    return f"{server.name} has {server.capacity.get(MEMORY, 0) // MIB} MiB of memory free; {each}"
