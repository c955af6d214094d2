"""From what is deployed to what shall be: the transaction, made of two bundles and nothing else.

Make before break: server configurations and entries of the new version first, then one entry per
ingress switch puts it in force (or entries change in place), then, once the old version's packets
have drained, what only that one had goes. The linker has numbered the new version so that
the two coexist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import groupby
from operator import ne

from orchestrator.alignment import common_ends
from orchestrator.compiler.fabric_program import OWNER
from orchestrator.deployment.desired import sample_session
from orchestrator.deployment.moves import state_moves
from orchestrator.deployment.origins import origins_of
from orchestrator.deployment.standbys import followings
from orchestrator.deployment.transaction import (
    ChainWorker,
    Change,
    ConfigureWorker,
    Drain,
    Follow,
    LoadPipeline,
    MoveState,
    NfSpec,
    Stage,
    Step,
    Transaction,
    WriteEntries,
)
from orchestrator.garbage import large_frozen_data
from orchestrator.linker.matching import by_table, same_effects
from orchestrator.linker.nodes import differing_parts, owner, parts_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Lpm, NodePart, PipelineProgram, TableEntry, WorkerProgram
from orchestrator.model.manifest import SamplingSecret, manifest_entries
from orchestrator.model.plan import Core
from orchestrator.model.provenance import told
from orchestrator.model.refs import GROUP, PATH, ROOT, TREE, Node, segment_of
from orchestrator.targets.pipelines import build_for

CHECK = "check pipelines"
SERVERS = "configure servers"
ENTRIES = "write entries"
SWITCH_OVER = "put in force"
CLOSE, OPEN = "take out of force", "put in force again"
DRAIN = "drain"
STANDBYS = "leave standbys"
COPY_STATE, MARK, HAND_OVER = "copy state", "mark last packets", "hand state over"
OLD_ENTRIES = "delete old entries"
OLD_SERVERS = "clear servers"
FOLLOW = "start standbys"
PROVENANCE = "update provenance"

_NOTHING = PipelineProgram((), (), ())
_Identity = tuple[str, frozenset[object], int]


@dataclass(frozen=True, slots=True)
class Version:
    """A graph as it is or shall be deployed. `alone`: the fabric's entries come and go with it."""

    bundle: Bundle
    manifest: SamplingSecret | None
    alone: bool = False


def plan(old: Version | None, new: Version | None, *, interrupting: bool = False) -> Transaction:
    """What turns the old version into the new one; None is a graph that is not deployed.

    `interrupting`: break before make, for tables that do not hold both.
    """
    with large_frozen_data():
        return _Planner(old, new).transaction(interrupting)


@dataclass(slots=True)
class _DeviceChanges:
    """What changes on one device, by when it may be done."""

    device: str
    made: list[Change]
    in_place: list[list[Change]]
    """Each list may be written in any order, one list after the other."""
    flips: list[Change]
    renamed: list[Change]
    removed: list[Change]
    fabric_made: list[Change]
    fabric_removed: list[Change]


class _Planner:
    def __init__(self, old: Version | None, new: Version | None) -> None:
        self.old, self.new = old, new
        either = new or old
        assert either is not None
        self.graph = either.bundle.graph
        self.devices = [self._device(name) for name in either.bundle.pipeline_of]
        self.before = {} if old is None else _workers(old.bundle)
        self.after = {} if new is None else _workers(new.bundle)

    def transaction(self, interrupting: bool) -> Transaction:
        stages = [
            Stage(CHECK, tuple(self._loads())),
            Stage(SERVERS, tuple(self._servers(arrive=True))),
            *(self._interrupting() if interrupting else self._make_before_break()),
            Stage(OLD_SERVERS, tuple(self._servers(arrive=False))),
            Stage(FOLLOW, tuple(self._follows(starts=True))),
            Stage(PROVENANCE, tuple(self._writes("renamed"))),
        ]
        stages = [stage for stage in stages if stage.steps]
        if [stage.title for stage in stages] == [CHECK]:
            stages = []
        return Transaction(self.graph, tuple(stages))

    def _make_before_break(self) -> Iterator[Stage]:
        in_force = (*self._in_place(), *self._writes("flips"))
        made, removed = tuple(self._writes("made")), tuple(self._writes("removed"))
        yield Stage(ENTRIES, (*self._writes("fabric_made"), *made))
        # Only when it is undone: packets of the new version must be gone before its entries go.
        yield Stage(DRAIN, self._drain(back=True) if in_force else ())
        drain = self._drain(back=False) if in_force else ()
        yield Stage(STANDBYS, tuple(self._follows(starts=False)))
        finish = [replace(step, begins=False) for step in self._moves(is_quiet=bool(drain))]
        yield Stage(COPY_STATE, tuple(replace(step, begins=True) for step in finish))
        yield Stage(SWITCH_OVER, in_force)
        yield Stage(MARK, tuple(replace(step, is_early=True) for step in finish if step.origins))
        yield Stage(DRAIN, drain)
        yield Stage(HAND_OVER, tuple(finish))
        yield Stage(OLD_ENTRIES, (*removed, *self._writes("fabric_removed")))

    def _interrupting(self) -> Iterator[Stage]:
        """Every packet of the graph is dropped between CLOSE and OPEN."""
        active = {
            name: program.activation
            for name, program in (self.old.bundle.programs if self.old else {}).items()
        }
        back = {
            name: program.activation
            for name, program in (self.new.bundle.programs if self.new else {}).items()
        }
        closes = [
            WriteEntries(name, self.graph, tuple(Change(entry, None) for entry in entries))
            for name, entries in active.items()
            if entries
        ]
        opens = [
            WriteEntries(name, self.graph, tuple(Change(None, entry) for entry in entries))
            for name, entries in back.items()
            if entries
        ]
        yield Stage(CLOSE, tuple(closes))
        yield Stage(DRAIN, self._drain(back=False))
        yield Stage(OLD_ENTRIES, tuple(self._writes("removed")))
        yield Stage(ENTRIES, (*self._in_place(), *self._writes("made")))
        yield Stage(DRAIN, self._drain(back=True))
        yield Stage(STANDBYS, tuple(self._follows(starts=False)))
        finish = [replace(step, origins=()) for step in self._moves(is_quiet=True)]
        yield Stage(COPY_STATE, tuple(replace(step, begins=True) for step in finish))
        yield Stage(HAND_OVER, tuple(finish))
        yield Stage(OPEN, tuple(opens))

    # -- pipelines ------------------------------------------------------------------------------

    def _loads(self) -> Iterator[Step]:
        """A first graph may load the pipeline; every other change finds the right one running."""
        if self.new is None:
            return
        touched = {c.device for c in self.devices if _any(c)}
        for device in self.new.bundle.pipeline_of:
            build = build_for(self.new.bundle, device)
            if self.new.alone and self.old is None:
                yield LoadPipeline(device, build, True)
            elif device in touched:
                yield LoadPipeline(device, build, False)

    def _writes(self, what: str) -> Iterator[WriteEntries]:
        for changed in self.devices:
            changes = tuple(getattr(changed, what))
            if changes:
                graph = OWNER if what.startswith("fabric") else self.graph
                yield WriteEntries(changed.device, graph, changes)

    def _in_place(self) -> Iterator[WriteEntries]:
        for changes in self.devices:
            for group in changes.in_place:
                yield WriteEntries(changes.device, self.graph, tuple(group))

    def _device(self, device: str) -> _DeviceChanges:
        before, after = _program(self.old, device), _program(self.new, device)
        gone, come, renamed = different_entries(device, before, after)
        both = before.entries and after.entries
        touched = {owner(device, entry) for entry in (*gone, *come)} if both else set[Node | None]()
        ours, theirs = (_nodes(device, program, touched) for program in (after, before))
        there = {_identity(entry): entry for entry in gone}
        changes = _DeviceChanges(device, [], [], [], [], [], [], [])
        old_floods = {flood.group: flood for flood in before.floods}
        new_floods = {flood.group: flood for flood in after.floods}
        changes.made += [Change(None, f) for g, f in new_floods.items() if g not in old_floods]
        changes.renamed = [Change(was, entry) for was, entry in renamed]
        patches: list[Change] = []
        for entry in come:
            was = there.pop(_identity(entry), None) if there else None
            if was is not None and _acts_alike(was, entry):
                if told(was.origin) != told(entry.origin):
                    changes.renamed.append(Change(was, entry))
                continue
            shared = bool(theirs) and owner(device, entry) in theirs
            (patches if shared or was is not None else changes.made).append(Change(was, entry))
        for entry in there.values():
            shared = bool(ours) and owner(device, entry) in ours
            (patches if shared else changes.removed).append(Change(entry, None))
        changes.in_place = [list(group) for group in in_order(patches)]
        changes.removed += [Change(f, None) for g, f in old_floods.items() if g not in new_floods]
        changes.flips = _pairs(before.activation, after.activation)
        self._manifest(changes)
        self._fabric(device, changes)
        return changes

    def _manifest(self, changes: _DeviceChanges) -> None:
        """A sampling secret is loose: packets that are sampled for either are right."""
        before = self.old.manifest if self.old else None
        after = self.new.manifest if self.new else None
        old = list(manifest_entries(before)) if before else []
        new = list(manifest_entries(after)) if after else []
        for change in _pairs(old, new):
            (changes.removed if change.after is None else changes.made).append(change)

    def _fabric(self, device: str, changes: _DeviceChanges) -> None:
        if self.old is None and self.new is not None and self.new.alone:
            session = sample_session(self.new.bundle, device)
            entries = self.new.bundle.fabric[device].entries
            changes.fabric_made = [Change(None, item) for item in (session, *entries)]
        if self.new is None and self.old is not None and self.old.alone:
            session = sample_session(self.old.bundle, device)
            entries = self.old.bundle.fabric[device].entries
            changes.fabric_removed = [Change(item, None) for item in (*entries, session)]

    def _drain(self, *, back: bool) -> tuple[Step, ...]:
        """Entries by which packets of the version that goes enter a device, or the graph."""
        version = self.new if back else self.old
        if version is None:
            return ()
        watched = tuple(
            (
                changes.device,
                tuple(_doors(changes.device, changes.made if back else changes.removed)),
            )
            for changes in self.devices
        )
        watched = tuple((device, entries) for device, entries in watched if entries)
        if not watched:
            return ()
        return (Drain((), watched) if back else Drain(watched, ()),)

    def _moves(self, *, is_quiet: bool) -> Iterator[MoveState]:
        """How each transfer ends."""
        if self.old is None or self.new is None:
            return
        before = followings(self.old.bundle)
        for move in state_moves(self.old.bundle, self.new.bundle):
            origins = origins_of(self.old.bundle, move)
            ends = move.source, move.target
            there = (
                following.id
                for following in before
                if (following.source, following.standby) == ends and following.nf in move.nfs
            )
            yield MoveState(move, False, is_quiet, origins=origins, standbys=tuple(there))

    def _follows(self, *, starts: bool) -> Iterator[Follow]:
        """Standbys that come, or go before state moves."""
        before = followings(self.old.bundle) if self.old else ()
        after = followings(self.new.bundle) if self.new else ()
        here, there = (after, before) if starts else (before, after)
        yield from (Follow(following, starts) for following in here if following not in there)

    # -- servers -------------------------------------------------------------------------------

    def _servers(self, *, arrive: bool) -> Iterator[Step]:
        """What a worker gets before the new version is in force, or loses after it."""
        old_manifest = self.old.manifest if self.old else None
        new_manifest = self.new.manifest if self.new else None
        for core in sorted({*self.before, *self.after}, key=lambda c: (c.server, c.index)):
            before, after = self.before.get(core), self.after.get(core)
            old_nfs: Mapping[str, NfSpec] = before.nfs if before else {}
            new_nfs: Mapping[str, NfSpec] = after.nfs if after else {}
            old_chains = before.chains if before else ()
            new_chains = after.chains if after else ()
            both_nfs = {**old_nfs, **new_nfs}
            both_chains = (*old_chains, *(c for c in new_chains if c not in old_chains))
            was = old_manifest if old_nfs else None
            will = new_manifest if new_nfs else None
            if arrive:
                middle = will if new_nfs else was
                if both_nfs != old_nfs or middle != was:
                    yield ConfigureWorker(core, self.graph, old_nfs, both_nfs, was, middle)
                if len(both_chains) > len(old_chains):
                    yield ChainWorker(core, self.graph, old_chains, both_chains)
            else:
                middle = will if new_nfs else was
                if len(both_chains) > len(new_chains):
                    yield ChainWorker(core, self.graph, both_chains, new_chains)
                if both_nfs != new_nfs:
                    yield ConfigureWorker(core, self.graph, both_nfs, new_nfs, middle, will)


def in_order(changes: Iterable[Change]) -> Iterator[tuple[Change, ...]]:
    """Changes within nodes, in the order in which every packet meets one of them at most.

    Entries of a table take precedence by priority (or prefix length). Those that come are written
    from the highest down, then those that change, then those that go are deleted from the lowest up:
    what is behind an entry takes effect only once that entry has gone. Within a group the order is
    free.
    """

    def precedence(change: Change) -> int:
        item = change.item
        assert isinstance(item, TableEntry)
        lengths = [key.length for _, key in item.keys if isinstance(key, Lpm)]
        return item.priority or max(lengths, default=0)

    listed = list(changes)
    comes = sorted((c for c in listed if c.before is None), key=precedence, reverse=True)
    goes = sorted((c for c in listed if c.after is None), key=precedence)
    stays = tuple(c for c in listed if c.before is not None and c.after is not None)
    yield from (tuple(group) for _, group in groupby(comes, precedence))
    if stays:
        yield stays
    yield from (tuple(group) for _, group in groupby(goes, precedence))


def _program(version: Version | None, device: str) -> PipelineProgram:
    return version.bundle.programs.get(device, _NOTHING) if version else _NOTHING


def _nodes(device: str, program: PipelineProgram, asked: Set[Node | None]) -> set[Node]:
    """Those of some nodes that a version has on a device."""
    if not asked:
        return set()
    nodes = [part.node for part in parts_of(device, program.entries)]
    nodes += [Node(GROUP, device, flood.group) for flood in program.floods]
    return {node for node in nodes if node is not None and node in asked}


def different_entries(
    device: str, before: PipelineProgram, after: PipelineProgram
) -> tuple[list[TableEntry], list[TableEntry], list[tuple[TableEntry, TableEntry]]]:
    """Entries that may not be the same to the letter: the old version's, the new one's, and those of
    nodes of which only the provenance differs, as (old, new).

    What a changed node still has in the same place of a table is left out.
    """
    old, new_parts = differing_parts(
        parts_of(device, before.entries), parts_of(device, after.entries)
    )
    there: dict[Node | None, list[NodePart]] = {}
    come: dict[Node | None, list[NodePart]] = {}
    for parts, by_node in ((old, there), (new_parts, come)):
        for part in parts:
            by_node.setdefault(part.node, []).append(part)
    renamed: list[tuple[TableEntry, TableEntry]] = []
    both = there.keys() & come.keys()
    gone, new = (  # in the order of their version: so they have been serialised
        [e for part in parts if part.node not in both for e in part.entries]
        for parts in (old, new_parts)
    )
    for node in (node for node in there if node in both):
        theirs, ours = ([e for part in some[node] for e in part.entries] for some in (there, come))
        if same_effects(ours, theirs):
            renamed += [
                (a, b)
                for a, b in zip(theirs, ours, strict=True)
                if a.origin != b.origin and told(a.origin) != told(b.origin)
            ]
            continue
        for was, now in by_table(theirs, ours).values():
            first, behind = common_ends(was, now, by=ne)
            gone += was[first : len(was) - behind]
            new += now[first : len(now) - behind]
    return gone, new, renamed


def _identity(entry: object) -> _Identity:
    assert isinstance(entry, TableEntry)
    return (entry.table, frozenset(entry.keys), entry.priority)


def _acts_alike(one: TableEntry, other: TableEntry) -> bool:
    return (
        one.action == other.action
        and dict(one.params) == dict(other.params)
        and one.meter == other.meter
    )


def _pairs(old: Iterable[TableEntry], new: Iterable[TableEntry]) -> list[Change]:
    """Changes between entries of which there are few."""
    there = {_identity(entry): entry for entry in old}
    changes = [Change(there.pop(_identity(entry), None), entry) for entry in new]
    changes = [c for c in changes if c.before != c.after]
    return [*changes, *(Change(entry, None) for entry in there.values())]


def _doors(device: str, changes: Iterable[Change]) -> Iterator[TableEntry]:
    """Of entries that come or go, those by which packets get among them: first segments and paths, and
    the nodes of a tree whose segment stays."""
    items = [change.item for change in changes if isinstance(change.item, TableEntry)]
    owners = [owner(device, item) for item in items]
    going = set(owners)
    for item, node in zip(items, owners, strict=True):
        if node is not None:
            inside = node.kind == TREE and segment_of(node) not in going
            if inside or node.kind in (ROOT, PATH):
                yield item


def _workers(bundle: Bundle) -> dict[Core, WorkerProgram]:
    return {Core(worker.server, worker.core): worker for worker in bundle.workers}


def _any(changes: _DeviceChanges) -> bool:
    return bool(
        changes.made
        or changes.in_place
        or changes.flips
        or changes.renamed
        or changes.removed
        or changes.fabric_made
        or changes.fabric_removed
    )
