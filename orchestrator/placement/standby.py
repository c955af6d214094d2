"""Where the standbys of groups run: one core each, on the server that the graph names."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

from orchestrator.errors import InputError
from orchestrator.model.cuts import Group
from orchestrator.model.graph import ServiceGraph, StandbyRule
from orchestrator.model.plan import Core, Plan, Standby
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import Functions
from orchestrator.placement.resources import Used
from orchestrator.runtimes import runtime


def standby_rules(graph: ServiceGraph, nfs: Iterable[str]) -> dict[str, StandbyRule]:
    """Those of some NFs, by NF."""
    wishes = ((nf, graph.nfs[nf].standby) for nf in nfs)
    return {nf: rule for nf, rule in wishes if rule is not None}


def standby_server(graph: ServiceGraph, group: Group) -> str:
    """Where the standby of a group shall run; "": nowhere. InputError: its NFs name several servers."""
    rules = standby_rules(graph, group.nfs)
    servers = {rule.server: nf for nf, rule in rules.items()}
    if len(servers) > 1:
        where = graph.source or graph.name
        words = ", ".join(f"nfs.{nf}.state.on is {server}" for server, nf in servers.items())
        raise InputError(
            f"{where}: {words}: NFs that share cores have their standbys on one server"
        )
    return next(iter(servers), "")


def with_standbys(
    plan: Plan,
    graph: ServiceGraph,
    functions: Functions,
    groups: Iterable[Group],
    topology: Topology,
    used: Used,
    now: Container[Core] = (),
) -> Plan:
    """The plan with a core for each standby, that which it has `now` if it is free; a note tells where
    there is none."""
    taken = {core for cores in plan.cores_of for core in cores} | used.cores
    memory = dict(used.memory_bytes)

    def needs(group: Group, server: str) -> int:
        there = runtime(topology.servers[server].runtime)
        return sum(there.memory_bytes(functions[nf]) for nf in group.nfs)

    for group, cores in zip(groups, plan.cores_of, strict=True):
        for core in cores:
            memory[core.server] = memory.get(core.server, 0) + needs(group, core.server)
    standbys: list[Standby] = []
    notes: list[str] = []
    for group, cores in zip(groups, plan.cores_of, strict=True):
        name = standby_server(graph, group)
        if not name:
            continue
        server = topology.servers[name]
        free = [c for i in server.worker_cores if (c := Core(name, i)) not in taken]
        free.sort(key=lambda core: core not in now)
        why = ""
        if any(core.server == name for core in cores):
            why = f"they run on {name} themselves"
        elif not _runs(functions, group, server.runtime):
            why = f"{name} has no runtime for them"
        elif not free:
            why = f"{name} has no free core"
        elif memory.get(name, 0) + needs(group, name) > server.memory_bytes:
            why = f"{name} has not so much memory"
        if why:
            notes.append(f"{', '.join(group.nfs)}: no standby: {why}")
            continue
        taken.add(free[0])
        memory[name] = memory.get(name, 0) + needs(group, name)
        standbys += _of(graph, group, free[0])
        how = ", ".join(f"{s.nf} ({s.variant})" for s in standbys if s.nf in group.nfs)
        notes.append(f"{how}: standby on {free[0]}")
    return replace(plan, standbys=tuple(standbys), notes=(*plan.notes, *notes))


def _of(graph: ServiceGraph, group: Group, core: Core) -> Iterator[Standby]:
    for nf, rule in standby_rules(graph, group.nfs).items():
        yield Standby(nf, rule.variant, core)


def _runs(functions: Functions, group: Group, name: str) -> bool:
    there = runtime(name)
    return all(there.cost(type(functions[nf])) is not None for nf in group.nfs)
