"""Whether a network can take in what a graph's endpoints offer, and bring it where it shall go."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.model.graph import ServiceGraph
from orchestrator.network.fabric import Fabric


def check_offers(graph: ServiceGraph, fabric: Fabric) -> None:
    """Rates that the endpoints' access links cannot carry, unreachable hosts: all at once."""
    problems: list[str] = []
    where = graph.source or graph.name
    for name, endpoint in graph.endpoints.items():
        lost = [h for h in endpoint.hosts if h not in fabric.attachments]
        problems += [f"{where}: host {h} of endpoint {name} is linked to no switch" for h in lost]
        if lost:
            continue
        capacity = sum(fabric.attachments[h].link.capacity for h in endpoint.hosts)
        for direction in ("ingress", "egress"):
            rate = sum(t.rate for t in graph.traffic if getattr(t, direction) == name)
            if rate > capacity:
                problems.append(
                    f"{where}: traffic with {direction} {name} asks for {rate / 1e9:g} Gbit/s; the "
                    f"access links of its hosts carry {capacity / 1e9:g} Gbit/s"
                )
    if not problems:
        for traffic in graph.traffic:
            ends = (traffic.ingress, traffic.egress)
            for a in graph.endpoints[ends[0]].hosts:
                for b in graph.endpoints[ends[1]].hosts:
                    if not fabric.connected(a, b):
                        problems.append(
                            f"{where}: traffic {traffic.name}: host {b} cannot be reached from {a} "
                            f"in {fabric.topology.name}"
                        )
    if problems:
        raise InputError(problems)
