"""What is asked of the network and what is left of it, in the units of the constraints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

from orchestrator.fitting.pipelines import as_planned
from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import Cuts
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.model.plan import Core, Plan
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.placement.problem import MEMORY
from orchestrator.runtimes import runtime
from orchestrator.targets.pipelines import SHIPPED, Pipeline, Pipelines, footprint

SCALE_OUT_LOAD = 0.75
"""A core is planned to at most this share of its cycles (Metron's scale-out threshold)."""

SWITCH_LATENCY_US = 1
"""Allowance for one pass through a hardware switch's pipeline."""


WAITING = SCALE_OUT_LOAD / (2 * (1 - SCALE_OUT_LOAD))
"""How long a packet waits, in service times, where packets that cost the same come at random to a core
that is as busy as may be planned: M/D/1, Pollaczek and Khinchine."""


@dataclass(frozen=True, slots=True)
class Used:
    """What other graphs on the same network hold already."""

    cores: frozenset[Core] = frozenset()
    entries: Mapping[str, Counter[tuple[str, str]]] = field(
        default_factory=dict[str, Counter[tuple[str, str]]]
    )
    link_rate: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """bit/s by (from node, to node) of a link."""
    tables: Mapping[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    """Entries by switch and table (`acl.ipv4` is that of the instance `acl`)."""
    memory_bytes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of workers, by server."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One traffic's way through the units: those that its packets may reach."""

    traffic: Traffic
    units: frozenset[str]
    arcs: frozenset[tuple[str, str]]
    entries: tuple[tuple[str, str], ...]
    """(ingress switch, first unit)."""

    @property
    def packets_per_second(self) -> float:
        """From its rate and mean packet size."""
        return self.traffic.rate / (8 * self.traffic.packet_bytes)


def demands(graph: ServiceGraph, cuts: Cuts) -> tuple[Demand, ...]:
    """What each traffic of the graph reaches on its way to its egress."""
    digraph = nx.DiGraph()
    digraph.add_nodes_from(cuts.units)
    digraph.add_edges_from((arc.source, arc.target) for arc in cuts.arcs)
    result: list[Demand] = []
    for traffic in graph.traffic:
        entries = tuple((e.switch, e.target) for e in cuts.entries if e.endpoint == traffic.ingress)
        ends = {u.id for u in cuts.units.values() if u.endpoint == traffic.egress}
        ahead = {n for _, first in entries for n in (first, *nx.descendants(digraph, first))}
        behind = {n for end in ends for n in (end, *nx.ancestors(digraph, end))}
        units = frozenset(ahead & behind)
        arcs = frozenset((a, b) for a, b in digraph.edges if a in units and b in units)
        result.append(Demand(traffic, units, arcs, entries))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Network:
    """What placement may use: pipelines by switch, and what is taken."""

    pipelines: Mapping[str, Pipeline]
    used: Used

    @classmethod
    def planned(
        cls, topology: Topology, used: Used | None = None, builds: Pipelines = SHIPPED
    ) -> Network:
        """A topology's, where nothing needs to be built yet (`Target.assumed`)."""
        kinds = {(s.pipeline, s.target) for s in topology.switches.values()}
        planned = {
            kind: as_planned(builds.planned(*kind), builds.planned_build(*kind)) for kind in kinds
        }
        switches = topology.switches.values()
        return cls({s.name: planned[s.pipeline, s.target] for s in switches}, used or Used())


def used_by(bundles: Mapping[str, Bundle], topology: Topology) -> Used:
    """What deployed graphs hold of a network."""
    fabric = Fabric(topology)
    tables: dict[str, Counter[str]] = {}
    entries: dict[str, Counter[tuple[str, str]]] = {}
    rates: Counter[tuple[str, str]] = Counter()
    cores: set[Core] = set()
    memory: Counter[str] = Counter()
    for bundle in bundles.values():
        for switch, use in bundle.block_use.items():
            for name, count in use.items():
                if name == MEMORY:
                    memory[switch] += count
                    continue
                block, table = name.split(".", 1)
                entries.setdefault(switch, Counter())[block, table] += count
        for hop in bundle.plan.hops:
            for link in pairwise(fabric.path(hop.source, hop.target, hop.tree)):
                rates[link] += hop.rate
        for switch, program in bundle.programs.items():
            tables.setdefault(switch, Counter()).update(program.entries_by_table())
        cores.update(core for group in bundle.plan.cores_of for core in group)
        cores.update(standby.core for standby in bundle.plan.standbys)
    return Used(frozenset(cores), entries, rates, tables, memory)


def block_use(
    functions: Functions,
    cuts: Cuts,
    plan: Plan,
    topology: Topology,
    pipelines: Mapping[str, Pipeline],
) -> dict[str, dict[str, int]]:
    """Entries of devices by 'block.table', and the memory of servers."""
    use: dict[str, Counter[str]] = {}
    for unit, device in plan.device_of.items():
        for (block, table), count in footprint(cuts.units[unit], [pipelines[device]]).items():
            use.setdefault(device, Counter())[f"{block}.{table}"] += count
    for group, cores in zip(cuts.groups, plan.cores_of, strict=True):
        for core in (*cores, *{s.core for s in plan.standbys if s.nf in group.nfs}):
            there = runtime(topology.servers[core.server].runtime)
            taken = sum(there.memory_bytes(functions[nf]) for nf in group.nfs)
            use.setdefault(core.server, Counter())[MEMORY] += taken
    return {device: dict(counts) for device, counts in use.items()}
