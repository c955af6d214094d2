"""A bundle as a persistent data structure: nodes that refer to each other, without a cycle.

A node is what has a number of its own: a segment or a multicast group of a switch, a node of a segment's
decision tree, a service path (SPI, SI), and for each ingress switch the root, the first segments of its
frames. Its digest says what packets meet from there on, whatever the numbers are: nodes of two versions
with equal digests are interchangeable. (Merkle's trees; path copying as of Driscoll, Sarnak, Sleator,
Tarjan, "Making data structures persistent", 1989.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from orchestrator.alignment import unlike
from orchestrator.model import ids
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    Entries,
    Exact,
    FloodGroup,
    Key,
    Meter,
    NodePart,
    ServerChain,
    TableEntry,
)
from orchestrator.model.plan import Core
from orchestrator.model.refs import (
    GROUP,
    PATH,
    ROOT,
    SEGMENT,
    TREE,
    Node,
    path_node,
    segment_of,
    tree_node,
)
from orchestrator.targets.references import belonging, key_mentions, labels, mentions
from orchestrator.walks import walk
from servernf.wire.instances import base_name


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

    @property
    def alone(self) -> tuple[object, ...]:
        """Without what it names."""
        return self[:-1]


class Hops(NamedTuple):
    """A service chain without numbers: `steps` are (NF, number of its configuration, port) or a MAC."""

    server: str
    core: int
    steps: tuple[Any, ...]
    outputs: tuple[str, ...]
    refs: tuple[Node, ...]

    @property
    def alone(self) -> tuple[object, ...]:
        """Without what it names."""
        return self[:-1]


class Specs:
    """Types and configurations of NF instances, numbered: equal ones have one number."""

    def __init__(self) -> None:
        self._known: list[tuple[str, Any]] = []

    def number(self, spec: tuple[str, Any]) -> int:
        """The number of a type and configuration."""
        for number, numbered in enumerate(self._known):
            if spec is numbered or _same_values(spec, numbered):
                return number
        self._known.append(spec)
        return len(self._known) - 1


class NamingNodes:
    """Which nodes name a node, and how often."""

    def __init__(self, parts: Iterable[NodePart] = ()) -> None:
        self._before: dict[Node, Counter[Node]] = {}
        for node, named in _named(parts).items():
            for ref, count in named.items():
                self._before.setdefault(ref, Counter())[node] = count

    def of(self, node: Node) -> Iterable[Node]:
        """The nodes of which some entry names a node."""
        return self._before.get(node, ())

    def after(self, gone: Iterable[NodePart], come: Iterable[NodePart]) -> NamingNodes:
        """Those without what some parts name, and with what others do."""
        sources, own = NamingNodes(), set[Node]()
        sources._before = dict(self._before)
        was, now = _named(gone), _named(come)
        for node in {*was, *now}:
            change = now.get(node, Counter()).copy()
            change.subtract(was.get(node, Counter()))
            for ref, count in change.items():
                if not count:
                    continue
                if ref not in own:
                    own.add(ref)
                    sources._before[ref] = Counter(sources._before.get(ref))
                counts = sources._before[ref]
                counts[node] += count
                if not counts[node]:
                    del counts[node]
        return sources


def _named(parts: Iterable[NodePart]) -> dict[Node, Counter[Node]]:
    """How often each node names another one."""
    naming: dict[Node, Counter[Node]] = {}
    for part in parts:
        if part.node is not None:
            naming.setdefault(part.node, Counter()).update(part.refs)
    return naming


class Nodes:
    """The nodes of one bundle. Parts that belong to none say the same in all versions.

    Made from those of another version (`like`) where parts are shared: only the others are looked at.
    """

    def __init__(
        self, bundle: Bundle, specs: Specs | None = None, like: Nodes | None = None
    ) -> None:
        self.bundle = bundle
        self.listed: dict[str, Sequence[NodePart]] = {
            switch: parts_of(switch, program.entries) for switch, program in bundle.programs.items()
        }
        """All parts, by switch."""
        self.parts: dict[Node, list[NodePart]] = {} if like is None else dict(like.parts)
        self.floods: dict[Node, FloodGroup] = {}
        self.chains: dict[Node, list[tuple[Core, ServerChain]]] = defaultdict(list)
        self.place: dict[Node, str] = {} if like is None else dict(like.place)
        """The switch that has a node's entries."""
        self.roots: dict[str, Node] = {} if like is None else dict(like.roots)
        self._specs: dict[tuple[Core, str], int] = {}
        self._sources: NamingNodes | None = None
        specs = specs or Specs()
        if like is None:
            for switch, parts in self.listed.items():
                for part in parts:
                    self._add(switch, part)
        else:
            self._follow(like)
        for switch, program in bundle.programs.items():
            for flood in program.floods:
                self.floods[Node(GROUP, switch, flood.group)] = flood
        for worker in bundle.workers:
            core = Core(worker.server, worker.core)
            for name, spec in worker.nfs.items():
                self._specs[core, name] = specs.number(spec)
            for program_chain in worker.chains:
                self.chains[path_node(program_chain.spi, program_chain.si)].append(
                    (core, program_chain)
                )

    def _add(self, switch: str, part: NodePart) -> None:
        node = part.node
        if node is None:
            return
        if node in self.parts:
            self.parts[node] = [*self.parts[node], part]
            return
        self.parts[node] = [part]
        self.place[node] = switch
        if node.kind == ROOT:
            self.roots[switch] = node

    def _remove(self, part: NodePart) -> None:
        node = part.node
        if node is None:
            return
        self.parts[node] = [other for other in self.parts[node] if other is not part]
        if not self.parts[node]:
            del self.parts[node]
            place = self.place.pop(node)
            if self.roots.get(place) == node:
                del self.roots[place]

    def _follow(self, like: Nodes) -> None:
        """From another version's parts to these."""
        changes = [
            (switch, *differing_parts(like.listed.get(switch, ()), self.listed.get(switch, ())))
            for switch in {**like.listed, **self.listed}
        ]
        parts = [part for _, gone, come in changes for part in (*gone, *come)]
        moved = {part.node for part in parts if part.node is not None}
        several = {node for node in moved if len(self.parts.get(node, ())) > 1}
        for _, gone, _ in changes:
            for part in gone:
                self._remove(part)
        for switch, _, come in changes:
            for part in come:
                self._add(switch, part)
        if like._sources is not None:
            self._sources = like._sources.after(
                [part for _, gone, _ in changes for part in gone],
                [part for _, _, come in changes for part in come],
            )
        several |= {node for node in moved if len(self.parts.get(node, ())) > 1}
        if several:  # in the order in which they are listed
            for node in several & self.parts.keys():
                del self.parts[node], self.place[node]
            for switch, listed in self.listed.items():
                for part in listed:
                    if part.node in several:
                        self._add(switch, part)

    def all(self) -> set[Node]:
        """Every node."""
        return {*self.parts, *self.floods, *self.chains}

    def __contains__(self, node: object) -> bool:
        return node in self.parts or node in self.floods or node in self.chains

    def entries(self, node: Node, but: Collection[NodePart] = ()) -> Iterator[TableEntry]:
        """A node's entries, of all tables, without those of some parts."""
        apart = {*map(id, but)}
        parts = (part for part in self.parts.get(node, ()) if id(part) not in apart)
        return chain.from_iterable(part.entries for part in parts)

    def where(self, node: Node) -> str:
        """The switch of a node; empty for paths into servers."""
        return node.switch or self.place.get(node, "")

    def is_gated(self, node: Node) -> bool:
        """Whether it is a segment whose number brings its packets to the gated blocks."""
        return node.kind == SEGMENT and ids.is_gated(node.number)

    def line(self, node: Node, entry: TableEntry) -> Line:
        """An entry without numbers."""
        return line_of(node, self.place[node], entry)

    def hops(self, core: Core, chain: ServerChain) -> Hops:
        """A service chain without numbers."""
        steps = tuple(
            (base_name(hop.nf), self.spec(core, hop.nf), hop.port) if hop.nf else hop.mac
            for hop in chain.hops
        )
        refs = tuple(path_node(hop.spi, hop.si) for hop in chain.hops if not hop.nf)
        return Hops(core.server, core.index, steps, chain.outputs, refs)

    def spec(self, core: Core, name: str) -> int:
        """The number of an instance's type and configuration."""
        return self._specs[core, name]

    def refs(self, node: Node) -> set[Node]:
        """The nodes that a node names."""
        refs: set[Node] = set()
        for part in self.parts.get(node, ()):
            refs.update(part.refs)
        for core, served in self.chains.get(node, ()):
            refs.update(self.hops(core, served).refs)
        return refs

    def below(self, node: Node, but: Container[Node] = ()) -> set[Node]:
        """All nodes that packets may come to behind a node, except some and what only they lead to."""

        def refs(at: Node) -> Iterator[Node]:
            return (ref for ref in self.refs(at) if ref not in but)

        return set(walk(refs(node), refs))

    def above(self, nodes: Iterable[Node]) -> set[Node]:
        """Some nodes, and all from which packets may come to them."""
        if self._sources is None:
            self._sources = NamingNodes(chain.from_iterable(self.listed.values()))
        chains: dict[Node, list[Node]] = defaultdict(list)
        for node in self.chains:
            for ref in self.refs(node):
                chains[ref].append(node)
        sources = self._sources
        return set(walk(nodes, lambda at: chain(sources.of(at), chains.get(at, ()))))


def differing_parts(
    one: Sequence[NodePart], other: Sequence[NodePart]
) -> tuple[list[NodePart], list[NodePart]]:
    """What only one of two lists of parts has, and what only the other."""
    ours: list[NodePart] = []
    theirs: list[NodePart] = []
    for gone, come in unlike(one, other):
        ours += one[gone]
        theirs += other[come]
    shared = {*map(id, ours)} & {*map(id, theirs)}  # they have only moved
    mine, yours = ([p for p in parts if id(p) not in shared] for parts in (ours, theirs))
    return mine, yours


def parts_of(switch: str, entries: Sequence[TableEntry]) -> Sequence[NodePart]:
    """Entries by the nodes that they belong to, in order of their first ones."""
    if isinstance(entries, Entries):
        return entries.parts
    by_node: dict[Node | None, list[TableEntry]] = {}
    for entry in entries:
        by_node.setdefault(owner(switch, entry), []).append(entry)
    return [part_of(switch, node, mine) for node, mine in by_node.items()]


def in_parts(bundle: Bundle) -> Bundle:
    """A bundle whose entries are divided once, for all that ask by node."""
    programs = {
        switch: program
        if isinstance(program.entries, Entries)
        else replace(program, entries=Entries(parts_of(switch, program.entries)))
        for switch, program in bundle.programs.items()
    }
    return replace(bundle, programs=programs)


def part_of(switch: str, node: Node | None, entries: Iterable[TableEntry]) -> NodePart:
    """Entries of a node as a part."""
    mine = tuple(entries)
    return NodePart(node, mine, () if node is None else named_by(node, switch, mine))


def named_by(node: Node, switch: str, entries: Iterable[TableEntry]) -> tuple[Node, ...]:
    """The other nodes that entries of a node name."""
    asked = {(entry.action, entry.params) for entry in entries if entry.params}
    nodes: set[Node] = set()
    for action, params in asked:
        nodes.update(ref for ref, _ in references(node, switch, action, dict(params)))
    nodes.discard(node)
    return tuple(sorted(nodes))


def line_of(node: Node, switch: str, entry: TableEntry) -> Line:
    """An entry of a node without numbers."""
    own, numbers = belonging(entry.table).own, _numbered(entry.action)
    named = list(references(node, switch, entry.action, dict(entry.params)))
    return Line(
        entry.table,
        tuple(sorted((name, key) for name, key in entry.keys if name not in own)),
        entry.action,
        tuple(sorted((name, value) for name, value in entry.params if name not in numbers)),
        entry.meter,
        tuple(name for ref, names in named if ref == node for name in names),
        tuple(ref for ref, _ in named if ref != node),
    )


@cache
def _numbered(action: str) -> frozenset[str]:
    """Parameters whose numbers the linker gives, though they may name nothing (0)."""
    named = (name for mention in mentions(action) for name in mention.names)
    return frozenset((*named, *labels(action)))


def owner(switch: str, entry: TableEntry) -> Node | None:
    """The node that an entry belongs to; None for loose ones."""
    kind, names, _ = belonging(entry.table)
    if not kind:
        return None
    keys = dict(entry.keys)
    numbers = [key.value for key in map(keys.get, names) if isinstance(key, Exact)]
    return _node(kind, switch, numbers) if len(numbers) == len(names) else None


def references(
    node: Node, switch: str, action: str, params: Mapping[str, int]
) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """The nodes that the parameters of a node's entry name, and which parameters do."""
    for kind, names in mentions(action):
        numbers = [params[name] for name in names if name in params]
        if len(numbers) < len(names):
            continue
        if kind == TREE:
            yield tree_node(switch, segment_of(node).number, *numbers), names
        elif numbers[0]:
            yield _node(kind, switch, numbers), names


def named_by_keys(switch: str, entry: TableEntry) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """The nodes that keys of an entry name without its being theirs, and which keys do."""
    keys = dict(entry.keys)
    for kind, names in key_mentions(entry.table):
        numbers = [key.value for key in map(keys.get, names) if isinstance(key, Exact)]
        if len(numbers) == len(names):
            yield _node(kind, switch, numbers), names


def _node(kind: str, switch: str, numbers: Sequence[int]) -> Node:
    if kind == TREE:
        return tree_node(switch, *numbers)
    return path_node(*numbers) if kind == PATH else Node(kind, switch, numbers[0])


def _same_values(one: Any, other: Any) -> bool:
    """Whether JSON values are equal; a journal turns tuples into lists."""
    if one is other or one == other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same_values(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same_values, one, other))
    return False
