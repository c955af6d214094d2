"""A new version of a graph beside the one that is deployed: what is equal keeps its numbers.

Nodes (`linker.nodes`) are never changed while packets may be in them, so old and new version coexist
and share what is equal; a changed node, and whatever refers to it up to the root, gets numbers that
the old version does not use, and one entry per ingress switch puts the new root in force.

Where it is just as safe, a node is changed in place instead, and nothing above it is touched. That is
so when no packet meets two of the changed nodes, and each changes in one table only: written in the
right order (`deployment.planning`), every packet then meets one of the changes at most. Where nodes of
decision trees cannot be changed so, they may still be copied below a segment that is changed in place.

Most nodes of two versions are equal, numbers and all, and so is everything below them. These are told
first, part by part, and nothing more is asked of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, count

from orchestrator.errors import CompileError
from orchestrator.linker.epochs import EPOCHS, epoch_entry
from orchestrator.linker.matching import Matched, by_table
from orchestrator.linker.nodes import (
    Nodes,
    Specs,
    differing_parts,
    named_by,
    named_by_keys,
    part_of,
    parts_of,
    references,
)
from orchestrator.linker.pairing import (
    Equality,
    pairing_of,
    same_entries,
    sorted_chains,
)
from orchestrator.memo import Memo
from orchestrator.model import ids
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    ChainHop,
    Entries,
    Exact,
    FloodGroup,
    NodePart,
    PipelineProgram,
    ServerChain,
    TableEntry,
    WorkerProgram,
)
from orchestrator.model.plan import Core
from orchestrator.model.refs import (
    LAYOUTS,
    PATH,
    ROOT,
    SEGMENT,
    TREE,
    Node,
    Role,
    numbers_of,
    path_node,
    segment_of,
    tree_node,
)
from orchestrator.targets.references import belonging, key_role, labels, param_role
from servernf.wire.instances import base_name


def share(new: Bundle, old: Bundle, memo: Memo | None = None) -> Bundle:
    """The new version with the old one's numbers where the two are the same."""
    new = _with_parts_of(old, new)
    specs = Specs()
    memo = Memo() if memo is None else memo
    before = Nodes(old, specs, like=memo.last("nodes"))
    after = memo.keep("nodes", Nodes(new, specs, like=before))
    return _Sharing(after, before).bundle()


def _with_parts_of(old: Bundle, new: Bundle) -> Bundle:
    """The new version with the old one's parts where they are equal, of whichever form.

    So they are told apart by identity from here on: what comes from a journal need not be made.
    """
    programs = dict(new.programs)
    for switch, program in programs.items():
        before = old.programs.get(switch)
        if before is None or not isinstance(program.entries, Entries):
            continue
        parts = parts_of(switch, before.entries)
        gone, come = differing_parts(parts, program.entries.parts)
        there: dict[tuple[Node | None, int], list[NodePart]] = defaultdict(list)
        for part in gone:
            there[part.node, len(part.entries)].append(part)
        old_parts = {
            id(part): same
            for part in come
            for same in there.get((part.node, len(part.entries)), ())
            if same.entries == part.entries
        }
        if old_parts:
            listed = (old_parts.get(id(part), part) for part in program.entries.parts)
            programs[switch] = replace(program, entries=Entries(listed))
    return replace(new, programs=programs)


class _Sharing:
    def __init__(self, new: Nodes, old: Nodes) -> None:
        self.new, self.old = new, old
        self.equality = Equality(new, old)
        self.same = self.equality.same
        self.pairing = pairing_of(self.equality)
        """None: nothing is changed in place."""
        self.graph_id = new.bundle.graph_id
        self.parts: dict[Node, list[NodePart]] = defaultdict(list)
        """By new node, of those that are not the same."""
        self.floods: dict[str, list[FloodGroup]] = defaultdict(list)
        self.chains: dict[Core, list[ServerChain]] = defaultdict(list)
        self.done: dict[Node, Node] = {}
        """New node -> the node that it is in the result."""
        self.kept: set[Node] = set()
        self.free = _Numbers(old)
        self.names = _instance_names(new, old)
        self.running = {Core(w.server, w.core): w.nfs for w in old.bundle.workers}

    @cached_property
    def staying(self) -> dict[tuple[str, str, int], list[Node]]:
        """Old nodes that stay as they are, by kind, switch and size."""
        staying: dict[tuple[str, str, int], list[Node]] = defaultdict(list)
        gone = self.pairing.altered() if self.pairing else set[Node]()
        if self.pairing is not None:  # a tree has no two equal nodes, so these are taken
            gone |= {node for node in self.pairing.new_of if node.kind == TREE}
        for node in sorted(self.same.gone - gone):
            staying[self.equality.size(self.old, node)].append(node)
        return staying

    def bundle(self) -> Bundle:
        """The result."""
        epochs: dict[str, int] = {}
        for switch, root in self.new.roots.items():
            epochs[switch] = self._emit(root, self._continued(root)).number
        for node in sorted(self.same.changed - self.done.keys()):
            if node not in self.done:  # no packet comes to it, but it was compiled
                self._emit(node, self._continued(node))
        self._keep_floods_and_chains()
        programs = {
            name: PipelineProgram(
                Entries(self._parts(name)),
                (epoch_entry(self.graph_id, epochs[name]),) if name in epochs else (),
                tuple(self.floods[name]),
            )
            for name in self.new.bundle.programs
        }
        return replace(self.new.bundle, programs=programs, workers=tuple(self._workers()))

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
        within = None
        if node.kind == TREE:
            within = self.done[segment_of(node)]
            if within not in self.kept:
                return None  # its segment has got another number
        if node in self.same and within in (None, segment_of(node)):
            return node
        if self.pairing is not None and node in self.pairing.old_of:
            old = self.pairing.old_of[node]
            fresh_root = node.kind == ROOT and node in self.pairing.changed
            return None if fresh_root else old
        equal = [
            old
            for old in self.staying.get(self.equality.size(self.new, node), ())
            if within in (None, segment_of(old)) and self.equality.equal(node, old)
        ]
        # Of several equal ones each is used once as far as they go.
        return next((n for n in equal if n not in self.kept), equal[0] if equal else None)

    def _emit(self, node: Node, old: Node | None) -> Node:
        """Put a node and all behind it into the result; `old` is what it stays."""
        emitted = self.done.get(node)
        if emitted is not None and (old is None or old == emitted):
            return emitted
        if old is not None:
            self.done[node] = old
            if old not in self.kept:
                self.kept.add(old)
                if node != old or node not in self.same:  # what is the same is put in at the end
                    self._keep(node, old)
            return old
        fresh = self.done[node] = self.free.take(node, self.done.get(segment_of(node)))
        if node in self.new.floods:
            flood = self.new.floods[node]
            self.floods[node.switch].append(flood._replace(group=fresh.number))
        place = self.new.place.get(node, "")
        renamed = [self._renamed(entry, node, fresh) for entry in self.new.entries(node)]
        self._add(node, place, fresh, renamed)
        for core, served in self.new.chains.get(node, ()):
            self.chains[core].append(self._rechained(core, served, fresh))
        return fresh

    def _add(self, node: Node, place: str, name: Node, entries: Sequence[TableEntry]) -> None:
        if entries:
            self.parts[node].append(part_of(place, name, entries))

    def _parts(self, switch: str) -> Iterator[NodePart]:
        """In the order of the new version: most are where the next version will have them, too."""
        copied = {node for node, other in self.done.items() if node != other}
        others = {*self.parts, *self.same.changed}
        if any(node.kind == SEGMENT for node in copied):
            trees = (node for node in self.new.parts if node.kind == TREE)
            others.update(node for node in trees if segment_of(node) in copied)
        for part in self.new.listed[switch]:
            if part.node is None:
                yield self._loose(switch, part)
            elif part.node not in others:
                yield part
            else:
                yield from self.parts.pop(part.node, ())

    def _loose(self, switch: str, part: NodePart) -> NodePart:
        """Entries of no node say the same in all versions, but where they speak of service paths."""
        renamed = dict.fromkeys(self._renamed_keys(entry, switch) for entry in part.entries)
        return part if part.entries == tuple(renamed) else part_of(switch, None, renamed)

    def _renamed_keys(self, entry: TableEntry, switch: str) -> TableEntry:
        numbers: dict[str, int] = {}
        for node, names in named_by_keys(switch, entry):
            numbers |= self._given(self.done.get(node, node), names, key_role, entry.table)
        if not numbers:
            return entry
        keys = ((n, Exact(numbers[n]) if n in numbers else key) for n, key in entry.keys)
        return entry._replace(keys=tuple(keys))

    def _keep_floods_and_chains(self) -> None:
        """Floods and chains that are the same in both versions."""
        for node, flood in self.new.floods.items():
            if node in self.same:
                self.floods[node.switch].append(flood)
        for node, chains in self.new.chains.items():
            if node in self.same:
                for core, served in chains:
                    self.chains[core].append(served)

    def _keep(self, node: Node, old: Node) -> None:
        """An old node, with what is changed in place."""
        if old in self.old.floods:
            kept = self.old.floods[old]._replace(origin=self.new.floods[node].origin)
            self.floods[old.switch].append(kept)
        chains = zip(sorted_chains(self.new, node), sorted_chains(self.old, old), strict=True)
        for ours, theirs in chains:
            self.chains[theirs[0]].append(theirs[1])
            self._follow(self.new.hops(*ours).refs, self.old.hops(*theirs).refs)
        changed, matches, settled = set[str](), dict[str, Matched](), set[tuple[object, ...]]()
        apart: Sequence[NodePart] = ()
        if self.pairing is not None:
            changed = self.pairing.changed.get(node, changed)
            matches = self.pairing.matched.get(node, matches)
            settled = self.pairing.settled.get(node, settled)
            apart = self.pairing.apart.get(node, apart)
        place = self.old.place.get(old, "")
        if not changed and node == old and same_entries(self.new, self.old, node):
            self.parts[node] += self.new.parts.get(node, ())
            refs = sorted(self.new.refs(node))
            self._follow(refs, refs)
            return
        self.parts[node] += apart
        entries = [entry for entry in self.new.entries(node, apart) if entry.effect in settled]
        both = self.old.entries(old, apart), self.new.entries(node, apart)
        tables_of = by_table(*both, settled)
        for table, (theirs, ours) in tables_of.items():
            matched = matches.get(table)
            if matched is None or matched.crowded:
                matched = self.equality.match(theirs, ours, belonging(table).own)
            kept = [after for _, after in matched.pairs]
            for at in matched.doubtful if node == old else range(len(kept)):
                before, after = matched.pairs[at]
                if after is not None:
                    kept[at] = self._kept(node, old, before, after, in_place=table in changed)
            entries += [entry for entry in kept if entry is not None]
        self._add(node, place, old, entries)

    def _kept(
        self,
        node: Node,
        old: Node,
        before: TableEntry | None,
        after: TableEntry,
        *,
        in_place: bool,
    ) -> TableEntry:
        """An entry of a new node that continues an old one, as the result has it."""
        alike = before is not None and node == old and before.same_effect(after)
        if alike and self._names_same(node, after):
            return after
        if before is not None and (not in_place or self._stays(node, old, before, after)):
            self._follow(self.new.line(node, after).refs, self.old.line(old, before).refs)
            return before._replace(origin=after.origin)
        return self._renamed(after, node, old)

    def _follow(self, ours: Iterable[Node], theirs: Iterable[Node]) -> None:
        for a, b in zip(ours, theirs, strict=True):
            self._emit(a, b)

    def _names_same(self, node: Node, entry: TableEntry) -> bool:
        """Whether the nodes that an entry names keep their numbers; then they are in the result."""
        refs = named_by(node, self.new.place[node], (entry,))
        if not all(self._continued(ref) == ref for ref in refs):
            return False
        self._follow(refs, refs)
        return True

    def _stays(self, node: Node, old: Node, before: TableEntry, after: TableEntry) -> bool:
        ours, theirs = self.new.line(node, after), self.old.line(old, before)
        return ours.alone == theirs.alone and all(
            self._continued(a) == b for a, b in zip(ours.refs, theirs.refs, strict=True)
        )

    def _renamed(self, entry: TableEntry, node: Node, name: Node) -> TableEntry:
        """A new entry with the numbers of the result."""
        own = self._given(name, belonging(entry.table).own, key_role, entry.table)
        keys = tuple((key, Exact(own[key]) if key in own else value) for key, value in entry.keys)
        params = dict(entry.params)
        for ref, names in references(node, self.new.place[node], entry.action, params):
            target = name if ref == node else self._emit(ref, self._continued(ref))
            params |= self._given(target, names, param_role, entry.action)
        for label in labels(entry.action):
            params[label] = self.free.traffic_class(params[label])
        renamed = entry._replace(
            keys=keys, params=tuple((name, params[name]) for name, _ in entry.params)
        )
        return entry if renamed == entry else renamed  # the one that other switches have, too

    def _given(
        self,
        node: Node,
        names: Iterable[str],
        role_of: Callable[[str, str], Role | None],
        where: str,
    ) -> dict[str, int]:
        """What keys of a table, or parameters of an action, hold that name a node."""
        numbers = numbers_of(node, self.graph_id)
        roles = ((name, role_of(where, name)) for name in names)
        return {name: numbers[role] for name, role in roles if role is not None}

    def _rechained(self, core: Core, chain: ServerChain, name: Node) -> ServerChain:
        hops: list[ChainHop] = []
        for hop in chain.hops:
            if hop.nf:
                hops.append(replace(hop, nf=self.names[core, hop.nf]))
                continue
            ref = path_node(hop.spi, hop.si)
            spi, si = ids.hop(self._emit(ref, self._continued(ref)).number)
            hops.append(replace(hop, spi=spi, si=si))
        spi, si = ids.hop(name.number)
        return replace(chain, spi=spi, si=si, hops=tuple(hops))


class _Numbers:
    """Numbers that the old version does not use."""

    def __init__(self, old: Nodes) -> None:
        self.graph = old.bundle.graph
        self.graph_id = old.bundle.graph_id
        self.epochs = {switch: root.number for switch, root in old.roots.items()}
        self.old = old
        self.spis: dict[int, int] = {}
        self._used: dict[tuple[str, str], set[int]] = {}
        self._trees: set[Node] = set()

    @cached_property
    def classes(self) -> set[int]:
        """Traffic classes in use."""
        return {
            value
            for node in self.old.all()
            if node.kind == SEGMENT
            for entry in self.old.entries(node)
            for name, value in entry.params
            if name in labels(entry.action)
        }

    def used(self, kind: str, switch: str) -> set[int]:
        """Numbers of a kind that are in use."""
        used = self._used.get((kind, switch))
        if used is None:
            numbers = (n.number for n in self.old.all() if (n.kind, n.switch) == (kind, switch))
            used = self._used[kind, switch] = {
                ids.hop(n).spi if kind == PATH else n for n in numbers
            }
        return used

    def take(self, node: Node, segment: Node | None = None) -> Node:
        """A name for a fresh node, its own number if that is free; `segment` is a tree's node's."""
        if node.kind == ROOT:
            before = self.epochs.get(node.switch)
            return node._replace(number=0 if before is None else (before + 1) % EPOCHS)
        if node.kind == PATH:
            spi, si = ids.hop(node.number)
            if spi not in self.spis:
                self.spis[spi] = self._free(node, spi)
            return path_node(self.spis[spi], si)
        if node.kind == TREE:
            assert segment is not None
            numbers = count(ids.tree_node(node.number).node)
            number = (
                tree_node(node.switch, segment.number, n & ids.MOST_TREE_NODES) for n in numbers
            )
            taken = next(n for n in number if n not in self.old and n not in self._trees)
            self._trees.add(taken)
            return taken
        return node._replace(number=self._free(node, node.number))

    def _free(self, node: Node, wanted: int) -> int:
        used, layout = self.used(node.kind, node.switch), LAYOUTS[Role(node.kind)]
        if wanted in used:
            same = ids.GATED if node.kind == SEGMENT else 0
            free = (
                n
                for n in layout.numbers(self.graph_id)[1:]
                if n not in used and not (n ^ wanted) & same
            )
            number = next(free, None)
            if number is None:
                where = f" of {node.switch}" if node.switch else ""
                raise CompileError(
                    f"{self.graph}: no {node.kind} number{where} is left for a second version: "
                    f"{layout.size - 1} are in use"
                )
            wanted = number
        used.add(wanted)
        return wanted

    def traffic_class(self, wanted: int) -> int:
        """A traffic class that no other entry has."""
        if wanted in self.classes:
            wanted = next(n for n in range(1, len(self.classes) + 2) if n not in self.classes)
        self.classes.add(wanted)
        return wanted


def _instance_names(new: Nodes, old: Nodes) -> dict[tuple[Core, str], str]:
    """Names of NF instances: one whose configuration is as it was stays, with its state.

    Another configuration is another instance beside the old one: `fw~2` for `fw`, which the worker
    has go on with the old one's state. It has that name on all of the NF's cores, so that state can go
    from one to the other; another one only where a core has that name already, for something else.
    """
    running: dict[Core, dict[str, int]] = {}
    named: dict[tuple[str, int], str] = {}
    """By NF and configuration, what such an instance is called on some core."""
    for worker in old.bundle.workers:
        core = Core(worker.server, worker.core)
        running[core] = {name: old.spec(core, name) for name in worker.nfs}
        for name, spec in running[core].items():
            named.setdefault((base_name(name), spec), name)
    cores = [Core(worker.server, worker.core) for worker in new.bundle.workers]
    taken = {name for core in cores for name in running.get(core, {})}
    names: dict[tuple[Core, str], str] = {}
    for core, worker in zip(cores, new.bundle.workers, strict=True):
        there = running.get(core, {})
        for nf in worker.nfs:
            spec = new.spec(core, nf)
            mine = [name for name, its in there.items() if base_name(name) == nf and its == spec]
            fresh = (n for n in chain([nf], (f"{nf}~{i}" for i in count(2))) if n not in taken)
            name = mine[0] if mine else named.get((nf, spec)) or next(fresh)
            if not mine and name in there:
                name = next(fresh)
            names[core, nf] = name
            named.setdefault((nf, spec), name)
    return names
