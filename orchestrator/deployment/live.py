"""The devices of an inventory, live: over P4Runtime, or (workers) the VNF management API."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from weakref import WeakSet

from orchestrator.clients.channel import TlsFiles, common_name
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.drivers import LOOK_S
from orchestrator.deployment.etcd_store import EtcdStore, parse_store
from orchestrator.deployment.journal import Journal, Lead
from orchestrator.deployment.store import LEAD_WAIT_S, Leadership
from orchestrator.errors import (
    EnvironmentMissing,
    NetworkError,
    ServerError,
    StoreError,
    SwitchError,
    unknown,
)
from orchestrator.model.away import Away
from orchestrator.model.devices import pipelined
from orchestrator.model.plan import Core
from orchestrator.model.topology import Link
from orchestrator.network.facilities import Facilities
from orchestrator.network.inventory import Inventory

_STORE = "store"
"""File in a network's folder that says where its journal is, so that no command looks elsewhere."""
STORE_KEY = "store.key"
"""And the one with which the journal is sealed there, unless the store's address names another."""


class LiveNetwork:
    """Sessions with the devices of an inventory, over TLS as its topology says.

    `facilities` are the interfaces of a network that runs on this machine, None elsewhere; there, it is
    asked of `links_down` which links are down, and why.
    """

    def __init__(
        self,
        inventory: Inventory,
        access: Access | None = None,
        facilities: Facilities | None = None,
        links_down: Callable[[], Mapping[Link, str]] = dict,
    ) -> None:
        self.access = Access.from_environment() if access is None else access
        self.name = inventory.name
        self.topology = inventory.topology
        self.inventory = inventory
        self.journal = journal_of(inventory.name, inventory.folder, self.access)
        self._facilities = facilities
        self._links_down = links_down if facilities is None else facilities.links_down
        self._workers = inventory.cores
        self._leadership: Leadership | None = None
        self._sessions = count()
        self._dead: dict[str, str] = {}
        self._open: WeakSet[SwitchClient | WorkerClient] = WeakSet()

    def facilities(self, what: str, instead: str = "") -> Facilities:
        """The network's interfaces, for `what` needs them; EnvironmentMissing when it has none, and what
        can be done `instead` is told."""
        if self._facilities is None:
            raise EnvironmentMissing(
                f"{self.name}: {what} needs the interfaces of its devices, which only a network "
                "that `orchestrator net up` started on this machine has"
                + (f"; {instead}" if instead else "")
            )
        return self._facilities

    @contextmanager
    def leading(self, wait_s: float = LEAD_WAIT_S) -> Generator[Lead]:
        """The right to change the network: its sessions are primary for this term, and no longer."""
        with self.journal.lead(wait_s) as lead:
            self._leadership = lead.leadership
            try:
                yield lead
            finally:
                self._leadership = None

    def device(self, name: str) -> SwitchClient:
        """A session as the primary controller of a device with a pipeline, by the term of whoever
        leads."""
        pipelines = self.inventory.pipelines
        if name not in pipelines:
            raise NetworkError(
                f"{self.name}: {unknown('device with a pipeline', name, tuple(pipelines))}"
            )
        if name in self._dead:
            raise SwitchError(f"{name}: {self._dead[name]}")
        pipeline = pipelines[name]
        session = SwitchClient(
            name,
            pipeline.address,
            pipeline.device_id,
            tls=self._tls_of(name),
            role=pipeline.role,
            election_id=self._election_id(),
            may_write=None if self._leadership is None else self._leadership.check,
        )
        self._open.add(session)
        return session

    def listener(self, name: str) -> SwitchClient:
        """A session that hears a device's packets, in the role that one's certificate may take there."""
        tls, files = pipelined(self.topology)[name].tls, self._tls_of(name)
        own = common_name(files.certificate) if files and files.certificate else ""
        return self.device(name).listening(own if tls and own in tls.listeners else "")

    def _tls_of(self, name: str) -> TlsFiles | None:
        return self.access.tls_files(name, pipelined(self.topology)[name].tls)

    def worker(self, core: Core) -> WorkerClient:
        """A session with a worker."""
        worker = self._workers.get(core)
        if worker is None:
            raise NetworkError(f"{self.name}: no worker on {core}")
        if worker.name in self._dead:
            raise ServerError(f"{worker.name}: {self._dead[worker.name]}")
        session = WorkerClient(
            worker.name,
            worker.address,
            tls=self.access.tls_files(worker.name, self.topology.servers[core.server].tls),
            election_id=self._election_id(),
            may_change=None if self._leadership is None else self._leadership.check,
        )
        self._open.add(session)
        return session

    def give_up(self, name: str, why: str) -> None:
        """A device or worker is known to be dead: its sessions end, whatever they wait for, and new ones
        are refused until it `lives`. From any thread."""
        self._dead[name] = why
        for session in list(self._open):
            if session.name == name:
                session.end(why)

    def lives(self, name: str) -> None:
        """A device or worker is not known to be dead (any more)."""
        self._dead.pop(name, None)

    def dead(self) -> Away:
        """Devices and workers that were given up."""
        dead = dict(self._dead)
        return Away(
            {n: f"{n}: {why}" for n, why in dead.items() if n in self.inventory.pipelines},
            {c: f"{w.name}: {dead[w.name]}" for c, w in self._workers.items() if w.name in dead},
        )

    def reading(self, wait_s: float = LOOK_S) -> Readers:
        """The same devices by sessions that only read; who says nothing for `wait_s` does not answer."""
        return Readers(self, wait_s)

    @property
    def cores(self) -> tuple[Core, ...]:
        """Cores that run a worker."""
        return tuple(self._workers)

    def worker_name(self, core: Core) -> str:
        """What the worker on a core calls itself."""
        return self._workers[core].name

    def links_down(self) -> Mapping[Link, str]:
        """Links that are down, with what is known of it; those of which nothing is known are not."""
        return self._links_down()

    def _election_id(self) -> int | None:
        """Term and number of the session: what an earlier session sent late is refused."""
        leads = self._leadership
        return None if leads is None else leads.term << 64 | next(self._sessions)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class Readers:
    """A network by sessions that only read: whoever is primary stays it."""

    def __init__(self, network: LiveNetwork, wait_s: float) -> None:
        self.name = network.name
        self.topology = network.topology
        self._network = network
        self._wait_s = wait_s

    def device(self, name: str) -> SwitchClient:
        """A reading session with a device that has a pipeline."""
        session = self._network.device(name).reading()
        session.connect_seconds = session.config_seconds = self._wait_s
        return session

    def worker(self, core: Core) -> WorkerClient:
        """A session with a worker."""
        session = self._network.worker(core)
        session.call_seconds = self._wait_s
        return session

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self._network.pause(seconds)


def journal_of(network: str, run_dir: str, access: Access | None = None) -> Journal:
    """The journal of a network: in the store that it was started with, or that the user names."""
    store = remembered_store(run_dir)
    named = (access or Access.from_environment()).store
    if store and named and named != store:
        raise NetworkError(f"{network}: its journal is in {store}, not in --store {named}")
    address = named or store
    if not address:
        return Journal(network)
    return Journal(network, EtcdStore(parse_store(address), network, Path(run_dir) / STORE_KEY))


def new_journal(network: str, run_dir: str) -> Journal:
    """The empty journal of a network that has just been started; its commands will know the store."""
    access = Access.from_environment()
    journal = journal_of(network, run_dir, access)
    journal.clear()
    remember_store(run_dir, access)
    return journal


def remembered_store(run_dir: str) -> str:
    """Where the journal of the network of a folder is; empty: in a file of this user's."""
    place = Path(run_dir) / _STORE
    return place.read_text() if place.exists() else ""


def remember_store(run_dir: str, access: Access) -> None:
    """Note in a network's folder where its journal is, if not in a file of this user's."""
    if access.store:
        try:
            (Path(run_dir) / _STORE).write_text(access.store)
        except OSError as error:
            raise StoreError(f"{run_dir}/{_STORE}: {error.strerror}") from error
