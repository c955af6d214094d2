"""What every switch needs before any graph: its ports, the way to every device, gateways' answers.

A device's MACs begin with tree and id (servernf/wire/addresses.py), so devices that lie the same way on
a tree share entries, where their ids do: tables grow with a switch's ports, not with the network.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.compiler.keys import echo_entry, neighbor_entry
from orchestrator.compiler.prefixes import KeyPrefix, fewest, runs_of
from orchestrator.model.entries import Exact, Lpm, PipelineProgram, TableEntry
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from servernf.wire.addresses import DEVICE_ID_BITS, DEVICE_PREFIX_BITS, device_mac

OWNER = "fabric"
"""The name that stands for a graph in these entries' provenance."""

_MAC_BITS = 48
_HERE = -1
"""What a switch does with frames for itself. Else: its port towards a device, below _HERE (-1 - port)
towards a server of its own; 0: there is no way."""


def fabric_programs(fabric: Fabric) -> dict[str, PipelineProgram]:
    """Entries by switch, from the topology alone: they do not grow with graphs or chains."""
    ways, around = _Ways(fabric), _around(fabric)
    return {
        switch: PipelineProgram((*around[switch], *ways.entries(switch)), (), ())
        for switch in fabric.topology.switches
    }


def _around(fabric: Fabric) -> Mapping[str, Sequence[TableEntry]]:
    """By switch: what is behind its ports, and for which gateways it answers."""
    topology = fabric.topology
    around: dict[str, list[TableEntry]] = defaultdict(list)
    for link in topology.links:
        for near, port, far in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a)):
            if near in topology.switches:
                side = _side(topology, far)
                me = topology.switches[near].id
                key, param = ("ingress_port", Exact(port)), ("switch_id", me)
                origin = f"link to {far}"
                around[near].append(TableEntry("port.ports", (key,), side, (param,), 0, origin))
    for name, at in fabric.attachments.items():
        if name in topology.hosts:
            around[at.switch] += (
                answer(at.port, gateway.version, int(gateway), f"gateway of {name}")
                for gateway in topology.hosts[name].gateways
                for answer in (neighbor_entry, echo_entry)
            )
    return around


def _side(topology: Topology, far: str) -> str:
    if far in topology.hosts:
        return "port.host_facing"
    return "port.server_facing" if far in topology.servers else "port.fabric_facing"


class _Ways:
    """Of every switch the way to every device on every tree."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, topology = fabric, fabric.topology
        there = (*topology.switches, *(s for s in topology.servers if s in fabric.attachments))
        self.trees = range(topology.trees)
        self.devices = sorted((fabric.device_id(name), name) for name in there)
        self.ids = [number for number, _ in self.devices]
        nothing = bytes(array("h").itemsize * len(self.ids))
        self.ways = {s: [array("h", nothing) for _ in self.trees] for s in topology.switches}
        self.ports = {s: {n: p for n, (p, _) in fabric.neighbors[s].items()} for s in self.ways}
        behind: dict[str, list[int]] = defaultdict(list)
        for position, (_, name) in enumerate(self.devices):
            behind[fabric.access(name)].append(position)
        for switch, choice, targets in fabric.ways():
            # A switch and the servers behind it lie the same way.
            there = [position for target in targets for position in behind[target]]
            for tree in self.trees:
                way, port = self.ways[switch][tree], self.ports[switch][choice.neighbor(tree)]
                for position in there:
                    way[position] = port
        for switch, positions in behind.items():
            for position in positions:
                name = self.devices[position][1]
                here = _HERE
                if name != switch:  # behind a SmartNIC a server has a port for each core: `_cores`
                    at = fabric.attachments[name]
                    here = 0 if name in fabric.core_ports else _HERE - at.port
                for tree in self.trees:
                    self.ways[switch][tree][position] = here

    def entries(self, switch: str) -> Iterator[TableEntry]:
        for tree, ways in zip(self.trees, self.ways[switch], strict=True):
            for prefix in fewest(list(runs_of(self.ids, ways)), DEVICE_ID_BITS):
                action, params = _action(prefix.value)
                mac = device_mac(prefix.key, tree=tree)
                length = DEVICE_PREFIX_BITS - DEVICE_ID_BITS + prefix.length
                origin = f"to {self._names(prefix)}, tree {tree}"
                key = ("device", Lpm(mac, length))
                yield TableEntry("fabric.devices", (key,), action, params, 0, origin)
            yield from self._cores(switch, tree)

    def _cores(self, switch: str, tree: int) -> Iterator[TableEntry]:
        """Of a SmartNIC: the port of each worker core of its server."""
        server = self.fabric.topology.switches[switch].server
        for core, port in self.fabric.core_ports.get(server, {}).items():
            mac = device_mac(self.fabric.device_id(server), core=core + 1, tree=tree)
            key, params = ("device", Lpm(mac, _MAC_BITS)), (("port", port),)
            origin = f"to {Core(server, core)}, tree {tree}"
            yield TableEntry("fabric.devices", (key,), "fabric.to_server", params, 0, origin)

    def _names(self, prefix: KeyPrefix) -> str:
        first = bisect_left(self.ids, prefix.key)
        size = 1 << DEVICE_ID_BITS - prefix.length
        name = self.devices[first][1]
        return name if size == 1 else f"{name} ... {self.devices[first + size - 1][1]}"


def _action(way: int) -> tuple[str, tuple[tuple[str, int], ...]]:
    if way == _HERE:
        return "fabric.recirculate_here", ()
    if way < _HERE:
        return "fabric.to_server", (("port", _HERE - way),)
    return "fabric.forward", (("port", way),)
