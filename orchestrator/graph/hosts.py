"""Whether a service graph fits a topology: hosts and devices exist, next hops are somebody's."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import InputError, unknown
from orchestrator.graph.functions import functions_of
from orchestrator.model.elements import RouteProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import Functions, NetworkFunction
from orchestrator.nfs.values import Address, address_text


def check_hosts(
    graph: ServiceGraph, topology: Topology, functions: Functions | None = None
) -> tuple[str, ...]:
    """InputError for hosts and devices that the topology lacks; warnings of unknown next hops.

    `functions` are the graph's NFs, where they are known.
    """
    where = graph.source or graph.name
    problems: list[str] = []
    neighbors: set[Address] = set()
    for endpoint in graph.endpoints.values():
        for index, name in enumerate(endpoint.hosts):
            if name in topology.hosts:
                neighbors |= {(a.version, int(a.ip)) for a in topology.hosts[name].addresses}
            else:
                text = unknown(f"host of topology {topology.name}", name, list(topology.hosts))
                problems.append(f"{where}: endpoints.{endpoint.name}.hosts[{index}]: {text}")
    devices = (*topology.switches, *topology.servers)
    problems += [
        f"{where}: placement.pin.{nf}: "
        f"{unknown(f'switch or server of topology {topology.name}', device, devices)}"
        for nf, device in graph.placement.pinned.items()
        if device not in devices
    ]
    problems += [
        f"{where}: nfs.{nf.name}.state.on: "
        f"{unknown(f'server of topology {topology.name}', nf.standby.server, list(topology.servers))}"
        for nf in graph.nfs.values()
        if nf.standby is not None and nf.standby.server not in topology.servers
    ]
    if problems:
        raise InputError(problems)
    return tuple(
        f"{where}: nfs.{function.name}: next hop {address_text(hop)} is no host's of the graph: "
        "packets for it are dropped"
        for function in (functions or functions_of(graph)).values()
        for hop in sorted(_next_hops(function) - neighbors)
    )


def _next_hops(function: NetworkFunction[Any]) -> set[Address]:
    programs = (e.program for e in function.elements("inside").elements.values())
    routes = (program.routes for program in programs if isinstance(program, RouteProgram))
    return {hop for route in routes for hop in route.next_hops}
