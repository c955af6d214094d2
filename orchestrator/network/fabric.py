"""The fabric: where devices are attached, and the trees by which tagged frames reach them."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import or_
from typing import NamedTuple

from orchestrator.errors import InputError
from orchestrator.model.away import Away
from orchestrator.model.topology import Link, Topology


@dataclass(frozen=True, slots=True)
class Attachment:
    """A host or server is on `switch` behind `port`, over `link`."""

    switch: str
    port: int
    link: Link


class Choice(NamedTuple):
    """The neighbours of a switch that are nearer to a target, by name; `odd`: its own distance is."""

    neighbors: tuple[str, ...]
    odd: bool

    def neighbor(self, tree: int) -> str:
        """The one on a tree.

        At even distances a tree's number modulo the choices decides, at odd ones its quotient: so in
        a fat-tree the edge's and the aggregation's choices are independent, and (k/2)^2 trees are
        all its shortest paths.
        """
        count = len(self.neighbors)
        return self.neighbors[(tree // count if self.odd else tree) % count]


class Fabric:
    """Paths of a topology: per device (switch or server) and tree, each switch's next hop.

    A tree is a shortest-path tree towards the device; where several neighbours are equally near, tree
    t takes the t-th of them (in name order), so trees differ where the topology offers a choice.

    What is `away` changes no tree (all graphs share them): ways over it are not offered, and what is
    attached to a switch that is away is not there.
    """

    def __init__(self, topology: Topology, away: Away | None = None) -> None:
        self.topology = topology
        self.away = away or Away()
        self.attachments: dict[str, Attachment] = {}
        self.core_ports: dict[str, dict[int, int]] = {}
        """By server behind a SmartNIC: the NIC's port for each worker core (from 0)."""
        self.neighbors: dict[str, dict[str, tuple[int, Link]]] = {s: {} for s in topology.switches}
        for link in topology.links:
            ends = (
                (link.a, link.a_port, link.b, link.b_port),
                (link.b, link.b_port, link.a, link.a_port),
            )
            for near, port, far, core in ends:
                if near not in topology.switches:
                    continue
                if far in topology.switches:
                    self.neighbors[near].setdefault(far, (port, link))
                else:
                    self.attachments.setdefault(far, Attachment(near, port, link))
                    if topology.switches[near].server == far:
                        self.core_ports.setdefault(far, {})[core] = port
        self.attachments = {
            name: at for name, at in self.attachments.items() if at.switch not in self.away.devices
        }
        for near, ways in self.neighbors.items():
            self.neighbors[near] = dict(sorted(ways.items()))
        self._part = self._parts()
        self._bits = {name: 1 << bit for bit, name in enumerate(self.neighbors)}
        """Sets of switches are numbers with a bit for each."""
        self._choices: dict[tuple[str, str], Choice] = {}
        self._paths: dict[tuple[str, str, int], tuple[str, ...]] = {}
        self._trees: dict[tuple[str, str], tuple[int, ...]] = {}

    def port_of(self, server: str, core: int) -> int:
        """The port of `access(server)` behind which a worker core (from 0) is."""
        ports = self.core_ports.get(server)
        return ports[core] if ports else self.attachments[server].port

    def access(self, node: str) -> str:
        """The device with a pipeline that a host or server is attached to; such a one is its own."""
        return node if node in self.neighbors else self.attachments[node].switch

    def before(self, server: str) -> tuple[str, ...]:
        """What all packets of a server pass: its switch, then its NIC if it has one."""
        at = self.access(server)
        if not self.topology.switches[at].server:
            return (at,)
        return (*(n for n in self.neighbors[at] if not self.topology.switches[n].server), at)

    def device_id(self, device: str) -> int:
        """The id that structured MACs carry."""
        if device in self.topology.switches:
            return self.topology.switches[device].id
        return self.topology.servers[device].id

    def next_switch(self, at: str, target: str, tree: int) -> str:
        """The neighbour of `at` on the tree towards switch `target`."""
        if (at, target) not in self._choices:
            self._choices[at, target] = self._choice(at, target)
        return self._choices[at, target].neighbor(tree)

    def ways(self) -> Iterator[tuple[str, Choice, list[str]]]:
        """(switch, choice, the other switches that it has towards); those without a way are in none.

        All of them at once, as sets: by single switches it would take as many steps as there are pairs.
        """
        names, rings = tuple(self.neighbors), self._rings
        for at, neighbors in self.neighbors.items():
            odd = sum(ring[at] for ring in rings[1::2])  # they are disjoint
            groups = {(): sum(ring[at] for ring in rings[1:])}
            for near in neighbors:
                nearer = sum(far[at] & ring[near] for ring, far in itertools.pairwise(rings))
                split = [((*g, near), some & nearer) for g, some in groups.items()]
                split += [(g, some & ~nearer) for g, some in groups.items()]
                groups = {g: some for g, some in split if some}
            for group, some in groups.items():
                for is_odd, targets in ((True, some & odd), (False, some & ~odd)):
                    if targets:
                        yield at, Choice(group, is_odd), list(_named(targets, names))

    @functools.cached_property
    def _rings(self) -> list[dict[str, int]]:
        """For each distance, by switch: the switches that are so far away."""
        rings, reached = [self._bits], dict(self._bits)
        while True:
            ring = {
                at: functools.reduce(or_, (rings[-1][n] for n in near), 0) & ~reached[at]
                for at, near in self.neighbors.items()
            }
            if not any(ring.values()):
                return rings
            rings.append(ring)
            for at, some in ring.items():
                reached[at] |= some

    def _choice(self, at: str, target: str) -> Choice:
        bit, rings = self._bits[target], self._rings
        far = next(distance for distance, ring in enumerate(rings) if ring[at] & bit)
        nearer = rings[far - 1]
        return Choice(tuple([n for n in self.neighbors[at] if nearer[n] & bit]), far % 2 == 1)

    def connected(self, a: str, b: str) -> bool:
        """Whether two nodes (switches, servers, hosts) have a way to each other."""
        for node in (a, b):
            if node not in self.neighbors and node not in self.attachments:
                return False
        if self._part[self.access(a)] != self._part[self.access(b)]:
            return False
        return not self.away or bool(self.distinct_trees(a, b))

    def path(self, source: str, target: str, tree: int) -> tuple[str, ...]:
        """Devices from `source` to `target` (switch or server), both included."""
        key = (source, target, tree)
        if key not in self._paths:
            self._paths[key] = self._path(source, target, tree)
        return self._paths[key]

    def _path(self, source: str, target: str, tree: int) -> tuple[str, ...]:
        start, end = self.access(source), self.access(target)
        if self._part[start] != self._part[end]:
            raise InputError(f"{self.topology.name}: no path from {source} to {target}")
        switches = [start]
        while switches[-1] != end:
            switches.append(self.next_switch(switches[-1], end, tree))
        return (
            *((source,) if source != start else ()),
            *switches,
            *((target,) if target != end else ()),
        )

    def link(self, a: str, b: str) -> Link:
        """The link between neighbours."""
        if a in self.neighbors and b in self.neighbors:
            return self.neighbors[a][b][1]
        return self.attachments[b if a in self.neighbors else a].link

    def distinct_trees(self, source: str, target: str) -> tuple[int, ...]:
        """One tree for each different path between two devices that can be used."""
        if (source, target) not in self._trees:
            seen: dict[tuple[str, ...], int] = {}
            for tree in range(self.topology.trees):
                path = self.path(source, target, tree)
                if self.usable(path):
                    seen.setdefault(path, tree)
            self._trees[source, target] = tuple(seen.values())
        return self._trees[source, target]

    def first_tree(self, source: str, target: str) -> int:
        """The tree for what no plan chooses one for."""
        return next(iter(self.distinct_trees(source, target)), 0)

    def usable(self, path: tuple[str, ...]) -> bool:
        """Whether nothing of a path is away, and it leads through no cordoned switch but its ends'."""
        if not self.away:
            return True
        if not self.away.devices.keys().isdisjoint(path):
            return False
        ends = {self.access(path[0]), self.access(path[-1])}
        if not (self.away.cordon.switches - ends).isdisjoint(path):
            return False
        links = (self.link(a, b) for a, b in itertools.pairwise(path))
        return self.away.links.keys().isdisjoint(links)

    def latency_us(self, path: tuple[str, ...]) -> int:
        """Propagation along a path."""
        return sum(self.link(a, b).latency_us for a, b in itertools.pairwise(path))

    def _parts(self) -> dict[str, str]:
        """By switch: a switch of the connected part that it is in."""
        roots: dict[str, str] = {}
        for root in self.neighbors:
            if root not in roots:
                roots |= dict.fromkeys(self._distances(root), root)
        return roots

    def _distances(self, root: str) -> dict[str, int]:
        distance = {root: 0}
        queue = deque([root])
        while queue:
            near = queue.popleft()
            for far in self.neighbors[near]:
                if far not in distance:
                    distance[far] = distance[near] + 1
                    queue.append(far)
        return distance


def _named(some: int, names: Sequence[str]) -> Iterator[str]:
    """The names whose bits are set."""
    while some:
        bit = some & -some
        yield names[bit.bit_length() - 1]
        some ^= bit
