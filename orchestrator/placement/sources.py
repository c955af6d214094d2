"""Where the figures of a plan come from: what was measured, and on which machine; what is estimated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.base import NetworkFunction
from orchestrator.placement.measure import latency_parts
from orchestrator.placement.problem import Problem, Solution
from orchestrator.placement.resources import SCALE_OUT_LOAD
from orchestrator.runtimes import runtime
from orchestrator.targets import profile_of


def sources(
    problem: Problem,
    solution: Solution,
    nfs: Sequence[NetworkFunction[Any]],
    new_flows: bool,
) -> Iterator[str]:
    """Sentences, none where nothing was measured: runtimes and switches in use, NFs that were not.

    `new_flows`: some traffic says how many of its packets begin a flow.
    """
    used = {problem.devices[d].runtime for d in solution.device_of.values()} - {""}
    for name in sorted(used):
        there = runtime(name)
        if there.profile is None:
            continue
        yield f"costs of NFs on runtime {name}: {there.profile.measured}"
        for nf in nfs:
            if there.cost(type(nf)) is None:
                continue
            measured = there.profile.nfs.get(nf.type)
            if measured is None:
                yield f"{nf.name} ({nf.type}) was not measured: {there.source(nf)}"
            elif new_flows and nf.state_entries and not measured.tells_new_flows:
                yield f"{nf.name} ({nf.type}): packets that begin a flow count as others, unmeasured"
    switches = problem.fabric.topology.switches
    on = {d for d in solution.device_of.values() if d in switches}
    for target in sorted({switches[d].target for d in on if not switches[d].packets_per_second}):
        profile = profile_of(target)
        if profile is not None:
            most = f"{profile.packets_per_second:,} packets/s"
            yield f"a pass through {profile.name}: at most {most}, {profile.measured}"


def begins_flows(graph: ServiceGraph) -> bool:
    """Whether some traffic says how many of its packets begin a flow."""
    return any(traffic.new_flows for traffic in graph.traffic)


def latencies(problem: Problem, solution: Solution, prefix: str = "") -> Iterator[str]:
    """Of each traffic, what of its latency was measured, and what is computed; else none."""
    devices = problem.devices.values()
    switches = "measured" if any(d.pass_us for d in devices) else "assumed"
    servers = "measured" if any(d.alone_ns for d in devices) else "estimated"
    if (switches, servers) == ("assumed", "estimated"):
        return
    for name in problem.chains:
        if not name.startswith(prefix):
            continue
        parts = latency_parts(problem, solution, name)
        yield (
            f"latency of {name.removeprefix(prefix)}: {parts.total:.0f} us: {parts.switches:.0f} in "
            f"switches ({switches}), {parts.servers:.0f} in servers ({servers}), {parts.waiting:.0f} in "
            f"their queues (M/D/1, were cores {SCALE_OUT_LOAD:.0%} busy, the most that is planned), "
            f"{parts.links:.0f} on links"
        )
