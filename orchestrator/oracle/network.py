"""The reference interpreter: the unsplit service graph between its hosts, NF by NF."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import networkx as nx

from orchestrator.graph.functions import functions_of
from orchestrator.graph.paths import ingress_node, path_graph
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.model.headers import ETHERTYPE_ARP
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import Reference, SimpleEnvironment
from orchestrator.nfs.matching import contains, matches
from servernf.wire.addresses import GATEWAY_MAC

Delivery = tuple[str, bytes]
"""(host, frame) as the host receives it."""

_SOLICITATION = 135
_NSH = b"\x89\x4f"


@dataclass(frozen=True, slots=True)
class WayStep:
    """What happened at one place on a packet's way, for people."""

    where: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.where}: {self.verdict}"


class ReferenceNetwork:
    """Hosts, gateways and one service graph; state is kept from packet to packet.

    `now_us` is the virtual clock: set it to let time pass. `trace` tells the last packet's way.
    """

    def __init__(
        self, graph: ServiceGraph, topology: Topology, *, now_us: int = 0, seed: int = 0
    ) -> None:
        self.graph = graph
        self._hosts = {
            name: topology.hosts[name] for e in graph.endpoints.values() for name in e.hosts
        }
        self._endpoint_of = {h: e.name for e in graph.endpoints.values() for h in e.hosts}
        self._host_of_mac = {host.mac: name for name, host in self._hosts.items()}
        self._host_of_address: dict[tuple[int, int], str] = {
            (address.version, int(address.ip)): name
            for name, host in self._hosts.items()
            for address in host.addresses
        }
        self._next_port = {edge.source: edge.target for edge in graph.edges}
        self.references: Mapping[str, Reference] = {
            name: f.reference() for name, f in functions_of(graph).items()
        }
        """Instances of the NFs, by name; whoever observes may put others in their places."""
        self._own_addresses = _own_addresses(graph, topology)
        self._env = SimpleEnvironment(
            now_us=now_us,
            random=random.Random(seed),
            neighbors={
                address: self._hosts[name].mac for address, name in self._host_of_address.items()
            },
        )
        self.trace: list[WayStep] = []

    @property
    def now_us(self) -> int:
        """Virtual time in microseconds."""
        return self._env.now_us

    @now_us.setter
    def now_us(self, value: int) -> None:
        self._env.now_us = value

    def send(self, host: str, frame: bytes) -> list[Delivery]:
        """What hosts receive when `host` sends a frame, and before that of packets that NFs have held
        until now; empty when nobody does.

        The network's own answers to ARP and neighbour solicitations are left out: the trace says
        'for the network'.
        """
        return [*self._released(), *self._sent(host, frame)]

    def _released(self) -> Iterator[Delivery]:
        while True:
            due = [
                (at, name) for name, r in self.references.items() if (at := r.due_us()) is not None
            ]
            now = self.now_us
            at, name = min(due, default=(now + 1, ""))
            if at > now:
                return
            self.now_us = at  # it left then, not when somebody asks
            port, packet = self.references[name].release()
            left = list(self._travel(packet, Port(name, port)))
            self.now_us = now
            yield from left

    def _sent(self, host: str, frame: bytes) -> list[Delivery]:
        self.trace = []
        endpoint = self._endpoint_of.get(host)
        if endpoint is None:
            return self._drop(host, "is on no endpoint of the graph")
        packet = Packet.parse(frame)
        if packet.malformed is not None:
            return self._drop(host, f"malformed: {packet.malformed}")
        if frame[12:14] == _NSH:
            return self._drop(host, "looks tagged: a host must not forge a tag")
        if self.for_network(host, packet):
            return self._drop(host, "for the network")
        traffic = next(
            (t for t in self.graph.traffic if t.ingress == endpoint and matches(t.match, packet)),
            None,
        )
        if traffic is None:
            return self._drop(host, "no traffic of the graph asks for it")
        if not self._may_send(host, packet):
            return self._drop(host, "sends from an address that is not its own")
        self.trace.append(WayStep(host, f"traffic {traffic.name}"))
        return list(self._travel(packet, Port(endpoint)))

    def _may_send(self, host: str, packet: Packet) -> bool:
        """The source guard of the host's endpoint."""
        endpoint = self.graph.endpoints[self._endpoint_of[host]]
        return (
            not packet.version
            or not endpoint.source_guard
            or self._host_of_address.get((packet.version, packet.src)) == host
            or any(contains(prefix, packet.version, packet.src) for prefix in endpoint.prefixes)
        )

    def for_network(self, host: str, packet: Packet) -> bool:
        """Whether the network answers it: an ARP request or neighbour solicitation for an address of
        its own, or a ping of the host's gateway."""
        if self._pings_gateway(host, packet):
            return True
        own = self._own_addresses.get(self._endpoint_of.get(host, ""), frozenset())
        at = packet.layout
        if packet.ether_type == ETHERTYPE_ARP:
            request = int.from_bytes(packet.data[at.l3 : at.l3 + 8], "big") == 0x0001_0800_0604_0001
            target = int.from_bytes(packet.data[at.l3 + 24 : at.l3 + 28], "big")
            return request and (4, target) in own
        solicitation = packet.version == 6 and packet.icmp_type == _SOLICITATION
        if not solicitation or len(packet.data) < at.l4 + 32:
            return False
        return (6, int.from_bytes(packet.data[at.l4 + 8 : at.l4 + 24], "big")) in own

    def _pings_gateway(self, host: str, packet: Packet) -> bool:
        """Of echo requests those without options or extension headers, in one piece, are answered."""
        at = packet.layout
        wanted = {4: 8, 6: 128}.get(packet.version)
        if wanted is None or packet.icmp_type != wanted or packet.icmp_code:
            return False
        plain = at.l4 - at.l3 == (20 if packet.version == 4 else 40) and not packet.more_fragments
        gateways = {(g.version, int(g)) for g in self._hosts[host].gateways}
        asked = (packet.version, packet.dst)
        return plain and packet.eth_dst == GATEWAY_MAC and asked in gateways

    def _travel(self, packet: Packet, leaves: Port) -> Iterator[Delivery]:
        target = self._next_port.get(leaves)
        if target is None:
            self.trace.append(WayStep(str(leaves), "nothing is connected: dropped"))
        elif not target.port:
            yield from self._deliver(packet, target.node)
        else:
            outputs = self.references[target.node].process(packet, target.port, self._env)
            left = ", ".join(port for port, _ in outputs)
            self.trace.append(WayStep(str(target), f"leaves {left}" if left else "dropped"))
            for port, output in outputs:
                output.context = output.context or packet.context
                yield from self._travel(output, Port(target.node, port))

    def _deliver(self, packet: Packet, endpoint: str) -> Iterator[Delivery]:
        """docs/architecture.md, 'Delivery at an endpoint'."""
        hosts = self.graph.endpoints[endpoint].hosts
        receivers: tuple[str, ...] = ()
        by_mac = self._host_of_mac.get(packet.eth_dst, "")
        if by_mac in hosts:
            receivers = (by_mac,)
        elif packet.eth_dst >> 40 & 1:
            receivers = hosts
        elif packet.eth_dst == GATEWAY_MAC and packet.version:
            owner = self._host_of_address.get((packet.version, packet.dst), "")
            if owner in hosts:
                receivers = (owner,)
                packet.eth_dst = self._hosts[owner].mac
                packet.eth_src = GATEWAY_MAC
        verdict = f"delivered to {', '.join(receivers)}" if receivers else "no such host: dropped"
        self.trace.append(WayStep(endpoint, verdict))
        for receiver in receivers:
            yield receiver, packet.to_bytes()

    def _drop(self, host: str, why: str) -> list[Delivery]:
        self.trace.append(WayStep(host, why))
        return []


def _own_addresses(
    graph: ServiceGraph, topology: Topology
) -> dict[str, frozenset[tuple[int, int]]]:
    """By endpoint: the gateways of its hosts, and the NFs' addresses that face it."""
    functions = functions_of(graph)
    paths = path_graph(graph, functions)
    result: dict[str, frozenset[tuple[int, int]]] = {}
    for endpoint in graph.endpoints.values():
        start = ingress_node(endpoint.name)
        reached: set[Port] = nx.descendants(paths, start) if start in paths else set()
        own = {
            (version, address)
            for name, function in functions.items()
            for port, version, address in function.owned_addresses()
            if Port(name, port) in reached
        }
        own |= {
            (gateway.version, int(gateway))
            for host in endpoint.hosts
            for gateway in topology.hosts[host].gateways
        }
        result[endpoint.name] = frozenset(own)
    return result
