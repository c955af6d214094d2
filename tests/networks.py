"""Service graphs and topologies in a few words, for the tests of the stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.graph import load_topology
from orchestrator.model.graph import (
    Edge,
    Endpoint,
    NfInstance,
    Port,
    ServiceGraph,
    Traffic,
    Verification,
)
from orchestrator.model.match import ANY, Match
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import lookup
from orchestrator.resources import shipped_topologies
from orchestrator.simulation.memory import MemoryNetwork

ENDPOINTS = {"inside": ("h1", "h2"), "outside": ("h3", "h4")}
CONNECTED = [{"prefix": "10.0.1.0/24"}, {"prefix": "198.51.100.0/24"}, {"prefix": "2001:db8::/32"}]

Spec = tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], Mapping[str, int]]


@cache
def topology(name: str = "leaf-spine") -> Topology:
    """A shipped topology."""
    return load_topology(name)


def permits(default: str = "permit", **extra: Any) -> Spec:
    """An acl with one rule."""
    rule = {"protocol": "tcp", "dst_port": 23, "action": "deny"}
    return "acl", {"rules": [rule], "default": default, **extra}


def long_acl(count: int, action: str = "deny", net: int = 192, **extra: Any) -> Spec:
    """An acl with as many IPv4 rules, all for destinations in net.0.0.0/8."""
    rules = [
        {"dst": f"{net}.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}/32", "action": action}
        for i in range(count)
    ]
    return "acl", {"rules": rules, "default": "permit", **extra}


def ids(**extra: Any) -> Spec:
    signature = {"id": 1, "content": "evil", "protocol": "tcp", "ports": ["80"]}
    return "ids", {"signatures": [signature], **extra}


def napt(addresses: Sequence[str] = ("203.0.113.1", "203.0.113.2"), **workers: int) -> Spec:
    return "napt", {"addresses": list(addresses)}, workers


def router(*routes: Mapping[str, Any]) -> Spec:
    return "router", {"routes": list(routes or CONNECTED)}


def static_nat(inside: str = "10.0.1.11", outside: str = "203.0.113.11") -> Spec:
    return "static_nat", {"pairs": [{"inside": inside, "outside": outside}]}


def _port(text: str) -> Port:
    node, _, port = text.partition(".")
    return Port(node, port)


def both_ways(*chain: str) -> list[str]:
    """Edges of a chain from endpoint to endpoint through NFs, and those of the way back."""
    first, *nfs, last = chain
    there = [first, *(f"{nf}.{side}" for nf in nfs for side in ("inside", "outside")), last]
    edges = [f"{a} {b}" for a, b in zip(there[::2], there[1::2], strict=True)]
    return [*edges, *(f"{b} {a}" for a, b in (edge.split() for edge in edges))]


def one_way(*chain: str) -> list[str]:
    """Edges of a chain from endpoint to endpoint, this way only."""
    return both_ways(*chain)[: len(chain) - 1]


def make_graph(
    nfs: Mapping[str, Spec],
    edges: Sequence[str],
    *,
    name: str = "g",
    endpoints: Mapping[str, Sequence[str]] = ENDPOINTS,
    traffic: Sequence[Traffic] | None = None,
    sampling_rate: float = 0.0,
    guarded: bool = False,
) -> ServiceGraph:
    """A graph; `edges` are 'node.port node.port'; all traffic from every connected endpoint.

    Hosts send from any address unless `guarded`: rules ask for sources that no host has.
    """
    instances: dict[str, NfInstance] = {}
    for nf, (kind, config, *rest) in nfs.items():
        workers = rest[0] if rest else {}
        checked = lookup(kind).Config.model_validate(config)
        instances[nf] = NfInstance(nf, kind, checked, **workers)
    made = tuple(Edge(*map(_port, edge.split())) for edge in edges)
    if traffic is None:
        sources = [e.source.node for e in made if not e.source.port]
        targets = [e.target.node for e in made if not e.target.port]
        traffic = [
            demand(a, next((b for b in targets if b != a), targets[0]), name=f"{a}-traffic")
            for a in sources
        ]
    return ServiceGraph(
        name,
        "test",
        {e: Endpoint(e, tuple(hosts), source_guard=guarded) for e, hosts in endpoints.items()},
        instances,
        made,
        tuple(traffic),
        Verification(sampling_rate),
    )


def demand(
    ingress: str = "inside",
    egress: str = "outside",
    *,
    name: str = "",
    match: Match = ANY,
    rate: int = 100_000_000,
    size: int = 800,
    **slo: int,
) -> Traffic:
    return Traffic(name or f"{ingress}-{egress}", ingress, egress, match, rate, size, **slo)


def campus(signatures: Sequence[Mapping[str, Any]] = (), **napt_workers: int) -> ServiceGraph:
    """The demo's shape with a handful of rules; `signatures`: other ones of the ids."""
    return make_graph(
        {
            "edge_acl": permits(),
            "edge_ids": ids(**({"signatures": list(signatures)} if signatures else {})),
            "edge_nat": napt(**(napt_workers or {"min_workers": 2})),
            "edge_router": router(),
        },
        [
            *one_way("inside", "edge_acl", "edge_ids", "edge_nat", "edge_router", "outside"),
            "outside edge_nat.outside",
            "edge_nat.inside edge_ids.outside",
            "edge_ids.inside inside",
        ],
        name="campus",
        sampling_rate=0.25,
    )


def small(base: Topology, **sizes: int) -> Topology:
    """A topology whose switches hold fewer entries: `acl_ipv4=100`."""
    limits = {name.replace("_", ".", 1): size for name, size in sizes.items()}
    switches = {n: replace(s, table_sizes=limits) for n, s in base.switches.items()}
    return replace(base, switches=switches)


def with_nics(folder: Path, switch_acl: int | None = None, **nic: Any) -> Path:
    """A file: leaf-spine with a SmartNIC in each server; `switch_acl`: rules that a switch holds."""
    raw = json.loads(Path(shipped_topologies()["leaf-spine"]).read_text())
    for server in raw["servers"].values():
        server["nics"] = [nic]
    if switch_acl is not None:
        for switch in raw["switches"].values():
            switch["table_sizes"] = {"acl.ipv4": switch_acl, "acl.ipv6": switch_acl}
    file = folder / "nics.json"
    file.write_text(json.dumps(raw))
    return file


def slow(base: Topology, capacity: int) -> Topology:
    """A topology whose links are slower."""
    return replace(base, links=tuple(replace(link, capacity=capacity) for link in base.links))


def compiled(graph: ServiceGraph, name: str = "leaf-spine", **options: Any) -> Compiled:
    return compile_graph(CompileRequest(graph, topology(name), **options))


def in_memory(result: Compiled, name: str = "leaf-spine") -> MemoryNetwork:
    """A network in memory on which a graph is deployed, unsampled."""
    network = MemoryNetwork(topology(name))
    apply_bundle(result.bundle, network, None, first=True)
    return network
