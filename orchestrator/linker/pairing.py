"""Which nodes of two versions of a graph are the same, and which may be changed in place.

Three questions, from the cheapest on: which nodes are equal to the letter with all below them, which
others packets cannot tell apart, and which old node a changed one may continue (`Pairing`), so that no
packet meets two changes.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Set
from itertools import chain

from orchestrator.linker.digests import Digests
from orchestrator.linker.matching import Matched, Matching, by_table, same_effects
from orchestrator.linker.nodes import Nodes, differing_parts, named_by
from orchestrator.model.decision import LEVELS
from orchestrator.model.entries import Lpm, NodePart, ServerChain, TableEntry
from orchestrator.model.plan import Core
from orchestrator.model.refs import GROUP, PATH, ROOT, TREE, Node, segment_of
from orchestrator.targets.block import VERSION_TABLE
from orchestrator.targets.references import belonging

_NOWHERE = object()
_VERSIONS = frozenset(VERSION_TABLE.values())


class _Same(Container[Node]):
    """Nodes that are the same in both versions, with all below them: entries and numbers.

    Most are, and have the very parts of the other version: only the others are looked into.
    """

    def __init__(self, new: Nodes, old: Nodes) -> None:
        self._new = new
        doubtful: set[Node] = {*new.floods, *old.floods, *new.chains, *old.chains}
        for switch in {**new.listed, **old.listed}:
            parts = differing_parts(new.listed.get(switch, ()), old.listed.get(switch, ()))
            doubtful.update(p.node for p in chain.from_iterable(parts) if p.node is not None)
        self.changed = new.above(n for n in doubtful if n in new and not _alike(new, old, n))
        """The new version's nodes that are not."""
        self.gone = {n for n in doubtful | self.changed if n in old and n not in self}
        """The old version's."""

    def __contains__(self, node: object) -> bool:
        return node not in self.changed and node in self._new


def _alike(new: Nodes, old: Nodes, node: Node) -> bool:
    if not same_entries(new, old, node):
        return False
    if node.kind not in (GROUP, PATH):
        return True
    if new.floods.get(node) != old.floods.get(node):
        return False
    chains = new.chains.get(node)
    return chains == old.chains.get(node) and all(
        new.spec(core, hop.nf) == old.spec(core, hop.nf)
        for core, program_chain in chains or ()
        for hop in program_chain.hops
        if hop.nf
    )


def same_entries(new: Nodes, old: Nodes, node: Node) -> bool:
    """To the letter, in the same order, but for provenance; shared parts are not looked into."""
    ours, theirs = new.parts.get(node, []), old.parts.get(node, [])
    if ours == theirs:
        return True
    if sum(len(p.entries) for p in ours) != sum(len(p.entries) for p in theirs):
        return False
    return all(map(TableEntry.same_effect, new.entries(node), old.entries(node)))


class Equality:
    """Which nodes of two versions packets cannot tell apart; `same` are those told apart by nothing."""

    def __init__(self, new: Nodes, old: Nodes) -> None:
        self.new, self.old = new, old
        self.same = _Same(new, old)
        self.match = Matching()
        self._digests = Digests(new, self.same), Digests(old, self.same)
        self._known: dict[tuple[Node, Node], bool] = {}

    def equal(self, new: Node, old: Node) -> bool:
        """Whether all packets meet the same from two nodes on."""
        if new in self.same or old in self.same:
            return new == old
        equal = self._known.get((new, old))
        if equal is None:
            if self.size(self.new, new) != self.size(self.old, old):
                equal = False
            elif new.kind == TREE:
                branches = zip(self.new.entries(new), self.old.entries(old), strict=True)
                equal = all(self._equal_branches(new, old, *pair) for pair in branches)
            else:
                ours, theirs = self._digests
                equal = ours.of(new) == theirs.of(old)
            self._known[new, old] = equal
        return equal

    @staticmethod
    def size(nodes: Nodes, node: Node) -> tuple[str, str, int]:
        """What equal nodes have in common, cheaply."""
        count = sum(len(part.entries) for part in nodes.parts.get(node, ()))
        return node.kind, node.switch, count

    def _equal_branches(self, new: Node, old: Node, ours: TableEntry, theirs: TableEntry) -> bool:
        """Whether branches in the same place of two nodes of trees are: cheaper than by digests."""
        if (ours.table, ours.action, _word(ours)) != (theirs.table, theirs.action, _word(theirs)):
            return False
        a, b = named_by(new, new.switch, (ours,)), named_by(old, old.switch, (theirs,))
        if not a and not b:
            return ours.params == theirs.params
        return len(a) == len(b) == len(ours.params) == 1 and self.equal(*a, *b)


class Pairing:
    """Which old nodes the new ones continue, when changed nodes are changed in place.

    Nodes of trees in `copied` are not changed in place: they continue only what they equal.
    """

    def __init__(self, equality: Equality, copied: Set[Node]) -> None:
        new, old = self.new, self.old = equality.new, equality.old
        self.equality, self.same, self.copied = equality, equality.same, copied
        self.old_of: dict[Node, Node] = {}
        self.new_of: dict[Node, Node] = {}
        self.matched: dict[Node, dict[str, Matched]] = {}
        """By new node and table."""
        self.changed: dict[Node, set[str]] = {}
        """Tables of a new node in which it differs from the old one it continues."""
        self.lines: dict[Node, list[tuple[TableEntry | None, TableEntry | None]]] = {}
        """How a changed node differs: (before, after)."""
        self.settled: dict[Node, set[tuple[object, ...]]] = {}
        """By new node: what `matched` leaves out, since nothing of it changes."""
        self.apart: dict[Node, list[NodePart]] = {}
        """Likewise, whole parts: they are not looked into."""
        for switch, root in new.roots.items():
            if switch in old.roots:
                self.pair(root, old.roots[switch])
        self.clashes = self._clashes()
        """New nodes that cannot be changed in place beside the others; none: it works."""

    def _one_table(self, node: Node) -> bool:
        if any(m.crowded for m in self.matched[node].values()):
            return False
        tables = self.changed[node]
        if node.kind == ROOT or len(tables) == 1:
            return True
        blocks = {table.rpartition(".")[0] for table in tables}
        return len(blocks) == 1 and {t.rpartition(".")[2] for t in tables} <= _VERSIONS

    def _clashes(self) -> set[Node]:
        """Changed nodes that change in several tables, or that packets meet behind another change."""
        news = set(self.changed)
        olds = {self.old_of[node] for node in news}
        clashing = {node for node in news if not self._one_table(node)}
        for node in news:
            before, after = zip(*self.lines[node], strict=True)
            clashing |= self._behind(self.new, node, before, after) & news
            old = self.old_of[node]
            clashing |= {self.new_of[n] for n in self._behind(self.old, old, before, after) & olds}
        # A root that comes or goes is a change, too.
        for switch in self.new.roots.keys() - self.old.roots.keys():
            clashing |= self.new.below(self.new.roots[switch], self.same) & news
        for switch in self.old.roots.keys() - self.new.roots.keys():
            below = self.old.below(self.old.roots[switch], self.same) & olds
            clashing |= {self.new_of[node] for node in below}
        return clashing

    def _behind(
        self,
        nodes: Nodes,
        node: Node,
        before: Iterable[TableEntry | None],
        after: Iterable[TableEntry | None],
    ) -> set[Node]:
        """Nodes that packets may come to which meet what changes in a node."""
        if node.kind != TREE:
            return nodes.below(node, self.same)
        # A packet meets one branch of a tree's node: the longest. So it matters where those lead
        # that change, or that are met where one comes or goes.
        asked: list[list[tuple[int, int]]] = []
        for entry in (*before, *after):
            if entry is not None:
                value, length = _word(entry)
                bits = range(length, -1, -1)
                asked.append([(value >> 32 - n << 32 - n, n) for n in bits])
        wanted = {word for words in asked for word in words}
        leads = {_word(entry): entry for entry in nodes.entries(node) if _word(entry) in wanted}
        met = [next((leads[word] for word in words if word in leads), None) for words in asked]
        behind: set[Node] = set()
        for ref in named_by(node, nodes.place[node], [entry for entry in met if entry is not None]):
            behind |= {ref, *nodes.below(ref, self.same)}
        return behind

    def altered(self) -> set[Node]:
        """Old nodes that will not be what they were: changed in place, or above such."""
        olds = {self.old_of[node] for node in self.changed}
        unpaired = dict.fromkeys(olds, True)

        def alters(node: Node) -> bool:
            if node not in unpaired:
                unpaired[node] = node not in self.same and any(map(alters, self.old.refs(node)))
            return unpaired[node]

        return {node for node in self.same.gone if alters(node)}

    def pair(self, new: Node, old: Node) -> bool:
        """Whether a new node can continue an old one."""
        if new in self.same or old in self.same:
            return new == old
        if new in self.old_of or old in self.new_of:
            return self.old_of.get(new) == old
        if (new.kind, self.new.where(new)) != (old.kind, self.old.where(old)):
            return False
        if self.new.is_gated(new) != self.old.is_gated(old) or not self._same_flood(new, old):
            return False
        if new.kind == TREE and self.old_of.get(segment_of(new)) != segment_of(old):
            return False
        if new in self.copied:
            return self.equality.equal(new, old)
        self.old_of[new], self.new_of[old] = old, new
        if new != old and self.equality.equal(new, old):
            return True
        if new in self.new.chains or old in self.old.chains:
            if self._pair_chains(new, old):
                return True
            del self.old_of[new], self.new_of[old]
            return False
        tables = self.matched[new] = {}
        apart = self.apart[new] = self._apart(new) if new == old else []
        settled = self.settled[new] = self._settled(new, apart) if new == old else set()
        both = self.old.entries(old, apart), self.new.entries(new, apart)
        tables_of = by_table(*both, settled)
        for table, (theirs, ours) in tables_of.items():
            alike = new == old and same_effects(ours, theirs)
            if alike and self._refs_stay(new, ours):
                tables[table] = Matched(tuple(zip(theirs, ours, strict=True)))
                continue
            matched = tables[table] = self.equality.match(theirs, ours, belonging(table).own)
            # Every pair is looked at: what is behind one continues even if another has changed.
            asked = matched.doubtful if new == old else range(len(matched.pairs))
            changed = [
                matched.pairs[i] for i in asked if not self._same(new, old, *matched.pairs[i])
            ]
            if changed:
                self.changed.setdefault(new, set()).add(table)
                self.lines.setdefault(new, []).extend(changed)
        return True

    def _apart(self, node: Node) -> list[NodePart]:
        """Parts that both versions have, if all that they name is the same and none has a priority."""
        before = {*map(id, self.old.parts.get(node, ()))}
        return [
            part
            for part in self.new.parts.get(node, ())
            if id(part) in before
            and all(ref in self.same for ref in part.refs)
            and not part.ranked()
        ]

    def _settled(self, node: Node, apart: Collection[NodePart]) -> set[tuple[object, ...]]:
        """Entries that are the same in both versions (but for provenance), as are all that they name.

        Of tables with priorities none: what the others come to depends on those around them.
        """
        old = {e.effect: e.meter for e in self.old.entries(node, apart) if not e.priority}
        entries = [
            e for e in self.new.entries(node, apart) if old.get(e.effect, _NOWHERE) == e.meter
        ]
        moved = {ref for ref in self.new.refs(node) if ref not in self.same}
        if moved:
            place = self.new.place.get(node, "")
            asked = {(entry.action, entry.params): entry for entry in entries}
            gone = {
                doing
                for doing, entry in asked.items()
                if not moved.isdisjoint(named_by(node, place, (entry,)))
            }
            entries = [e for e in entries if (e.action, e.params) not in gone]
        return {entry.effect for entry in entries}

    def _refs_stay(self, node: Node, entries: Iterable[TableEntry]) -> bool:
        """Whether all that some entries name continues the old node of the same number."""
        stay = [self.pair(ref, ref) for ref in named_by(node, self.new.place[node], entries)]
        return all(stay)

    def _same_flood(self, new: Node, old: Node) -> bool:
        ours, theirs = self.new.floods.get(new), self.old.floods.get(old)
        if ours is None or theirs is None:
            return ours is theirs
        return (ours.ports, ours.remote) == (theirs.ports, theirs.remote)

    def _pair_chains(self, new: Node, old: Node) -> bool:
        ours = [self.new.hops(*chain) for chain in sorted_chains(self.new, new)]
        theirs = [self.old.hops(*chain) for chain in sorted_chains(self.old, old)]
        return [h.alone for h in ours] == [h.alone for h in theirs] and all(
            self.pair(a, b)
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one.refs, other.refs, strict=True)
        )

    def _same(
        self, new: Node, old: Node, before: TableEntry | None, after: TableEntry | None
    ) -> bool:
        if before is None or after is None:
            return False
        if new == old and before.same_effect(after):
            return self._refs_stay(new, (after,))
        ours, theirs = self.new.line(new, after), self.old.line(old, before)
        return (
            ours.alone == theirs.alone
            and len(ours.refs) == len(theirs.refs)
            and all(self.pair(a, b) for a, b in zip(ours.refs, theirs.refs, strict=True))
        )


def pairing_of(equality: Equality) -> Pairing | None:
    """The one that changes most in place: nodes of trees that clash are copied, in the end all."""
    copied: set[Node] = set()
    trees = {node for node in equality.same.changed if node.kind == TREE}
    for _ in range(LEVELS):
        pairing = Pairing(equality, copied)
        if not pairing.clashes:
            return pairing
        if not pairing.clashes <= trees:
            break
        copied |= pairing.clashes
    pairing = Pairing(equality, trees)
    return None if pairing.clashes else pairing


def _word(entry: TableEntry) -> tuple[int, int]:
    """The prefix of a branch of a tree."""
    key = next((key for name, key in entry.keys if name == "word"), None)
    return (key.value, key.length) if isinstance(key, Lpm) else (0, 0)


def sorted_chains(nodes: Nodes, node: Node) -> list[tuple[Core, ServerChain]]:
    """The chains of a path, in an order that does not depend on numbers."""
    return sorted(nodes.chains.get(node, ()), key=lambda chain: repr(nodes.hops(*chain).alone))
