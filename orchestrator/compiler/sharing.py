"""A new version of a graph beside the one that is deployed: what is equal keeps its numbers.

Nodes (`compiler.nodes`) are never changed while packets may be in them, so old and new version coexist
and share what is equal; a changed node, and whatever refers to it up to the root, gets numbers that
the old version does not use, and one entry per ingress switch puts the new root in force.

Where it is just as safe, a node is changed in place instead, and nothing above it is touched. That is
so when no packet meets two of the changed nodes, and each changes in one table only: written in the
right order (`deployment.planning`), every packet then meets one of the changes at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, count

from orchestrator.compiler.admission import EPOCHS, epoch_entry
from orchestrator.compiler.matching import Matched, match_entries
from orchestrator.compiler.nodes import (
    GROUP,
    IDS,
    PATH,
    ROOT,
    SEGMENT,
    Node,
    Nodes,
    base_name,
    path_node,
    references,
)
from orchestrator.errors import CompileError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    ChainHop,
    Exact,
    FloodGroup,
    ServerChain,
    SwitchProgram,
    TableEntry,
    WorkerProgram,
)
from orchestrator.model.plan import Core
from orchestrator.targets.footprints import VERSION_TABLE
from orchestrator.targets.pipeline import GATED_SEGMENT

BITS = {SEGMENT: 14, GROUP: 6, PATH: 14}
"""Bits of a node's number below the graph id."""
_VERSIONS = frozenset(VERSION_TABLE.values())


def share(new: Bundle, old: Bundle) -> Bundle:
    """The new version with the old one's numbers where the two are the same."""
    return _Sharing(Nodes(new), Nodes(old)).bundle()


class _Pairing:
    """Which old nodes the new ones continue, when changed nodes are changed in place."""

    def __init__(self, new: Nodes, old: Nodes) -> None:
        self.new, self.old = new, old
        self.old_of: dict[Node, Node] = {}
        self.new_of: dict[Node, Node] = {}
        self.matched: dict[Node, dict[str, Matched]] = {}
        """By new node and table."""
        self.changed: dict[Node, set[str]] = {}
        """Tables of a new node in which it differs from the old one it continues."""
        self.in_place = self._try()

    def _try(self) -> bool:
        for switch, root in self.new.roots.items():
            if switch in self.old.roots:
                self.pair(root, self.old.roots[switch])
        return all(self._one_table(n) for n in self.changed) and self._apart()

    def _one_table(self, node: Node) -> bool:
        if any(m.crowded for m in self.matched[node].values()):
            return False
        tables = self.changed[node]
        if node.kind == ROOT or len(tables) == 1:
            return True
        blocks = {table.rpartition(".")[0] for table in tables}
        return len(blocks) == 1 and {t.rpartition(".")[2] for t in tables} <= _VERSIONS

    def _apart(self) -> bool:
        """Whether no packet can meet two of the changed nodes."""
        news = set(self.changed)
        olds = {self.old_of[node] for node in news}
        # A root that comes or goes is a change, too.
        added = {r for switch, r in self.new.roots.items() if switch not in self.old.roots}
        removed = {r for switch, r in self.old.roots.items() if switch not in self.new.roots}
        return not (
            any(self.new.below(node) & news for node in news | added)
            or any(self.old.below(node) & olds for node in olds | removed)
        )

    def pair(self, new: Node, old: Node) -> bool:
        """Whether a new node can continue an old one."""
        if new in self.old_of or old in self.new_of:
            return self.old_of.get(new) == old
        if (new.kind, self.new.where(new)) != (old.kind, self.old.where(old)):
            return False
        if self.new.is_gated(new) != self.old.is_gated(old) or not self._same_flood(new, old):
            return False
        self.old_of[new], self.new_of[old] = old, new
        if self.new.digest(new) == self.old.digest(old):
            return True
        if new in self.new.chains or old in self.old.chains:
            if self._pair_chains(new, old):
                return True
            del self.old_of[new], self.new_of[old]
            return False
        tables: dict[str, Matched] = {}
        for table, (ours, theirs) in _by_table(self.new, new, self.old, old).items():
            found = tables[table] = match_entries(theirs, ours, IDS[new.kind])
            # Every pair is looked at: what is behind one continues even if another has changed.
            same = [self._same(new, old, before, after) for before, after in found.pairs]
            if not all(same):
                self.changed.setdefault(new, set()).add(table)
        self.matched[new] = tables
        return True

    def _same_flood(self, new: Node, old: Node) -> bool:
        ours, theirs = self.new.floods.get(new), self.old.floods.get(old)
        if ours is None or theirs is None:
            return ours is theirs
        return (ours.ports, ours.remote) == (theirs.ports, theirs.remote)

    def _pair_chains(self, new: Node, old: Node) -> bool:
        ours = [self.new.hops(*chain) for chain in _sorted_chains(self.new, new)]
        theirs = [self.old.hops(*chain) for chain in _sorted_chains(self.old, old)]
        return [h[:-1] for h in ours] == [h[:-1] for h in theirs] and all(
            self.pair(a, b)
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one.refs, other.refs, strict=True)
        )

    def _same(
        self, new: Node, old: Node, before: TableEntry | None, after: TableEntry | None
    ) -> bool:
        if before is None or after is None:
            return False
        ours, theirs = self.new.line(new, after), self.old.line(old, before)
        return (
            ours[:-1] == theirs[:-1]
            and len(ours.refs) == len(theirs.refs)
            and all(self.pair(a, b) for a, b in zip(ours.refs, theirs.refs, strict=True))
        )


class _Sharing:
    def __init__(self, new: Nodes, old: Nodes) -> None:
        self.new, self.old = new, old
        self.pairing = _Pairing(new, old)
        self.graph_id = new.bundle.graph_id
        self.entries: dict[str, list[TableEntry]] = defaultdict(list)
        self.floods: dict[str, list[FloodGroup]] = defaultdict(list)
        self.chains: dict[Core, list[ServerChain]] = defaultdict(list)
        self.done: dict[Node, Node] = {}
        """New node -> the node that it is in the result."""
        self.kept: set[Node] = set()
        self.met: set[Node] = set()
        self.free = _Numbers(old)
        self.names = _instance_names(new, old)
        self.running = {Core(w.server, w.core): w.nfs for w in old.bundle.workers}
        self.alike: dict[bytes, list[Node]] = defaultdict(list)
        for node in sorted({*old.entries, *old.floods, *old.chains}):
            self.alike[old.digest(node)].append(node)

    def bundle(self) -> Bundle:
        """The result."""
        epochs: dict[str, int] = {}
        for switch, root in self.new.roots.items():
            epochs[switch] = self._emit(root, self._continued(root)).number
        for node in sorted({*self.new.entries, *self.new.floods, *self.new.chains} - self.met):
            self._emit(node, self._continued(node))  # no packet comes to it, but it was compiled
        switches = {
            name: SwitchProgram(
                (*self.entries[name], *self.new.loose[name]),
                (epoch_entry(self.graph_id, epochs[name]),) if name in epochs else (),
                tuple(self.floods[name]),
            )
            for name in self.new.bundle.switches
        }
        return replace(self.new.bundle, switches=switches, workers=tuple(self._workers()))

    def _workers(self) -> Iterable[WorkerProgram]:
        for worker in self.new.bundle.workers:
            core = Core(worker.server, worker.core)
            running = self.running.get(core, {})
            nfs = {
                # One that stays is the old one to the byte (a journal turns tuples into lists).
                self.names[core, name]: running.get(self.names[core, name], spec)
                for name, spec in worker.nfs.items()
            }
            yield replace(worker, nfs=nfs, chains=tuple(self.chains[core]))

    def _continued(self, node: Node) -> Node | None:
        """The old node that a new one stays, or None."""
        if self.pairing.in_place and node in self.pairing.old_of:
            old = self.pairing.old_of[node]
            fresh_root = node.kind == ROOT and node in self.pairing.changed
            return None if fresh_root else old
        equal = self.alike.get(self.new.digest(node), [])
        # Of several equal ones each is used once as far as they go.
        return next((n for n in equal if n not in self.kept), equal[0] if equal else None)

    def _emit(self, node: Node, old: Node | None) -> Node:
        """Put a node and all behind it into the result; `old` is what it stays."""
        self.met.add(node)
        if old is not None:
            if old not in self.kept:
                self.kept.add(old)
                self._keep(node, old)
            return old
        if node not in self.done:
            fresh = self.done[node] = self.free.take(node)
            if node in self.new.floods:
                flood = self.new.floods[node]
                self.floods[node.switch].append(flood._replace(group=fresh.number))
            for entry in self.new.entries.get(node, ()):
                self.entries[self.new.place[node]].append(self._renamed(entry, node, fresh))
            for core, found in self.new.chains.get(node, ()):
                self.chains[core].append(self._rechained(core, found, fresh))
        return self.done[node]

    def _keep(self, node: Node, old: Node) -> None:
        """An old node, with what is changed in place."""
        if old in self.old.floods:
            kept = self.old.floods[old]._replace(origin=self.new.floods[node].origin)
            self.floods[old.switch].append(kept)
        chains = zip(_sorted_chains(self.new, node), _sorted_chains(self.old, old), strict=True)
        for ours, theirs in chains:
            self.chains[theirs[0]].append(theirs[1])
            self._follow(self.new.hops(*ours).refs, self.old.hops(*theirs).refs)
        changed = self.pairing.changed.get(node, set()) if self.pairing.in_place else set[str]()
        place = self.old.place.get(old, "")
        for table, (ours, theirs) in _by_table(self.new, node, self.old, old).items():
            matched = self.pairing.matched.get(node, {}).get(table)
            if matched is None or matched.crowded:
                matched = match_entries(theirs, ours, IDS[node.kind])
            for before, after in matched.pairs:
                if after is None:
                    continue
                if before is not None and (
                    table not in changed or self._stays(node, old, before, after)
                ):
                    self.entries[place].append(before._replace(origin=after.origin))
                    ours_refs = self.new.line(node, after).refs
                    self._follow(ours_refs, self.old.line(old, before).refs)
                else:
                    self.entries[place].append(self._renamed(after, node, old))

    def _follow(self, ours: Iterable[Node], theirs: Iterable[Node]) -> None:
        for a, b in zip(ours, theirs, strict=True):
            self._emit(a, b)

    def _stays(self, node: Node, old: Node, before: TableEntry, after: TableEntry) -> bool:
        ours, theirs = self.new.line(node, after), self.old.line(old, before)
        return ours[:-1] == theirs[:-1] and all(
            self._continued(a) == b for a, b in zip(ours.refs, theirs.refs, strict=True)
        )

    def _renamed(self, entry: TableEntry, node: Node, name: Node) -> TableEntry:
        """A new entry with the numbers of the result."""
        numbers = _numbers(name, self.graph_id)
        keys = tuple(
            (key, Exact(numbers[key]) if key in IDS[node.kind] else value)
            for key, value in entry.keys
        )
        params = dict(entry.params)
        for ref, names in references(self.new.place[node], params):
            found = name if ref == node else self._emit(ref, self._continued(ref))
            params |= zip(names, _numbers(found, self.graph_id).values(), strict=True)
        if "traffic_class" in params:
            params["traffic_class"] = self.free.traffic_class(params["traffic_class"])
        return entry._replace(
            keys=keys, params=tuple((name, params[name]) for name, _ in entry.params)
        )

    def _rechained(self, core: Core, chain: ServerChain, name: Node) -> ServerChain:
        hops: list[ChainHop] = []
        for hop in chain.hops:
            if hop.nf:
                hops.append(replace(hop, nf=self.names[core, hop.nf]))
                continue
            ref = path_node(hop.spi, hop.si)
            numbers = _numbers(self._emit(ref, self._continued(ref)), self.graph_id)
            hops.append(replace(hop, **numbers))
        return replace(chain, hops=tuple(hops), **_numbers(name, self.graph_id))


class _Numbers:
    """Numbers that the old version does not use."""

    def __init__(self, old: Nodes) -> None:
        self.graph = old.bundle.graph
        self.graph_id = old.bundle.graph_id
        self.epochs = {switch: root.number for switch, root in old.roots.items()}
        self.used: dict[tuple[str, str], set[int]] = defaultdict(set)
        for node in (*old.entries, *old.floods, *old.chains):
            number = node.number >> 8 if node.kind == PATH else node.number
            self.used[node.kind, node.switch].add(number)
        self.spis: dict[int, int] = {}
        params = (p for entries in old.entries.values() for e in entries for p in e.params)
        self.classes = {value for name, value in params if name == "traffic_class"}

    def take(self, node: Node) -> Node:
        """A name for a fresh node: its own number if that is free."""
        if node.kind == ROOT:
            before = self.epochs.get(node.switch)
            return node._replace(number=0 if before is None else (before + 1) % EPOCHS)
        if node.kind == PATH:
            spi, si = node.number >> 8, node.number & 0xFF
            if spi not in self.spis:
                self.spis[spi] = self._free(node, spi)
            return node._replace(number=self.spis[spi] << 8 | si)
        return node._replace(number=self._free(node, node.number))

    def _free(self, node: Node, wanted: int) -> int:
        used, bits = self.used[node.kind, node.switch], BITS[node.kind]
        if wanted in used:
            first = self.graph_id << bits
            same = GATED_SEGMENT if node.kind == SEGMENT else 0
            free = (
                n
                for n in range(first + 1, first + (1 << bits))
                if n not in used and not (n ^ wanted) & same
            )
            found = next(free, None)
            if found is None:
                where = f" of {node.switch}" if node.switch else ""
                raise CompileError(
                    f"{self.graph}: no {node.kind} number{where} is left for a second version: "
                    f"{(1 << bits) - 1} are in use"
                )
            wanted = found
        used.add(wanted)
        return wanted

    def traffic_class(self, wanted: int) -> int:
        """A traffic class that no other entry has."""
        if wanted in self.classes:
            wanted = next(n for n in range(1, len(self.classes) + 2) if n not in self.classes)
        self.classes.add(wanted)
        return wanted


def _numbers(node: Node, graph_id: int) -> dict[str, int]:
    """The keys or parameters that name a node."""
    if node.kind == PATH:
        return {"spi": node.number >> 8, "si": node.number & 0xFF}
    if node.kind == ROOT:
        return {"graph": graph_id, "epoch": node.number}
    return {node.kind: node.number}


def _instance_names(new: Nodes, old: Nodes) -> dict[tuple[Core, str], str]:
    """Names of NF instances: one whose configuration is as it was stays, with its state.

    Another configuration is another instance beside the old one: `fw~2` for `fw`.
    """
    running: dict[Core, dict[str, bytes]] = {}
    for worker in old.bundle.workers:
        core = Core(worker.server, worker.core)
        running[core] = {name: old.spec(core, name) for name in worker.nfs}
    names: dict[tuple[Core, str], str] = {}
    for worker in new.bundle.workers:
        core = Core(worker.server, worker.core)
        there = running.get(core, {})
        for nf in worker.nfs:
            mine = {name: spec for name, spec in there.items() if base_name(name) == nf}
            same = [name for name, spec in mine.items() if spec == new.spec(core, nf)]
            fresh = (n for n in chain([nf], (f"{nf}~{i}" for i in count(2))) if n not in mine)
            names[core, nf] = same[0] if same else next(fresh)
    return names


def _sorted_chains(nodes: Nodes, node: Node) -> list[tuple[Core, ServerChain]]:
    """The chains of a path, in an order that does not depend on numbers."""
    return sorted(nodes.chains.get(node, ()), key=lambda chain: repr(nodes.hops(*chain)[:-1]))


def _by_table(
    new: Nodes, node: Node, old: Nodes, other: Node
) -> dict[str, tuple[list[TableEntry], list[TableEntry]]]:
    """Entries of two nodes by table."""
    tables: dict[str, tuple[list[TableEntry], list[TableEntry]]] = {}
    for entry in new.entries.get(node, ()):
        tables.setdefault(entry.table, ([], []))[0].append(entry)
    for entry in old.entries.get(other, ()):
        tables.setdefault(entry.table, ([], []))[1].append(entry)
    return tables
