"""Why NFs stand on servers of the runtime that they do, where a network has several."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.cuts import Cuts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.model.topology import Topology
from orchestrator.runtimes import runtime


def why_on_runtimes(
    cuts: Cuts, plan: Plan, graph: ServiceGraph, topology: Topology
) -> Mapping[str, str]:
    """By unit: its runtime, and which NFs others lack of its group, which stands on one as a whole."""
    there = sorted({server.runtime for server in topology.servers.values()})
    if len(there) < 2:
        return {}
    why: dict[str, str] = {}
    for group, cores in zip(cuts.groups, plan.cores_of, strict=True):
        mine = topology.servers[cores[0].server].runtime
        types = dict.fromkeys(graph.nfs[name].type for name in group.nfs)
        reasons = [f"runtime {mine}"]
        for name in there:
            lacking = [each for each in types if each not in runtime(name).nf_types]
            if lacking:
                reasons.append(f"{name} has no {', '.join(lacking)}")
        why |= dict.fromkeys(group.units, "; ".join(reasons))
    return why
