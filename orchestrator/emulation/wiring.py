"""Which interface each end of each link is: a pure function of the topology and the network id."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain

from orchestrator.emulation.naming import switch_interface
from orchestrator.errors import NetworkError
from orchestrator.model.topology import Link, Topology
from servernf.wire.addresses import device_mac

HOST_MTU = 1500
INSIDE_MTU = 1664
"""The tag adds 38 bytes to a whole frame (docs/architecture.md), a switch's report of it 102 and two
VLAN tags 8; rounded up."""


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a link. `mac` None: any."""

    node: str
    port: int
    interface: str
    mtu: int
    mac: int | None


@dataclass(frozen=True, slots=True)
class VethPair:
    """A link as a pair of interfaces."""

    a: VethEnd
    b: VethEnd
    capacity: int
    """bit/s per direction."""

    @property
    def ends(self) -> tuple[VethEnd, VethEnd]:
        return self.a, self.b


def with_core_interfaces(topology: Topology) -> Topology:
    """Where a SmartNIC has a port for each worker core, workers have the interfaces at their ends."""
    behind = {s.server for s in topology.switches.values() if s.server}
    return replace(
        topology,
        servers={
            n: replace(s, interfaces=s.interfaces or tuple(f"eth{c}" for c in s.worker_cores))
            if n in behind
            else s
            for n, s in topology.servers.items()
        },
    )


def wires(topology: Topology, network_id: str) -> tuple[VethPair, ...]:
    """Every link; a host's or server's interfaces are eth0, eth1, ... in the order of its links."""
    used = Counter[str]()
    nodes = {*topology.switches, *topology.servers, *topology.hosts}
    return tuple(
        VethPair(
            _end(topology, network_id, link.a, link.a_port, used),
            _end(topology, network_id, link.b, link.b_port, used),
            link.capacity,
        )
        for link in topology.links
        if _both_known(link, nodes)
    )


def ends_of(node: str, plan: tuple[VethPair, ...]) -> list[VethEnd]:
    """A node's interfaces, in the order of its links."""
    return [end for end in chain.from_iterable(wire.ends for wire in plan) if end.node == node]


def _behind_nic(topology: Topology, server: str) -> bool:
    return any(switch.server == server for switch in topology.switches.values())


def _both_known(link: Link, nodes: set[str]) -> bool:
    strangers = {link.a, link.b} - nodes
    if strangers:
        raise NetworkError(f"link {link.a}-{link.b}: no node is called '{min(strangers)}'")
    return True


def _end(topology: Topology, network_id: str, node: str, port: int, used: Counter[str]) -> VethEnd:
    if switch := topology.switches.get(node):
        return VethEnd(node, port, switch_interface(network_id, switch.id, port), INSIDE_MTU, None)
    index = used[node]
    used[node] += 1
    # A node's own MAC is its first interface's; further ones get any.
    if host := topology.hosts.get(node):
        return VethEnd(node, index, f"eth{index}", HOST_MTU, None if index else host.mac)
    server = topology.servers[node]
    if server.interfaces and _behind_nic(topology, node):
        mac = device_mac(server.id, core=port + 1)
        return VethEnd(node, index, server.interfaces[port], INSIDE_MTU, mac)
    return VethEnd(node, index, f"eth{index}", INSIDE_MTU, None if index else device_mac(server.id))
