"""A bundle as a persistent data structure: nodes that refer to each other, without a cycle.

A node is what has a number of its own: a segment or a multicast group of a switch, a service path
(SPI, SI), and for each ingress switch the root, the first segments of its frames. Its digest says
what packets meet from there on, whatever the numbers are: nodes of two versions with equal digests
are interchangeable. (Merkle's trees; path copying as of Driscoll, Sarnak, Sleator, Tarjan, "Making
data structures persistent", 1989.)
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    Exact,
    FloodGroup,
    Key,
    Meter,
    ServerChain,
    TableEntry,
)
from orchestrator.model.plan import Core
from orchestrator.targets.pipeline import GATED_SEGMENT

SEGMENT, GROUP, PATH, ROOT = "segment", "group", "path", "root"
IDS = {
    SEGMENT: frozenset({"segment"}),
    GROUP: frozenset({"group"}),
    PATH: frozenset({"spi", "si"}),
    ROOT: frozenset({"graph", "epoch"}),
}
SEGMENT_PARAMS = ("segment", "target")
"""Parameters of actions that name a segment of the same switch."""
_REFERENCES = frozenset({*SEGMENT_PARAMS, "group", "spi", "si"})
_UNIMPORTANT = "traffic_class"
"""A label in the tag, by which no table decides."""
_DIGEST_BYTES = 16


class Node(NamedTuple):
    """`number`: a segment, a group, a root's epoch, or SPI and SI (`spi << 8 | si`, no `switch`)."""

    kind: str
    switch: str
    number: int


class Line(NamedTuple):
    """An entry of a node without numbers: `refs` are the other nodes that its parameters name.

    `stays` are the parameters that name the node itself: what follows is in the same segment.
    """

    table: str
    keys: tuple[tuple[str, Key], ...]
    action: str
    params: tuple[tuple[str, int], ...]
    meter: Meter | None
    stays: tuple[str, ...]
    refs: tuple[Node, ...]


class Hops(NamedTuple):
    """A service chain without numbers: `steps` are (NF, digest of its configuration, port) or a MAC."""

    server: str
    core: int
    steps: tuple[Any, ...]
    outputs: tuple[str, ...]
    refs: tuple[Node, ...]


class Nodes:
    """The nodes of one bundle; `loose` entries belong to none: they say the same in all versions."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.entries: dict[Node, list[TableEntry]] = defaultdict(list)
        self.floods: dict[Node, FloodGroup] = {}
        self.chains: dict[Node, list[tuple[Core, ServerChain]]] = defaultdict(list)
        self.place: dict[Node, str] = {}
        """The switch that has a node's entries."""
        self.loose: dict[str, list[TableEntry]] = {}
        self.roots: dict[str, Node] = {}
        self._digests: dict[Node, bytes] = {}
        self._specs: dict[tuple[Core, str], bytes] = {}
        for switch, program in bundle.switches.items():
            self._add_switch(switch, program.entries)
            for flood in program.floods:
                self.floods[Node(GROUP, switch, flood.group)] = flood
        for worker in bundle.workers:
            core = Core(worker.server, worker.core)
            for name, spec in worker.nfs.items():
                text = json.dumps(spec, sort_keys=True, default=str)
                self._specs[core, name] = blake2b(text.encode(), digest_size=16).digest()
            for chain in worker.chains:
                self.chains[path_node(chain.spi, chain.si)].append((core, chain))

    def _add_switch(self, switch: str, entries: tuple[TableEntry, ...]) -> None:
        loose = self.loose[switch] = []
        for entry in entries:
            node = owner(switch, entry)
            if node is None:
                loose.append(entry)
                continue
            if node.kind == ROOT:
                self.roots[switch] = node
            self.entries[node].append(entry)
            self.place[node] = switch

    def where(self, node: Node) -> str:
        """The switch of a node; empty for paths into servers."""
        return node.switch or self.place.get(node, "")

    def is_gated(self, node: Node) -> bool:
        """Whether it is a segment whose number brings its packets to the gated blocks."""
        return node.kind == SEGMENT and bool(node.number & GATED_SEGMENT)

    def line(self, node: Node, entry: TableEntry) -> Line:
        """An entry without numbers."""
        ids = IDS[node.kind]
        keys = tuple(sorted((name, key) for name, key in entry.keys if name not in ids))
        named = list(references(self.place[node], dict(entry.params)))
        return Line(
            entry.table,
            keys,
            entry.action,
            tuple(
                sorted(
                    (name, value)
                    for name, value in entry.params
                    if name not in _REFERENCES and name != _UNIMPORTANT
                )
            ),
            entry.meter,
            tuple(name for ref, names in named if ref == node for name in names),
            tuple(ref for ref, _ in named if ref != node),
        )

    def hops(self, core: Core, chain: ServerChain) -> Hops:
        """A service chain without numbers."""
        steps = tuple(
            (base_name(hop.nf), self.spec(core, hop.nf), hop.port) if hop.nf else hop.mac
            for hop in chain.hops
        )
        refs = tuple(path_node(hop.spi, hop.si) for hop in chain.hops if not hop.nf)
        return Hops(core.server, core.index, steps, chain.outputs, refs)

    def spec(self, core: Core, name: str) -> bytes:
        """Digest of an instance's type and configuration."""
        return self._specs[core, name]

    def refs(self, node: Node) -> Iterator[Node]:
        """The nodes that a node names."""
        for entry in self.entries.get(node, ()):
            yield from self.line(node, entry).refs
        for core, chain in self.chains.get(node, ()):
            yield from self.hops(core, chain).refs

    def below(self, node: Node) -> set[Node]:
        """All nodes that packets may come to behind a node."""
        found: set[Node] = set()
        todo = list(self.refs(node))
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo.extend(self.refs(at))
        return found

    def digest(self, node: Node) -> bytes:
        """What packets meet from here on."""
        if node not in self._digests:
            flood = self.floods.get(node)
            # A sum does not care for the order, and half a million lines need not be sorted.
            total = sum(self._line_digests(node)) % (1 << 8 * _DIGEST_BYTES)
            groups = flood and (flood.ports, flood.remote)
            text = repr((node.kind, self.where(node), self.is_gated(node), groups, total))
            self._digests[node] = _digest(text)
        return self._digests[node]

    def _line_digests(self, node: Node) -> Iterator[int]:
        ranks = rank_of(self.entries.get(node, ()))
        for entry in self.entries.get(node, ()):
            line = self.line(node, entry)
            refs = tuple(self.digest(ref) for ref in line.refs)
            rank = ranks[entry.table][entry.priority]
            yield int.from_bytes(_digest(repr((*line[:-1], refs, rank))), "big")
        for core, chain in self.chains.get(node, ()):
            hops = self.hops(core, chain)
            refs = tuple(self.digest(ref) for ref in hops.refs)
            yield int.from_bytes(_digest(repr((*hops[:-1], refs))), "big")


def owner(switch: str, entry: TableEntry) -> Node | None:
    """The node that an entry belongs to; None for loose ones."""
    keys = dict(entry.keys)
    segment = keys.get("segment")
    if isinstance(segment, Exact):
        return Node(SEGMENT, switch, segment.value)
    spi, si = keys.get("spi"), keys.get("si")
    if isinstance(spi, Exact) and isinstance(si, Exact):
        return path_node(spi.value, si.value)
    epoch = keys.get("epoch")
    if isinstance(epoch, Exact):
        return Node(ROOT, switch, epoch.value)
    group = keys.get("group")
    return Node(GROUP, switch, group.value) if isinstance(group, Exact) else None


def references(switch: str, params: Mapping[str, int]) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """The nodes that an entry's parameters name, and which parameters do."""
    for name in SEGMENT_PARAMS:
        if params.get(name):
            yield Node(SEGMENT, switch, params[name]), (name,)
    if params.get("group"):
        yield Node(GROUP, switch, params["group"]), ("group",)
    if params.get("spi"):
        yield path_node(params["spi"], params["si"]), ("spi", "si")


def path_node(spi: int, si: int) -> Node:
    """The node of a service path's position."""
    return Node(PATH, "", spi << 8 | si)


def rank_of(entries: list[TableEntry] | tuple[TableEntry, ...]) -> dict[str, dict[int, int]]:
    """Ranks of the priorities of each table: priorities may have gaps, ranks have none."""
    found: dict[str, set[int]] = defaultdict(set)
    for entry in entries:
        found[entry.table].add(entry.priority)
    return {
        table: {priority: rank for rank, priority in enumerate(sorted(some, reverse=True))}
        for table, some in found.items()
    }


def base_name(instance: str) -> str:
    """The NF of an instance: `fw~2` is the instance of `fw` with its second configuration."""
    return instance.partition("~")[0]


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
