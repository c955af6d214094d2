"""What a graph's hosts can talk to and about: addresses, ports and contents worth sending."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import chain
from typing import Any

import networkx as nx

from orchestrator.graph.functions import functions_of
from orchestrator.graph.paths import ingress_node, path_graph
from orchestrator.model.elements import FilterProgram, RouteProgram
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.model.headers import TCP, UDP
from orchestrator.model.match import Prefix
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import NetworkFunction, Talk
from orchestrator.nfs.ids import Ids, content_bytes
from orchestrator.nfs.l4_load_balancer import L4LoadBalancer
from orchestrator.nfs.values import PROTOCOLS, Address

COMMON_PORTS = (22, 23, 53, 80, 443, 445, 5001, 8000, 8080)


@dataclass(frozen=True, slots=True)
class Station:
    """A host as a sender."""

    name: str
    mac: int
    addresses: tuple[Address, ...]


class World:
    """Everything that generators ask about a graph on a topology."""

    def __init__(self, graph: ServiceGraph, topology: Topology) -> None:
        self.graph = graph
        self.functions: dict[str, NetworkFunction[Any]] = functions_of(graph)
        self.stations = {
            host: Station(
                host,
                topology.hosts[host].mac,
                tuple((a.version, int(a.ip)) for a in topology.hosts[host].addresses),
            )
            for endpoint in graph.endpoints.values()
            for host in endpoint.hosts
        }
        self.ingresses = tuple(dict.fromkeys(t.ingress for t in graph.traffic))
        self.entered = self._entered()
        self.targets = {endpoint: self._targets(endpoint) for endpoint in self.ingresses}
        self.prefixes = self._prefixes()
        self.ports = {protocol: self._ports(protocol) for protocol in (TCP, UDP)}
        self.contents = self._contents()
        self.services = {endpoint: self._services(endpoint) for endpoint in self.ingresses}

    def senders(self, endpoint: str) -> list[Station]:
        """The hosts of an endpoint."""
        return [self.stations[host] for host in self.graph.endpoints[endpoint].hosts]

    def _entered(self) -> dict[str, tuple[Port, ...]]:
        """By ingress endpoint: the NF ports that its packets can enter."""
        paths = path_graph(self.graph, self.functions)
        result: dict[str, tuple[Port, ...]] = {}
        for endpoint in self.ingresses:
            start = ingress_node(endpoint)
            reached: set[Port] = nx.descendants(paths, start) if start in paths else set()
            result[endpoint] = tuple(sorted((p for p in reached if p.port), key=str))
        return result

    def _targets(self, endpoint: str) -> tuple[Address, ...]:
        """Addresses that somebody answers: NFs' own ones, the hosts of the egresses."""
        own = [
            (version, address)
            for name, function in self.functions.items()
            for port, version, address in function.owned_addresses()
            if Port(name, port) in self.entered[endpoint]
        ]
        egresses = dict.fromkeys(t.egress for t in self.graph.traffic if t.ingress == endpoint)
        hosts = [a for egress in egresses for s in self.senders(egress) for a in s.addresses]
        return tuple(dict.fromkeys((*own, *hosts)))

    def _programs(self) -> list[FilterProgram | RouteProgram]:
        elements = chain.from_iterable(
            function.elements(port).elements.values()
            for function in self.functions.values()
            for port in function.ports
        )
        programs = (element.program for element in elements)
        return [p for p in programs if isinstance(p, FilterProgram | RouteProgram)]

    def _prefixes(self) -> tuple[Prefix, ...]:
        prefixes: dict[Prefix, None] = {}
        for program in self._programs():
            if isinstance(program, RouteProgram):
                prefixes |= dict.fromkeys(route.prefix for route in program.routes)
            else:
                for rule in program.rules:
                    for prefix in (rule.match.src, rule.match.dst):
                        if prefix is not None:
                            prefixes[prefix] = None
        return tuple(prefixes)

    def _ports(self, protocol: int) -> tuple[int, ...]:
        """Ports at the bounds of rules, and just outside of them."""
        chosen = dict.fromkeys(COMMON_PORTS)
        for program in self._programs():
            for rule in program.rules if isinstance(program, FilterProgram) else ():
                if rule.match.protocol not in (None, protocol):
                    continue
                for ports in (rule.match.src_port, rule.match.dst_port):
                    if ports is not None:
                        near = (ports.low - 1, ports.low, ports.high, ports.high + 1)
                        chosen |= dict.fromkeys(p for p in near if 0 <= p <= 65535)
        return tuple(chosen)

    def _contents(self) -> tuple[tuple[int, bytes, int], ...]:
        """(protocol, signature's bytes, a port on which it is searched for)."""
        return tuple(
            (
                PROTOCOLS[signature.protocol],
                content_bytes(signature.content),
                signature.ports[0].low if signature.ports else 80,
            )
            for function in self.functions.values()
            if isinstance(function, Ids)
            for signature in function.config.all_signatures
        )

    def _services(self, endpoint: str) -> tuple[tuple[Address, int, int], ...]:
        """(address, protocol, port) of virtual services that face an endpoint."""
        return tuple(
            (service.address, PROTOCOLS[service.protocol], service.port)
            for name, function in self.functions.items()
            if isinstance(function, L4LoadBalancer)
            and Port(name, "outside") in self.entered[endpoint]
            for service in function.config.virtual
        )

    def talk(self, protocol: int, rng: random.Random) -> Talk | None:
        """What one of the NFs has an opinion on; None: anything is worth saying."""
        talks = [t for f in self.functions.values() if (t := f.talk(protocol, rng)) is not None]
        return rng.choice(talks) if talks else None

    def address_in(self, prefix: Prefix, rng: random.Random) -> int:
        """A random address of a prefix."""
        return prefix.value | rng.getrandbits(prefix.bits - prefix.length)
