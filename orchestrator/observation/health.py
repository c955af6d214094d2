"""One reading of a whole network: switches, tables, NFs, cores. What `metrics` and `top` show."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.clients.p4info import Counted
from orchestrator.clients.vnf import WorkerClient
from orchestrator.clients.words import origins_of
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import ReportedError
from orchestrator.model.away import Away
from orchestrator.model.devices import Device, Kind, devices_of
from orchestrator.model.plan import Core
from orchestrator.observation.at_once import at_once
from orchestrator.observation.conditions import conditions_now, of_devices
from orchestrator.observation.liveness import Condition, Subject
from orchestrator.observation.sessions import reader
from orchestrator.targets.block import FIRST_TABLES

_NEWEST = (1 << 63) - 1
"""A cursor behind all samples that there are."""
_TRAFFIC = "traffic "
"""An entry of this origin, without an NF, admits a traffic of its graph."""
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class TableUse:
    """A table's entries, its size, and what hit its entries."""

    entries: int
    size: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """A device with a pipeline now. `problem` says why it could not be read; then the rest is empty."""

    name: str
    kind: Kind
    target: str
    problem: str = ""
    tables: dict[str, TableUse] = field(default_factory=dict[str, TableUse])
    nfs: dict[tuple[str, str, str], tuple[int, int]] = field(
        default_factory=dict[tuple[str, str, str], tuple[int, int]]
    )
    """(graph, NF, action's last word) -> (packets, bytes) of its entries."""
    traffic: dict[tuple[str, str], tuple[int, int]] = field(
        default_factory=dict[tuple[str, str], tuple[int, int]]
    )
    """(graph, traffic) -> (packets, bytes) admitted here."""
    ports: dict[int, int] = field(default_factory=dict[int, int])
    """Frames that have come in, by port."""
    drops: dict[str, int] = field(default_factory=dict[str, int])
    """Dropped outside the pipeline (sockets, stream queues), by reason; only softswitches say."""
    seconds: float = 0.0
    at: float = 0.0
    """When its counters were read (the middle of that), monotonic seconds."""
    answers: bool = True


@dataclass(frozen=True, slots=True)
class CoreReading:
    """A server core now: the worker's counters; `planned` is the load that placement expects."""

    server: str
    core: int
    graphs: tuple[str, ...]
    problem: str = ""
    metrics: dict[str, int] = field(default_factory=dict[str, int])
    planned: float | None = None
    latencies_us: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    """Graph -> how long each packet sampled since the reading before took in this worker."""

    @property
    def name(self) -> str:
        """`server1.2`."""
        return str(Core(self.server, self.core))


@dataclass(frozen=True, slots=True)
class Reading:
    """A network at one time; `at` is seconds since 1970."""

    at: float
    devices: tuple[DeviceReading, ...]
    cores: tuple[CoreReading, ...]
    deployed: Mapping[str, Deployed]
    conditions: Mapping[Subject, Condition] = field(default_factory=dict[Subject, Condition])


def read_network(
    live: LiveNetwork,
    cursors: dict[Core, int] | None = None,
    before: Reading | None = None,
    only: Collection[str] = (),
) -> Reading:
    """Read every device and worker in parallel; what does not answer says so.

    `only` these devices, and these servers' workers, if any are named.

    `cursors`, kept from reading to reading, are behind the samples seen last; without them no samples
    are read. `before` is the reading before this one.
    """
    deployed = live.journal.deployed()
    planned = {
        core: share for d in deployed.values() for core, share in d.bundle.plan.core_load.items()
    }
    graphs: dict[Core, list[str]] = {}
    for graph in deployed.values():
        for worker in graph.bundle.workers:
            graphs.setdefault(Core(worker.server, worker.core), []).append(graph.bundle.graph)
    wanted = [d for d in devices_of(live.topology).values() if not only or d.name in only]
    cores = [core for core in live.cores if not only or core.server in only]
    pipelined = [d for d in wanted if d.has_pipeline]
    devices = at_once(lambda device: _device(live, device), pipelined)
    workers = at_once(lambda core: _core(live, core, graphs.get(core, []), planned, cursors), cores)
    silent = Away(
        {d.name: d.problem for d in devices if not d.answers},
        {Core(c.server, c.core): c.problem for c in workers if c.problem},
    )
    conditions = conditions_now(live, silent, before.conditions if before else None)
    if only:
        conditions = of_devices(conditions, live.inventory, only)
    return Reading(time.time(), tuple(devices), tuple(workers), deployed, conditions)


def _device(live: LiveNetwork, device: Device) -> DeviceReading:
    name, kind, target = device.name, device.kind, device.target
    started = time.monotonic()
    try:
        with reader(live, name) as client:
            if client.pipeline_cookie() is None and client.schema is None:
                return DeviceReading(name, kind, target, "no pipeline is loaded")
            began = time.monotonic()
            counted = list(client.counted())
            at = (began + time.monotonic()) / 2
            schema = client.schema
            drops = client.drops()
    except ReportedError as error:
        return DeviceReading(name, kind, target, str(error), answers=False)
    assert schema is not None
    reading = DeviceReading(
        name, kind, target, drops=drops, seconds=time.monotonic() - started, at=at
    )
    sums: dict[str, tuple[int, int, int]] = dict.fromkeys(schema.tables, (0, 0, 0))
    for entry in counted:
        entries, packets, octets = sums[entry.table]
        sums[entry.table] = entries + 1, packets + entry.packets, octets + entry.bytes
        _count(reading, entry)
        if entry.port is not None:
            reading.ports[entry.port] = entry.packets
    for name, (entries, packets, octets) in sums.items():
        reading.tables[name] = TableUse(entries, schema.tables[name].size, packets, octets)
    return reading


def _count(reading: DeviceReading, entry: Counted) -> None:
    nfs = [nf for nf, _ in origins_of(entry.origin)]
    if nfs:
        action = entry.action.rpartition(".")[2]
        # What a merged entry denies, the last of its rules denies: the others let it through.
        for nf in nfs[-1:] if action == "deny" else nfs:
            _add(reading.nfs, (entry.graph, nf, action), entry)
    elif entry.table in FIRST_TABLES and entry.origin.startswith(_TRAFFIC):
        # Not its admission: a frame hits both, and there the traffics' order does not count.
        _add(reading.traffic, (entry.graph, entry.origin.removeprefix(_TRAFFIC)), entry)


def _add(sums: dict[_K, tuple[int, int]], key: _K, entry: Counted) -> None:
    packets, octets = sums.get(key, (0, 0))
    sums[key] = (packets + entry.packets, octets + entry.bytes)


def _core(
    live: LiveNetwork,
    core: Core,
    graphs: list[str],
    planned: Mapping[Core, float],
    cursors: dict[Core, int] | None,
) -> CoreReading:
    load = planned.get(core)
    try:
        with live.worker(core) as worker:
            metrics = worker.metrics()
            latencies = {} if cursors is None else core_latencies(worker, core, cursors)
    except ReportedError as error:
        return CoreReading(core.server, core.index, tuple(graphs), str(error), {}, load)
    return CoreReading(core.server, core.index, tuple(graphs), "", metrics, load, latencies)


def core_latencies(
    worker: WorkerClient, core: Core, cursors: dict[Core, int]
) -> dict[str, tuple[int, ...]]:
    """From entering a worker's first NF to leaving its last one, by graph, in us."""
    first = core not in cursors
    samples, cursors[core] = worker.samples(cursors.get(core, _NEWEST))
    if first:
        return {}
    entered: dict[tuple[str, int, int], int] = {}
    left: dict[tuple[str, int, int], int] = {}
    for sample in samples:
        key = (sample.graph, sample.label, sample.spi)
        if sample.direction == "in":
            entered.setdefault(key, sample.timestamp_us)
        else:
            left[key] = sample.timestamp_us
    latencies: dict[str, list[int]] = {}
    for key in entered.keys() & left.keys():
        latencies.setdefault(key[0], []).append(left[key] - entered[key])
    return {graph: tuple(spent) for graph, spent in latencies.items()}
