"""What a placement costs, in the terms of the objectives; strategies are compared by it.

The checker does not use this module: it counts again, by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.model.plan import Core
from orchestrator.placement.dispatch import class_loads, deal
from orchestrator.placement.problem import (
    SERVER,
    SWITCH,
    ArcWay,
    CoreShare,
    Problem,
    Solution,
    TaskDevice,
    links_of,
)

OBJECTIVES: dict[str, str] = {
    "slo": "share of the chains' required rates and latencies that is missed, summed (1 = one chain)",
    "throughput": "bit/s carried above the chains' minimum rates (maximised)",
    "cores": "worker cores in use",
    "latency": "sum of the chains' latencies, us",
    "moves": "tasks that leave the device where they run now",
    "bounces": "changes between a switch and a server",
    "hops": "links crossed, weighted by the rate expected there, Gbit/s",
}
DEFAULT_OBJECTIVES = ("slo", "cores", "latency", "moves", "hops")


def way_ns(problem: Problem, way: ArcWay) -> int:
    """Propagation over a way and one pass of every switch that it enters, ns."""
    links = links_of(problem, way)
    switches = problem.fabric.topology.switches
    return sum(
        1000
        * (
            problem.fabric.link(near, far).latency_us
            + (problem.pass_us(far) if far in switches else 0)
        )
        for near, far in links
    )


def processing_ns(problem: Problem, task: str, device: str, chain: str) -> int:
    """Time that a packet of a chain spends at a task's server, ns; switches' is in the ways.

    Its cycles, and how long it waits for packets before it; where it enters, what one that comes alone
    takes as well.
    """
    described = problem.devices[device]
    cycles = problem.tasks[task].cycles_on(described).get(chain, 0.0)
    if described.kind != SERVER or not cycles:
        return 0
    spent = math.ceil(cycles * 1e9 / described.cycles_per_second * (1 + described.waiting))
    return spent + (described.alone_ns if chain in problem.tasks[task].enters else 0)


def chain_latency_us(problem: Problem, solution: Solution, chain: str) -> float:
    """The longest way of a chain's packets, us."""
    at: dict[str, int] = {}
    followed: set[str] = set()
    for index in problem.chain_arcs[chain]:
        arc = problem.arcs[index]
        start = at.get(arc.source, 0)
        if not arc.source.startswith("@"):
            device = solution.device_of[arc.source]
            start += processing_ns(problem, arc.source, device, chain)
        reached = start + way_ns(problem, solution.ways[index])
        at[arc.target] = max(at.get(arc.target, 0), reached)
        followed.add(arc.source)
    ends = problem.chains[chain].ends or tuple(n for n in at if n not in followed)
    last = max(
        (
            at.get(n, 0)
            + (0 if n.startswith("@") else processing_ns(problem, n, solution.device_of[n], chain))
            for n in ends
        ),
        default=0,
    )
    return problem.chains[chain].base_latency_us + last / 1000


@dataclass(frozen=True, slots=True)
class Latency:
    """What a chain's latency consists of on its longest way, us."""

    links: float
    switches: float
    servers: float
    waiting: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.links + self.switches + self.servers + self.waiting


def latency_parts(problem: Problem, solution: Solution, chain: str) -> Latency:
    """The parts of `chain_latency_us`: propagation and access, passes, work on servers, queues there."""
    total = chain_latency_us(problem, solution, chain)
    silent = replace(problem, switch_latency_us=0, devices=_changed(problem, pass_us=0))
    in_switches = total - chain_latency_us(silent, solution, chain)
    prompt = replace(problem, devices=_changed(problem, waiting=0.0))
    waiting = total - chain_latency_us(prompt, solution, chain)
    first = problem.chains[chain].first_pass_us
    idle = replace(
        problem, tasks={n: replace(t, cycles={}, cycles_by={}) for n, t in problem.tasks.items()}
    )
    served = total - chain_latency_us(idle, solution, chain) - waiting
    in_switches += first
    return Latency(total - in_switches - served - waiting, in_switches, served, waiting)


def _changed(problem: Problem, **fields: Any) -> dict[str, TaskDevice]:
    return {name: replace(device, **fields) for name, device in problem.devices.items()}


def chain_cycles(
    problem: Problem, server: str, tasks: Iterable[str], rate_of: Mapping[str, int]
) -> dict[str, float]:
    """Cycles/s that tasks cost a server at these rates (bit/s), by chain."""
    cycles: dict[str, float] = {}
    for task in tasks:
        for chain, n in problem.tasks[task].load_on(problem.devices[server]).items():
            spent = problem.chains[chain].cycles_per_second(n, rate_of[chain])
            cycles[chain] = cycles.get(chain, 0.0) + spent
    return cycles


def cores_needed(
    problem: Problem, pool: str, server: str, tasks: Iterable[str], rate_of: Mapping[str, int]
) -> int:
    """Worker cores that tasks of one pool need on a server at these rates (bit/s)."""
    cycles = sum(chain_cycles(problem, server, tasks, rate_of).values())
    wanted = math.ceil(cycles / problem.budget(server) - 1e-9)
    return max(wanted, problem.pools[pool].min_workers, 1)


def number_cores(
    problem: Problem, device_of: Mapping[str, str], rate_of: Mapping[str, int]
) -> dict[str, tuple[CoreShare, ...]]:
    """Concrete cores for pools that have theirs to themselves, in order, with the classes dealt."""
    given: dict[str, int] = {}
    cores_of: dict[str, tuple[CoreShare, ...]] = {}
    for pool in problem.pools:
        homes: dict[str, list[str]] = {}
        for task in problem.pool_tasks[pool]:
            if problem.devices[device_of[task]].kind == SERVER:
                homes.setdefault(device_of[task], []).append(task)
        mine: list[CoreShare] = []
        for server, tasks in homes.items():
            count = cores_needed(problem, pool, server, tasks, rate_of)
            start = given.get(server, 0)
            number = problem.devices[server].core_number
            cycles = chain_cycles(problem, server, tasks, rate_of)
            dealt = deal(class_loads(problem, pool, cycles), count, problem.budget(server))
            mine += [
                CoreShare(server, number(start + i), own.share, own.slices)
                for i, own in enumerate(dealt)
            ]
            given[server] = start + count
        cores_of[pool] = tuple(mine)
    return cores_of


def cores_used(solution: Solution) -> int:
    """Distinct worker cores that carry some load."""
    return len({(c.server, c.core) for cores in solution.cores_of.values() for c in cores})


def core_load(problem: Problem, solution: Solution) -> dict[Core, float]:
    """Share of its cycles that each used core spends."""
    load: dict[Core, float] = {}
    for pool, cores in solution.cores_of.items():
        for server in dict.fromkeys(c.server for c in cores):
            cycles = sum(
                problem.chains[chain].cycles_per_second(n, solution.rate_of[chain])
                for task in problem.pool_tasks[pool]
                if solution.device_of[task] == server
                for chain, n in problem.tasks[task].load_on(problem.devices[server]).items()
            )
            for core in cores:
                if core.server == server:
                    own = Core(server, core.core)
                    share = core.share * cycles / problem.devices[server].cycles_per_second
                    load[own] = load.get(own, 0.0) + share
    return load


def bounces(problem: Problem, solution: Solution) -> int:
    """Arcs that lead from a switch to a server or back."""
    kinds = problem.devices
    return sum(
        {_kind(kinds, w.source), _kind(kinds, w.target)} == {SWITCH, SERVER} for w in solution.ways
    )


def _kind(devices: Mapping[str, TaskDevice], name: str) -> str:
    described = devices.get(name)
    return SWITCH if described is None else described.kind


def missed(problem: Problem, solution: Solution) -> dict[str, float]:
    """Share of each chain's SLO that is missed: of its rate, plus of its latency limit."""
    result: dict[str, float] = {}
    for name, chain in problem.chains.items():
        short = max(0, chain.rate - solution.rate_of.get(name, 0)) / max(chain.rate, 1)
        if chain.max_latency_us is not None:
            late = chain_latency_us(problem, solution, name) - chain.max_latency_us
            short += max(0.0, late) / max(chain.max_latency_us, 1)
        if short > 1e-9:
            result[name] = short
    return result


def value(problem: Problem, solution: Solution, objective: str) -> float:
    """One objective's value, in the unit that OBJECTIVES names; smaller is better but for
    throughput."""
    if objective == "slo":
        return sum(missed(problem, solution).values())
    if objective == "throughput":
        return sum(solution.rate_of[c] - chain.rate for c, chain in problem.chains.items())
    if objective == "cores":
        return cores_used(solution)
    if objective == "latency":
        return sum(chain_latency_us(problem, solution, c) for c in problem.chains)
    if objective == "moves":
        return problem.moved(solution.device_of)
    if objective == "bounces":
        return bounces(problem, solution)
    if objective == "hops":
        return sum(
            len(links_of(problem, way)) * rate / 1e9
            for rate, way in zip(problem.expected, solution.ways, strict=True)
        )
    raise KeyError(objective)


@dataclass(frozen=True, slots=True)
class Score:
    """Values of the objectives in their order, as compared: smaller is better."""

    objectives: tuple[str, ...]
    values: tuple[float, ...]

    def better_than(self, other: Score) -> bool:
        """Lexicographically smaller, beyond rounding (1e-6 relative)."""
        for mine, theirs in zip(self.values, other.values, strict=True):
            if abs(mine - theirs) > 1e-6 * max(1.0, abs(mine), abs(theirs)):
                return mine < theirs
        return False


def score(problem: Problem, solution: Solution, objectives: Sequence[str]) -> Score:
    """How good a solution is for these objectives."""
    values = tuple(
        -value(problem, solution, o) if o == "throughput" else value(problem, solution, o)
        for o in objectives
    )
    return Score(tuple(objectives), values)


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """A placement in numbers, for tables and comparisons."""

    cores: int
    rate_of: dict[str, int]
    """bit/s"""
    latency_us: dict[str, float]
    link_load: dict[str, float]
    """Share of capacity by 'near->far', the busy directions."""
    missed: dict[str, float]
    core_load: dict[Core, float]
    """Share of its cycles that each core spends, by 'server.index'."""


def report(problem: Problem, solution: Solution) -> PlacementReport:
    """Everything that a comparison shows of one placement."""
    load: dict[tuple[str, str], float] = {}
    for arc, way in zip(problem.arcs, solution.ways, strict=True):
        for link in links_of(problem, way):
            load[link] = load.get(link, 0) + sum(solution.rate_of[c] for c in arc.chains)
    return PlacementReport(
        cores=cores_used(solution),
        rate_of=dict(solution.rate_of),
        latency_us={c: chain_latency_us(problem, solution, c) for c in problem.chains},
        link_load={
            f"{a}->{b}": used / problem.fabric.link(a, b).capacity
            for (a, b), used in sorted(load.items())
            if used
        },
        missed=missed(problem, solution),
        core_load=core_load(problem, solution),
    )
