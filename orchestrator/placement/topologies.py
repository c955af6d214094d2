"""Topologies that need no file: generated fat-trees and those of topohub (Topology Zoo, SNDlib).

`resolve_topology` takes `fattree:k`, `topohub:NAME`, a file, or the name of a shipped topology.

Rules for topohub: every node is a switch, every node has one host, and a server stands at each of the
best connected quarter of the nodes (by degree, ties by name; at least one). Latency is distance at
200,000 km/s. Where a topology says no link capacity, links get 10 Gbit/s.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import networkx as nx

from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.graph import load_topology
from orchestrator.model.topology import Host, Link, Server, Switch, Topology
from orchestrator.targets import AUTO
from orchestrator.targets.edge import EDGE

CORES, RESERVED_CORES = 16, 2
CYCLES_PER_SECOND = 1_700_000_000
MEMORY_BYTES = 64 << 30
GBIT = 10**9
US_PER_KM = 5
"""Light in fibre: 200,000 km/s."""
MAX_TREES = 16


@dataclass(frozen=True, slots=True)
class HostDemand:
    """An entry of a demand matrix: bit/s from one host to another."""

    source: str
    target: str
    rate: int


def resolve_topology(name: str | Path) -> Topology:
    """A topology by any name that the commands take; InputError when there is none."""
    text = str(name)
    if text.startswith("fattree:"):
        return fat_tree(_arity(text))
    if text.startswith("topohub:"):
        return topohub(text.removeprefix("topohub:"))[0]
    return load_topology(name)


def _arity(text: str) -> int:
    value = text.removeprefix("fattree:")
    if not value.isdigit() or int(value) % 2 or not 2 <= int(value) <= 32:
        raise InputError(f"{text}: a fat-tree's k is an even number from 2 to 32")
    return int(value)


class _Ports:
    """Port numbers in the order of links, from 1; 0 for hosts and servers."""

    def __init__(self, switches: Iterable[str]) -> None:
        self.next = dict.fromkeys(switches, 1)

    def take(self, node: str) -> int:
        if node not in self.next:
            return 0
        self.next[node] += 1
        return self.next[node] - 1


def _link(ports: _Ports, a: str, b: str, capacity: int, latency_us: int) -> Link:
    return Link(a, ports.take(a), b, ports.take(b), capacity, latency_us)


def fat_tree(
    k: int,
    *,
    servers_per_edge: int | None = None,
    capacity: int = 40 * GBIT,
    table_sizes: dict[str, int] | None = None,
) -> Topology:
    """A k-ary fat-tree: k pods of k/2 edge and k/2 aggregation switches, (k/2)^2 core switches, k^3/4
    hosts, of which `servers_per_edge` (a quarter if not given) at each edge switch are servers.

    Names: p0e1, p0a1, c3, h-p0e1-0, s-p0e1-0. `capacity` in bit/s on every link, 1 us each.
    """
    half = k // 2
    count = max(1, half // 4) if servers_per_edge is None else servers_per_edge
    edges = [f"p{p}e{e}" for p in range(k) for e in range(half)]
    aggregations = [f"p{p}a{a}" for p in range(k) for a in range(half)]
    cores = [f"c{c}" for c in range(half * half)]
    names = [*edges, *aggregations, *cores]
    sizes = table_sizes or {}
    switches = {
        n: Switch(n, i, AUTO, EDGE, dict(sizes) if n in edges else {})
        for i, n in enumerate(names, 1)
    }
    ports = _Ports(names)
    links: list[Link] = []
    servers: dict[str, Server] = {}
    hosts: dict[str, Host] = {}
    for p in range(k):
        for e in range(half):
            edge = f"p{p}e{e}"
            links += [_link(ports, edge, f"p{p}a{a}", capacity, 1) for a in range(half)]
            for position in range(half):
                if position < count:
                    name = f"s-{edge}-{position}"
                    number = len(names) + 1 + len(servers)
                    servers[name] = _server(name, number)
                else:
                    name = f"h-{edge}-{position}"
                    subnet = f"10.{p}.{e}"
                    hosts[name] = _host(
                        name, len(hosts) + 1, f"{subnet}.{position + 2}/24", f"{subnet}.1"
                    )
                links.append(_link(ports, edge, name, capacity, 1))
    for p in range(k):
        for a in range(half):
            links += [
                _link(ports, f"p{p}a{a}", f"c{a * half + c}", capacity, 1) for c in range(half)
            ]
    trees = min(MAX_TREES, half * half)
    return Topology(
        f"fattree-{k}", switches, servers, {}, hosts, tuple(links), trees, f"fattree:{k}"
    )


def _server(name: str, number: int) -> Server:
    return Server(name, number, CORES, RESERVED_CORES, CYCLES_PER_SECOND, MEMORY_BYTES)


def _host(name: str, number: int, address: str, gateway: str) -> Host:
    return Host(
        name,
        0x0A_00_00_00_00_00 + number,
        (ipaddress.ip_interface(address),),
        (ipaddress.ip_address(gateway),),
    )


def topohub(name: str) -> tuple[Topology, tuple[HostDemand, ...]]:
    """A topology of topohub with its demand matrix (empty where it has none)."""
    try:
        hub: Any = import_module("topohub")
    except ImportError as error:
        raise EnvironmentMissing(
            "topohub is not installed; pip install 'p4-offload-orchestrator[scale]'"
        ) from error
    try:
        raw: dict[str, Any] = hub.get(name)
    except (KeyError, FileNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"topohub:{name}: no such topology; names are like 'sndlib/germany50', "
            "'topozoo/Abilene', 'caida/...'"
        ) from error
    return _from_node_link(f"topohub:{name}", raw)


def _from_node_link(source: str, raw: dict[str, Any]) -> tuple[Topology, tuple[HostDemand, ...]]:
    graph = nx.Graph()
    names: dict[Any, str] = {}
    taken: set[str] = set()
    for node in raw["nodes"]:
        text = _plain(str(node.get("name", node["id"])), node["id"])
        names[node["id"]] = text if text not in taken else f"{text}-{node['id']}"
        taken.add(names[node["id"]])
        graph.add_node(names[node["id"]])
    for edge in raw.get("edges", raw.get("links", ())):
        a, b = names[edge["source"]], names[edge["target"]]
        if a != b and not graph.has_edge(a, b):
            distance = float(edge.get("dist") or 0.0)
            rate = float(edge.get("capacity") or 0.0)
            graph.add_edge(a, b, us=max(1, round(distance * US_PER_KM)), rate=rate)
    best = max(nx.connected_components(graph), key=len)
    kept = [n for n in graph if n in best]
    switches = {n: Switch(n, i, AUTO, EDGE, {}) for i, n in enumerate(kept, 1)}
    ports = _Ports(kept)
    links = [
        _link(ports, a, b, round(data["rate"]) or 10 * GBIT, data["us"])
        for a, b, data in graph.edges(data=True)
        if a in best
    ]
    ranked = sorted(kept, key=lambda n: (-graph.degree[n], n))
    servers: dict[str, Server] = {}
    for node in ranked[: max(1, -(-len(kept) // 4))]:
        servers[f"s-{node}"] = _server(f"s-{node}", len(kept) + 1 + len(servers))
        links.append(_link(ports, node, f"s-{node}", 40 * GBIT, 1))
    hosts: dict[str, Host] = {}
    for i, node in enumerate(kept):
        subnet = f"10.{i // 256}.{i % 256}"
        hosts[f"h-{node}"] = _host(f"h-{node}", i + 1, f"{subnet}.2/24", f"{subnet}.1")
        links.append(_link(ports, node, f"h-{node}", 100 * GBIT, 1))
    topology = Topology(
        source.removeprefix("topohub:").replace("/", "-"),
        switches,
        servers,
        {},
        hosts,
        tuple(links),
        4,
        source,
    )
    matrix: dict[Any, dict[Any, float]] = raw.get("graph", {}).get("demands", {}) or {}
    by_text = {str(node): text for node, text in names.items()}
    demands = tuple(
        HostDemand(f"h-{by_text[str(a)]}", f"h-{by_text[str(b)]}", round(float(rate) * 1e6))
        for a, row in matrix.items()
        for b, rate in row.items()
        if rate and by_text[str(a)] in best and by_text[str(b)] in best and a != b
    )
    return topology, demands


def _plain(text: str, number: object) -> str:
    """A name in the alphabet of names."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]
    if not plain:
        return f"n{number}"
    return plain if plain[0].isalpha() else f"n{plain}"
