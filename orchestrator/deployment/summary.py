"""What a transaction changes, in counts and words: what `deploy --dry-run` says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import EntityWords, entity_words
from orchestrator.deployment.moves import StateMove, started_anew
from orchestrator.deployment.planning import CLOSE, OPEN, Version
from orchestrator.deployment.transaction import (
    ChainWorker,
    Change,
    CloneSession,
    ConfigureWorker,
    Follow,
    Item,
    MoveState,
    NfSpec,
    Transaction,
    WriteEntries,
)
from orchestrator.deployment.updates import update_of
from orchestrator.linker.nodes import line_of, owner
from orchestrator.model.bundle import Bundle
from orchestrator.model.devices import pipelined
from orchestrator.model.entries import FloodGroup, TableEntry
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import lookup
from orchestrator.targets.block import EPOCH_TABLE
from orchestrator.targets.pipelines import build_for, capability_for, p4info
from servernf.wire.instances import base_name

ADD, CHANGE, DELETE = "add", "change", "delete"


@dataclass(slots=True)
class TableChanges:
    """Entries of a table by what becomes of them.

    `copied` of those that are added and deleted say the same under another number, so that the two
    versions can be told apart; of `provenance` only the rule that they come from has another name.
    """

    add: int = 0
    change: int = 0
    delete: int = 0
    copied: int = 0
    provenance: int = 0


@dataclass(slots=True)
class WorkerChanges:
    """NF instances and service paths of a worker by what becomes of them."""

    add: list[str] = field(default_factory=list[str])
    delete: list[str] = field(default_factory=list[str])
    paths_added: int = 0
    paths_deleted: int = 0


@dataclass(slots=True)
class Summary:
    """All that a transaction changes. `lost` says whose state goes, `full` which tables are too small
    for both versions at once; `interrupts`: the graph's packets are dropped meanwhile."""

    graph: str
    devices: dict[str, dict[str, TableChanges]]
    workers: dict[str, WorkerChanges]
    lost: tuple[str, ...]
    full: tuple[str, ...]
    interrupts: bool
    switched_over: tuple[str, ...]
    """Ingress switches where one entry puts the new version in force; on the others it is in place."""
    moved: tuple[str, ...] = ()
    """Whose state goes from core to core, in words."""
    standbys: tuple[str, ...] = ()
    """Who follows whom from then on, or no longer, in words."""

    @property
    def counts(self) -> Counter[str]:
        """Entries and instances to add, change and delete."""
        total: Counter[str] = Counter({ADD: 0, CHANGE: 0, DELETE: 0})
        for tables in self.devices.values():
            for changes in tables.values():
                total.update({ADD: changes.add, CHANGE: changes.change, DELETE: changes.delete})
                total["provenance"] += changes.provenance
        for worker in self.workers.values():
            total.update({ADD: len(worker.add), DELETE: len(worker.delete)})
        return total

    def words(self) -> str:
        """`3 to add, 1 to change, 0 to delete`, or that there is nothing to do."""
        if not self:
            return "nothing changes"
        counts = self.counts
        text = ", ".join(f"{counts[kind]} to {kind}" for kind in (ADD, CHANGE, DELETE))
        renamed = counts["provenance"]
        return text + (f"; the provenance of {renamed} follows" if renamed else "")

    def __bool__(self) -> bool:
        return bool(self.devices or self.workers or self.standbys)


def summarise(
    transaction: Transaction,
    old: Version | None,
    new: Version | None,
    full: tuple[str, ...] = (),
) -> Summary:
    """The summary of what `planning.plan(old, new)` made."""
    either = new or old
    assert either is not None
    devices: dict[str, dict[str, TableChanges]] = {}
    flips: dict[str, None] = {}
    for device, change in device_changes(transaction):
        tables = devices.setdefault(device, {})
        changes = tables.setdefault(_table(change), TableChanges())
        if _table(change) == EPOCH_TABLE:
            flips[device] = None
        if change.before is None:
            changes.add += 1
        elif change.after is None:
            changes.delete += 1
        elif _only_provenance(change):
            changes.provenance += 1
        else:
            changes.change += 1
    _count_copies(transaction, old, new, devices)
    titles = {stage.title for stage in transaction.stages}
    moves = [step.move for step in transaction.steps if isinstance(step, MoveState) and step.begins]
    return Summary(
        either.bundle.graph,
        devices,
        _workers(transaction),
        tuple(_lost(old, new, moves)),
        full,
        bool({CLOSE, OPEN} <= titles),
        tuple(flips),
        tuple(map(str, moves)),
        tuple(map(str, (step for step in transaction.steps if isinstance(step, Follow)))),
    )


def device_changes(transaction: Transaction) -> Iterator[tuple[str, Change]]:
    """(device, change) of all entries and groups; what is closed and opened again counts once."""
    closed: dict[tuple[str, object], Change] = {}
    for stage in transaction.stages:
        for step in stage.steps:
            if not isinstance(step, WriteEntries):
                continue
            for change in step.changes:
                item = change.item
                key = (step.device, item.keys if isinstance(item, TableEntry) else item)
                if stage.title == CLOSE:
                    closed[key] = change
                elif stage.title == OPEN and key in closed:
                    yield step.device, Change(closed.pop(key).before, change.after)
                else:
                    yield step.device, change
    yield from ((device, change) for (device, _), change in closed.items())


def change_words(transaction: Transaction, bundle: Bundle) -> Iterator[dict[str, object]]:
    """Every change of a device in words: kind, device, table, match, action and where it comes from."""
    schemas = {
        device: Schema.of(p4info(build_for(bundle, device))) for device in transaction.devices
    }
    for device, change in device_changes(transaction):
        schema = schemas[device]

        def words(item: Item, schema: Schema = schema) -> EntityWords:
            entity = update_of(schema, Change(None, item), bundle.graph).entity
            origin = item.origin if isinstance(item, TableEntry) else ""
            return entity_words(schema, entity, placing=lambda graph, entry: origin)

        kind = ADD if change.before is None else DELETE if change.after is None else CHANGE
        was = words(change.before).action if change.before and change.after else ""
        yield {"kind": kind, "device": device, **asdict(words(change.item)), "before": was}


def too_full(
    transaction: Transaction, new: Bundle, others: Mapping[str, Counter[str]], topology: Topology
) -> tuple[str, ...]:
    """Tables that do not hold both versions, as a transaction has them at once, beside what other graphs
    have there."""
    going: dict[str, Counter[str]] = {}
    for step in transaction.steps:
        if isinstance(step, WriteEntries) and step.owner == new.graph:
            items = [change.item for change in step.changes if change.after is None]
            gone = Counter(item.table for item in items if isinstance(item, TableEntry))
            going.setdefault(step.device, Counter()).update(gone)
    problems: list[str] = []
    for device, gone in going.items():
        program = new.programs.get(device)
        if program is None:  # it is left, and nothing new comes there
            continue
        need = program.entries_by_table() + gone
        sizes = capability_for(new, device).table_sizes
        sizes = {**sizes, **pipelined(topology)[device].table_sizes}
        for table, count in sorted(need.items()):
            taken = others.get(device, Counter[str]())[table]
            size = sizes.get(table)
            if size is not None and count + taken > size:
                beside = f" beside {taken} of other graphs" if taken else ""
                problems.append(
                    f"{device} {table} holds {size} entries, both versions need {count}{beside}"
                )
    return tuple(problems)


def _table(change: Change) -> str:
    match change.item:
        case TableEntry():
            return change.item.table
        case FloodGroup():
            return "multicast groups"
        case CloneSession():
            return "clone sessions"


def _only_provenance(change: Change) -> bool:
    before, after = change.before, change.after
    return (
        isinstance(before, TableEntry)
        and isinstance(after, TableEntry)
        and before.same_effect(after)
    )


def _count_copies(
    transaction: Transaction,
    old: Version | None,
    new: Version | None,
    devices: dict[str, dict[str, TableChanges]],
) -> None:
    if old is None or new is None:
        return
    changes = [change for _, change in device_changes(transaction)]
    if all(c.after for c in changes) or all(c.before for c in changes):
        return
    gone: Counter[object] = Counter()
    come: Counter[object] = Counter()
    for device, change in device_changes(transaction):
        entry = change.item
        if not isinstance(entry, TableEntry) or (node := owner(device, entry)) is None:
            continue
        if change.after is None:
            gone[device, line_of(node, device, entry).alone] += 1
        elif change.before is None:
            come[device, line_of(node, device, entry).alone] += 1
    for (device, line), count in (gone & come).items():  # type: ignore[misc]
        devices[device][line[0]].copied += count


def _workers(transaction: Transaction) -> dict[str, WorkerChanges]:
    workers: dict[str, WorkerChanges] = {}
    for step in transaction.steps:
        if isinstance(step, ConfigureWorker):
            worker = workers.setdefault(str(step.core), WorkerChanges())
            worker.add += [
                name for name, spec in step.after.items() if step.before.get(name) != spec
            ]
            worker.delete += [name for name in step.before if name not in step.after]
        elif isinstance(step, ChainWorker):
            worker = workers.setdefault(str(step.core), WorkerChanges())
            before = {(c.spi, c.si) for c in step.before}
            after = {(c.spi, c.si) for c in step.after}
            worker.paths_added += len(after - before)
            worker.paths_deleted += len(before - after)
    return workers


def _lost(old: Version | None, new: Version | None, moves: Collection[StateMove]) -> Iterator[str]:
    """NFs whose state does not survive, or not all of it, and why."""
    if old is None or new is None:
        return
    moved = {(move.source, name) for move in moves for name in move.nfs}
    now = {Core(w.server, w.core): w.nfs for w in new.bundle.workers}
    names = {base_name(name) for nfs in now.values() for name in nfs}
    doubles = {standby.core for standby in old.bundle.plan.standbys}
    for worker in old.bundle.workers:
        core = Core(worker.server, worker.core)
        for name, spec in worker.nfs.items():
            if not lookup(spec[0]).has_state() or name in now.get(core, {}):
                continue
            if (core, name) in moved or core in doubles:
                continue
            nf = base_name(name)
            after = next((s for n, s in now.get(core, {}).items() if base_name(n) == nf), None)
            why = _lost_on_change(spec, after) if after else ""
            if nf not in names:
                why = "it is removed"
            elif after is None:
                why = "it moves to another core"
            if why:
                yield f"{nf} on {core}: {why}"
    yield from started_anew(old.bundle, new.bundle)


def _lost_on_change(before: NfSpec, after: NfSpec) -> str:
    """What another configuration on the same worker costs."""
    if before[0] != after[0]:
        return f"it becomes {after[0]}"
    # A journal turns tuples into lists.
    was, will = (json.loads(json.dumps(config)) for _, config in (before, after))
    lost = lookup(before[0]).state_lost(was, will)
    return lost and f"its configuration changes ({lost})"
