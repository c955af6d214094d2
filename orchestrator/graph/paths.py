"""Where packets can go in a graph: no cycle over (NF, entered port), every egress reachable."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import networkx as nx

from orchestrator.model.elements import Leave
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.nfs.base import Functions, NetworkFunction


@dataclass(frozen=True, slots=True)
class Found:
    """Texts that begin with their path in the file."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check_paths(graph: ServiceGraph, functions: Functions) -> Found:
    """Cycles and unreachable egresses are problems; unconnected outputs and idle NFs warnings."""
    order = path_graph(graph, functions)
    next_port = {edge.source: edge.target for edge in graph.edges}
    problems: list[str] = []
    with suppress(nx.NetworkXNoCycle):  # as it should be
        cycle = nx.find_cycle(order)
        steps = [str(step[0]) for step in (*cycle, cycle[0])]
        problems.append(f"edges: packets can go round for ever: {' -> '.join(steps)}")

    entered: set[Port] = set()
    for index, traffic in enumerate(graph.traffic):
        start = ingress_node(traffic.ingress)
        reachable: set[Port] = nx.descendants(order, start) if start in order else set()
        entered |= {node for node in reachable if node.port}
        both_there = {traffic.ingress, traffic.egress} <= set(graph.endpoints)
        if both_there and Port(traffic.egress) not in reachable:
            text = f"no path of edges leads from '{traffic.ingress}' to '{traffic.egress}'"
            problems.append(f"traffic[{index}].to: {text}")

    unconnected = {
        Port(node.node, left)
        for node in entered
        for left in ports_left(functions[node.node], node.port)
    } - set(next_port)
    warnings = [
        f"edges: no edge leaves '{port}': packets that leave there are dropped"
        for port in sorted(unconnected, key=str)
    ]
    used = {node.node for node in entered}
    warnings += [
        f"nfs.{name}: no traffic ever reaches it" for name in functions if name not in used
    ]
    return Found(tuple(problems), tuple(warnings))


def path_graph(graph: ServiceGraph, functions: Functions) -> nx.DiGraph[Port]:
    """Nodes: entered NF ports, egress endpoints (`Port(name)`), ingress endpoints."""
    order: nx.DiGraph[Port] = nx.DiGraph()
    next_port = {edge.source: edge.target for edge in graph.edges}
    for endpoint in graph.endpoints:
        order.add_node(Port(endpoint))
        if Port(endpoint) in next_port:
            order.add_edge(ingress_node(endpoint), next_port[Port(endpoint)])
    for node in dict.fromkeys(edge.target for edge in graph.edges if edge.target.port):
        for left in ports_left(functions[node.node], node.port):
            target = next_port.get(Port(node.node, left))
            if target is not None:
                order.add_edge(node, target)
    return order


def ingress_node(endpoint: str) -> Port:
    """The endpoint as a start: another node than the endpoint as an end, so no false cycles."""
    return Port(f"from {endpoint}")


def ports_left(function: NetworkFunction[Any], port: str) -> tuple[str, ...]:
    """Ports by which packets that entered `port` can leave."""
    steps = function.elements(port).edges.values()
    return tuple(dict.fromkeys(step.port for step in steps if isinstance(step, Leave)))
