"""Drift of a network from what its journal says, and its repair.

A device that has restarted has no pipeline, or another one than ours: all of it is loaded anew. One
that drifted is told by comparing every entity with the wanted ones. A worker tells what it runs.

Whose is an entry that nobody asked for? Ours if it says so (the graph in its metadata) or if packets of
a deployed graph meet it or are made by it (the graph in any of its numbers: `linker.graphs`): that is
drift and is removed, as is what a removed graph left on a device that did not answer then (`owed`). Any
other belongs to another controller: it is reported, and removed only if `prune` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from finsy.proto import p4r

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import Placing, as_told
from orchestrator.compiler.fabric_program import OWNER
from orchestrator.deployment.desired import (
    PlacedGraph,
    State,
    desired,
    late,
    present,
)
from orchestrator.deployment.difference import INSERT, Difference, difference
from orchestrator.deployment.drivers import NetworkDriver, PipelineDriver, WorkerDriver
from orchestrator.deployment.following import FOLLOWING, follow, state_of
from orchestrator.deployment.journal import Owed
from orchestrator.deployment.places import Places, refusals_with
from orchestrator.deployment.standbys import followings
from orchestrator.deployment.transaction import Follow
from orchestrator.deployment.worker_drift import WorkerDrift, drift_of, repair_worker
from orchestrator.errors import ReportedError, SwitchError
from orchestrator.linker.graphs import graph_in, graphs_of
from orchestrator.model.away import Away
from orchestrator.model.builds import Build
from orchestrator.model.devices import pipelined
from orchestrator.model.manifest import WITNESS_TABLES
from orchestrator.model.plan import Core
from orchestrator.model.refs import Role
from orchestrator.targets import known_targets, lookup
from orchestrator.targets.pipelines import build_for, p4info

_MANY = 16
_SESSIONS = frozenset(lookup(name).cloning.session for name in known_targets())
"""Clone sessions that are the orchestrator's, on whichever target."""
_REPLICATION = ("multicast_group_entry", "clone_session_entry")

NOTHING = Difference((), (), ())


@dataclass(frozen=True, slots=True)
class DeviceDrift:
    """What a device with a pipeline needs; `lost` says why that must be loaded.

    `foreign` is left alone, `unreachable` is why nothing else is known.
    """

    device: str
    schema: Schema | None
    lost: str = ""
    difference: Difference = NOTHING
    foreign: tuple[bytes, ...] = ()
    unreachable: str = ""
    placing: Placing = field(default=as_told, compare=False)
    """Knows the places of rules, which devices are not told."""

    def __bool__(self) -> bool:
        return bool(self.lost or len(self.difference) or self.unreachable)


@dataclass(frozen=True, slots=True)
class Drift:
    """What separates a network from its journal.

    `waiting` are devices, in words, that do not answer and from which only what a removed graph had is
    to be removed: that can wait.
    """

    devices: tuple[DeviceDrift, ...]
    workers: tuple[WorkerDrift, ...]
    waiting: tuple[str, ...] = ()
    standbys: tuple[str, ...] = ()
    """Those that do not follow, in words."""

    def __bool__(self) -> bool:
        return any(self.devices) or any(self.workers) or bool(self.standbys)

    @property
    def unreachable(self) -> tuple[str, ...]:
        """Devices that did not answer, in words."""
        return tuple(d.unreachable for d in (*self.devices, *self.workers) if d.unreachable)

    def words(self) -> tuple[str, ...]:
        """A line for each device that answered and needs something."""
        return (
            *(
                f"{d.device} runs {d.lost}"
                if d.lost
                else f"{d.device} needs {len(d.difference)} changes"
                for d in self.devices
                if d and not d.unreachable
            ),
            *(
                f"{d.core} must {'; '.join(d.words())}"
                for d in self.workers
                if d and not d.unreachable
            ),
            *self.standbys,
        )

    @property
    def reached_devices(self) -> frozenset[str]:
        """Switches that answered."""
        return frozenset(drift.device for drift in self.devices if not drift.unreachable)

    @property
    def reached_cores(self) -> frozenset[Core]:
        """Cores whose workers answered."""
        return frozenset(drift.core for drift in self.workers if not drift.unreachable)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What devices should have: all of `deployed`, nothing of `owed`; `prune`: nothing else either."""

    deployed: Mapping[str, PlacedGraph]
    owed: Collection[Owed]
    prune: bool

    @property
    def names(self) -> set[str]:
        """Whose entries are ours, by their metadata."""
        return {*self.deployed, OWNER, *(debt.graph for debt in self.owed)}

    @property
    def ids(self) -> set[int]:
        """Whose entries are ours, by numbers in them."""
        placed = {deployed.bundle.graph_id for deployed in self.deployed.values()}
        return placed | {debt.graph_id for debt in self.owed}


def find_drift(
    network: NetworkDriver,
    deployed: Mapping[str, PlacedGraph],
    *,
    prune: bool = False,
    owed: Collection[Owed] = (),
    away: Away | None = None,
) -> Drift:
    """Compare every device with what the deployed graphs ask of it. Changes nothing.

    Devices that are `away` are not asked.
    """
    asked = _Asked(deployed, owed, prune)

    def one(name: str) -> DeviceDrift:
        try:
            with network.device(name) as driver:
                return _device_drift(driver, asked)
        except ReportedError as error:
            return DeviceDrift(name, None, unreachable=str(error))

    drift = _everywhere(network, asked, one, drift_of, away or Away())
    return replace(drift, standbys=tuple(_astray(network, asked, drift, repairs=False)))


def repair(
    network: NetworkDriver,
    deployed: Mapping[str, PlacedGraph],
    *,
    prune: bool = False,
    owed: Collection[Owed] = (),
    away: Away | None = None,
) -> Drift:
    """Find drift and repair it in the same sessions: workers first, what admits packets last.

    Returns what was found and, but for what is `unreachable`, repaired. Devices that are `away` are not
    asked.
    """
    asked = _Asked(deployed, owed, prune)

    def one(name: str) -> DeviceDrift:
        try:
            with network.device(name) as driver:
                drift = _device_drift(driver, asked)
                _repair_device(driver, drift, asked)
                return drift
        except ReportedError as error:
            return DeviceDrift(name, None, unreachable=str(error))

    drift = _everywhere(network, asked, one, repair_worker, away or Away())
    return replace(drift, standbys=tuple(_astray(network, asked, drift, repairs=True)))


def _astray(network: NetworkDriver, asked: _Asked, drift: Drift, *, repairs: bool) -> Iterator[str]:
    """Standbys that do not follow, of workers that answer; they are made to, once workers are right."""
    reached = drift.reached_cores
    for placed in asked.deployed.values():
        for following in followings(placed.bundle):
            if following.source not in reached or following.standby not in reached:
                continue
            state = state_of(network, following)
            if state == FOLLOWING:
                continue
            problems = follow(network, Follow(following, True)) if repairs else ()
            yield from problems or (f"{following}: it does not ({state})",)


def _everywhere(
    network: NetworkDriver,
    asked: _Asked,
    device: Callable[[str], DeviceDrift],
    worker: _WorkerWork,
    away: Away,
) -> Drift:
    placed = asked.deployed.values()
    needed = {s for p in placed for s in p.bundle.pipeline_of}
    busy = {Core(w.server, w.core) for p in placed for w in p.bundle.workers}
    indebted = {s for debt in asked.owed for s in debt.devices}
    cores = busy | {core for debt in asked.owed for core in debt.cores}
    names = {debt.graph for debt in asked.owed}

    def of_worker(core: Core) -> WorkerDrift:
        try:
            with network.worker(core) as session:
                return worker(session, core, asked.deployed, asked.prune, names)
        except ReportedError as error:
            return WorkerDrift(core, unreachable=str(error))

    with ThreadPoolExecutor(max_workers=_MANY) as pool:
        ordered = sorted(cores - away.cores.keys(), key=lambda core: (core.server, core.index))
        workers = tuple(pool.map(of_worker, ordered))
        asked_devices = (
            s
            for s in pipelined(network.topology)
            if (asked.prune or s in needed | indebted) and s not in away.devices
        )
        devices = tuple(pool.map(device, asked_devices))
    waits = [d for d in devices if d.unreachable and d.device in indebted - needed]
    idle = [d for d in workers if d.unreachable and d.core not in busy]
    return Drift(
        tuple(d for d in devices if d not in waits),
        tuple(d for d in workers if d not in idle),
        tuple(d.unreachable for d in (*waits, *idle)),
    )


class _WorkerWork(Protocol):
    def __call__(
        self,
        session: WorkerDriver,
        core: Core,
        deployed: Mapping[str, PlacedGraph],
        prune: bool,
        owed: Collection[str],
        /,
    ) -> WorkerDrift: ...


# -- devices with a pipeline -------------------------------------------------------------------


def _device_drift(driver: PipelineDriver, asked: _Asked) -> DeviceDrift:
    pipeline = _pipeline(asked.deployed, driver.name)
    cookie = driver.pipeline_cookie()
    if pipeline is not None and cookie != pipeline.cookie:
        schema = Schema.of(p4info(pipeline))
        wanted = desired(schema, asked.deployed.values(), driver.name)
        lost = "no pipeline: it has restarted" if cookie is None else "another pipeline"
        return DeviceDrift(
            driver.name, schema, lost, difference(wanted, {}), placing=_places(driver.name, asked)
        )
    if cookie is None and driver.schema is None:
        return DeviceDrift(driver.name, None)  # no graph is to be there, and nothing is
    schema = driver.schema
    assert schema is not None
    wanted = desired(schema, asked.deployed.values(), driver.name)
    return _compared(driver, schema, wanted, asked)


def _compared(driver: PipelineDriver, schema: Schema, wanted: State, asked: _Asked) -> DeviceDrift:
    differing = difference(wanted, read_state(driver, schema, wanted))
    names, ids = asked.names, asked.ids
    ours: list[bytes] = []
    foreign: list[bytes] = []
    for entity in differing.deleted:
        mine = asked.prune or _is_ours(schema, p4r.Entity.FromString(entity), names, ids)
        (ours if mine else foreign).append(entity)
    kept = Difference(differing.inserted, differing.modified, tuple(ours))
    placing = _places(driver.name, asked)
    return DeviceDrift(
        driver.name, schema, difference=kept, foreign=tuple(foreign), placing=placing
    )


def _places(device: str, asked: _Asked) -> Places:
    return Places.of([placed.bundle for placed in asked.deployed.values()], device)


def _repair_device(driver: PipelineDriver, drift: DeviceDrift, asked: _Asked) -> None:
    if not drift:
        return
    changes = drift.difference
    schema = drift.schema
    assert schema is not None
    deployed = asked.deployed
    if drift.lost:
        pipeline = _pipeline(deployed, driver.name)
        assert pipeline is not None
        driver.set_pipeline(p4info(pipeline), pipeline.device_config, pipeline.cookie)
        # BMv2 keeps groups and sessions when a pipeline is loaded anew.
        wanted = desired(schema, deployed.values(), driver.name)
        changes = _compared(driver, schema, wanted, asked).difference
    admitting = late(schema, deployed.values(), driver.name)
    with refusals_with(_places(driver.name, asked)):
        driver.write(u for u in changes.updates() if u.entity not in admitting)
        driver.write(RawUpdate(INSERT, e) for e in changes.inserted if e in admitting)
        driver.write(u for u in changes.updates() if u.kind != INSERT and u.entity in admitting)


def read_state(driver: PipelineDriver, schema: Schema, wanted: State) -> State:
    """All that a device has of what could be wanted; groups that it does not show count as wanted."""
    hidden: State = {}
    entities: list[p4r.Entity] = []
    for kind in _REPLICATION:
        question = p4r.Entity()
        getattr(question.packet_replication_engine_entry, kind).SetInParent()
        try:
            entities += driver.read_entities(question)
        except SwitchError:
            hidden |= {i: e for i, e in wanted.items() if _is_replication(e, kind)}
    return hidden | present(_chain(entities, _table_entries(driver, schema)), wanted)


def _chain(first: Iterable[p4r.Entity], rest: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
    yield from first
    yield from rest


def _table_entries(driver: PipelineDriver, schema: Schema) -> Iterator[p4r.Entity]:
    fixed = {table.preamble.id for table in schema.p4info.tables if table.is_const_table}
    fixed |= {table.id for table in schema.tables.values() if table.name in WITNESS_TABLES}
    metered = {table.id for table in schema.tables.values() if table.metered}
    everything = p4r.Entity()
    everything.table_entry.SetInParent()
    apart = fixed | metered
    for entity in driver.read_entities(everything):
        if entity.table_entry.table_id not in apart:
            yield entity
    for table in sorted(metered - fixed):
        question = p4r.Entity(table_entry=p4r.TableEntry(table_id=table))
        question.table_entry.meter_config.SetInParent()
        yield from driver.read_entities(question)


def _is_replication(entity: bytes, kind: str) -> bool:
    message = p4r.Entity.FromString(entity)
    return message.packet_replication_engine_entry.WhichOneof("type") == kind


def _is_ours(schema: Schema, entity: p4r.Entity, graphs: set[str], ids: set[int]) -> bool:
    """Whether an entry that is not wanted is a deployed graph's, by its words or its numbers."""
    if entity.WhichOneof("entity") != "table_entry":
        replication = entity.packet_replication_engine_entry
        if replication.clone_session_entry.session_id in _SESSIONS:
            return True
        group = replication.multicast_group_entry.multicast_group_id
        return graph_in(Role.GROUP, group) in ids
    graph, entry = schema.decode(entity.table_entry)
    return graph in graphs or not ids.isdisjoint(graphs_of(entry))


def _pipeline(deployed: Mapping[str, PlacedGraph], device: str) -> Build | None:
    """The pipeline that deployed graphs ask of a device; None: they ask nothing of it."""
    bundles = (p.bundle for p in deployed.values() if device in p.bundle.pipeline_of)
    return next((build_for(bundle, device) for bundle in bundles), None)
