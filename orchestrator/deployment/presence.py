"""What answers in a network: every device is asked, and says what it has in force.

Success is said of a network only after this look. It tells what is to be left out (`Away`), graphs that
are in force although no journal knows them (`Stray`), and whether devices that answer still have what
the journal says, as far as that is cheap: the pipeline, the epoch in force, what a worker runs. Every
entry is compared only by `reconcile`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.deployment.desired import PlacedGraph
from orchestrator.deployment.drivers import ManagedNetwork, PipelineDriver
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.worker_drift import compared
from orchestrator.errors import ServerError, StoreError, SwitchError
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle
from orchestrator.model.devices import pipelined
from orchestrator.model.entries import Exact
from orchestrator.model.plan import Core
from orchestrator.model.topology import Link, Topology, to_core
from orchestrator.network.fabric import Fabric
from orchestrator.targets.block import EPOCH_TABLE
from orchestrator.targets.pipelines import build_for
from servernf.proto import vnf_pb2

_MANY = 64
"""Devices asked at once: those that do not answer must not be waited for one after another."""


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """What a P4Runtime device answered: its pipeline (None: it has none), (graph, epoch) by graph id."""

    cookie: int | None
    epochs: Mapping[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Stray:
    """A graph that is in force on devices although the journal does not know it."""

    graph: str
    graph_id: int
    devices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.graph or 'a graph'} (id {self.graph_id}) on {', '.join(self.devices)}"


@dataclass(frozen=True, slots=True)
class Presence:
    """What was seen of a network.

    `silent` are devices that do not answer; `away` is all that cannot be used: those, links that are
    down, and what is behind them.
    """

    silent: Away
    away: Away
    devices: Mapping[str, DeviceSeen]
    workers: Mapping[Core, vnf_pb2.Status]

    def strays(self, journaled: Collection[int]) -> tuple[Stray, ...]:
        """Graphs in force whose ids are not among those that the journal knows."""
        programs: dict[int, dict[str, str]] = {}
        for device, seen in self.devices.items():
            for graph_id, (graph, _) in seen.epochs.items():
                if graph_id not in journaled:
                    programs.setdefault(graph_id, {})[device] = graph
        return tuple(
            Stray(next(iter(names.values())), graph_id, tuple(names))
            for graph_id, names in sorted(programs.items())
        )

    def amiss(self, placed: PlacedGraph) -> Iterator[str]:
        """Why devices that answer do not have a graph in force as the journal says; none: they do."""
        bundle = placed.bundle
        for device in bundle.pipeline_of:
            seen = self.devices.get(device)
            if seen is None:
                continue
            if seen.cookie != build_for(bundle, device).cookie:
                other = "another pipeline" if seen.cookie else "no pipeline (it has restarted)"
                yield f"{device} runs {other}"
                continue
            wanted = _epoch_of(bundle, device)
            there = seen.epochs[bundle.graph_id][1] if bundle.graph_id in seen.epochs else None
            if there != wanted:
                yield (
                    f"{device} has version {_version(there)} of {bundle.graph} in force, and not "
                    f"{_version(wanted)}"
                )
        for worker in bundle.workers:
            core = Core(worker.server, worker.core)
            status = self.workers.get(core)
            if status is not None:
                drift = compared(status, core, {bundle.graph: placed}, prune=False)
                words = list(drift.words())
                if words:
                    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
                    yield f"{core} must {words[0]}{more}"


def look(network: ManagedNetwork, silent: Away | None = None) -> Presence:
    """Ask every device of a network, side by side. Changes nothing and pushes nobody aside.

    Those that are known to be `silent` are not waited for, and its links are down.
    """
    readers = network.reading()
    cores = network.cores
    unreached = silent or Away()

    def one_device(name: str) -> DeviceSeen | str:
        if name in unreached.devices:
            return unreached.devices[name]
        try:
            with readers.device(name) as driver:
                return device_seen(driver)
        except SwitchError as error:
            return str(error)

    def one_worker(core: Core) -> vnf_pb2.Status | str:
        if core in unreached.cores:
            return unreached.cores[core]
        try:
            with readers.worker(core) as session:
                status = session.status()
        except ServerError as error:
            return str(error)
        expected = network.worker_name(core)
        if status.name != expected:
            return f"{expected}: {status.name or 'something else'} answers in its place"
        return status

    names = tuple(pipelined(network.topology))
    with ThreadPoolExecutor(max_workers=_MANY) as pool:
        workers = dict(zip(cores, pool.map(one_worker, cores), strict=True))
        devices = dict(zip(names, pool.map(one_device, names), strict=True))
    dead_devices = {name: seen for name, seen in devices.items() if isinstance(seen, str)}
    dead_cores = {core: seen for core, seen in workers.items() if isinstance(seen, str)}
    return Presence(
        Away(dead_devices, dead_cores),
        behind(
            network.topology, dead_devices, dead_cores, {**network.links_down(), **unreached.links}
        ),
        {name: seen for name, seen in devices.items() if isinstance(seen, DeviceSeen)},
        {core: s for core, s in workers.items() if isinstance(s, vnf_pb2.Status)},
    )


def device_seen(driver: PipelineDriver) -> DeviceSeen:
    """What a device has in force."""
    cookie = driver.pipeline_cookie()
    if cookie is None or driver.schema is None or EPOCH_TABLE not in driver.schema.tables:
        return DeviceSeen(cookie, {})
    epochs: dict[int, tuple[str, int]] = {}
    for entry in driver.entries(EPOCH_TABLE):
        key = dict(entry.entry.keys).get("graph")
        if isinstance(key, Exact):
            epochs[key.value] = (entry.graph, dict(entry.entry.params).get("epoch", 0))
    return DeviceSeen(cookie, epochs)


def behind(
    topology: Topology,
    devices: Mapping[str, str],
    cores: Mapping[Core, str],
    down: Mapping[Link, str],
) -> Away:
    """All that cannot be used when devices and cores do not answer and links are down.

    A host's link cuts only that off, a server's all of its cores, a SmartNIC's port one core.
    """
    attached = {at.link: node for node, at in Fabric(topology).attachments.items()}
    hosts: dict[str, str] = {}
    links: dict[Link, str] = {}
    lost = dict(cores)
    for link, why in down.items():
        node = attached.get(link)
        if to_core(topology, link):
            core = Core(link.b, link.b_port)
            lost.setdefault(core, f"{core}: {why}")
            continue
        if node in topology.hosts:
            hosts[node] = f"{why}: host {node} cannot be reached"
            continue
        links[link] = why
        if node is not None:
            for index in topology.servers[node].worker_cores:
                lost.setdefault(Core(node, index), f"{Core(node, index)}: {why}")
    return Away(devices, lost, links, hosts)


def check_known(
    network: ManagedNetwork, presence: Presence, deployed: Mapping[str, Deployed] | None = None
) -> None:
    """StoreError when graphs are in force that the journal does not know: it has been lost."""
    strays = presence.strays(network.journal.known_ids(deployed))
    if strays:
        raise StoreError(
            f"{network.name}: devices have in force what the journal does not know: "
            f"{'; '.join(map(str, strays))}. The journal was lost, emptied, or is an old copy. "
            f"`orchestrator recover -n {network.name} --adopt FILE` takes a graph (graph.json or its "
            "bundle) into the journal as it is on the devices; `--forget --yes` removes what is not in "
            "the journal from them"
        )


def needed(bundle: Bundle, topology: Topology, away: Away) -> Away:
    """What a deployed graph needs of that which is away: devices with its entries or NFs, its ways.

    Hosts come and go: that one is unplugged is told, but nothing that a network lacks.
    """
    cores = {Core(worker.server, worker.core) for worker in bundle.workers}
    with_entries = {name for name, program in bundle.programs.items() if program.entries}
    fabric = Fabric(topology)
    used = [fabric.path(hop.source, hop.target, hop.tree) for hop in bundle.plan.hops]
    crossed = {node for path in used for node in path}
    links = {fabric.link(a, b) for path in used for a, b in pairwise(path)}
    return Away(
        {name: why for name, why in away.devices.items() if name in with_entries | crossed},
        {core: why for core, why in away.cores.items() if core in cores},
        {link: why for link, why in away.links.items() if link in links},
    )


def _epoch_of(bundle: Bundle, device: str) -> int | None:
    program = bundle.programs.get(device)
    if program is None or not program.activation:
        return None
    return dict(program.activation[0].params)["epoch"]


def _version(epoch: int | None) -> str:
    return "none" if epoch is None else str(epoch)
