"""A live network's devices: switches over P4Runtime, workers over the VNF management API."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.etcd_store import EtcdStore, parse_store
from orchestrator.deployment.journal import Journal, Lead
from orchestrator.deployment.store import LEAD_WAIT_S, Leadership
from orchestrator.emulation import NetworkState
from orchestrator.emulation.status import links_down
from orchestrator.errors import NetworkError, StoreError, unknown
from orchestrator.model.plan import Core
from orchestrator.model.topology import Link, Topology


def _as_it_runs(state: NetworkState) -> Topology:
    """The topology with the targets that were chosen for its switches: lowering goes by what runs."""
    nodes = state.topology.switches
    running = {
        name: replace(nodes[name], target=found.target) for name, found in state.switches.items()
    }
    return replace(state.topology, switches=nodes | running)


_STORE = "store"
"""File in a network's folder that says where its journal is, so that no command looks elsewhere."""


class LiveNetwork:
    """Sessions with the devices of a network that `net up` started, over TLS as its topology says."""

    def __init__(self, state: NetworkState, access: Access | None = None) -> None:
        self.access = Access.from_environment() if access is None else access
        self.name = state.name
        self.topology = _as_it_runs(state)
        self.journal = journal_of(state.name, state.run_dir, self.access)
        self._state = state
        self._switches = state.switches
        self._workers = {Core(worker.server, worker.core): worker for worker in state.workers}
        self._leadership: Leadership | None = None
        self._sessions = count()

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
        """A session as the switch's primary controller, by the term of whoever leads."""
        if name not in self._switches:
            raise NetworkError(f"{self.name}: {unknown('switch', name, tuple(self._switches))}")
        found = self._switches[name]
        return SwitchClient(
            name,
            found.grpc_address,
            found.device_id,
            tls=self.access.tls_files(name, self.topology.switches[name].tls),
            election_id=self._election_id(),
            may_write=None if self._leadership is None else self._leadership.check,
        )

    def worker(self, core: Core) -> WorkerClient:
        """A session with a worker."""
        found = self._workers.get(core)
        if found is None:
            raise NetworkError(f"{self.name}: no worker on {core.server} core {core.index + 1}")
        return WorkerClient(
            found.name,
            found.api,
            tls=self.access.tls_files(found.name, self.topology.servers[core.server].tls),
            election_id=self._election_id(),
            may_change=None if self._leadership is None else self._leadership.check,
        )

    @property
    def cores(self) -> tuple[Core, ...]:
        """Cores that run a worker."""
        return tuple(self._workers)

    def worker_name(self, core: Core) -> str:
        """What the worker on a core calls itself."""
        return self._workers[core].name

    def links_down(self) -> Mapping[Link, str]:
        """Links that are down, with what is known of it; those of which nothing is known are not."""
        return links_down(self._state)

    def _election_id(self) -> int | None:
        """Term and number of the session: what an earlier session sent late is refused."""
        leads = self._leadership
        return None if leads is None else leads.term << 64 | next(self._sessions)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


def journal_of(network: str, run_dir: str, access: Access | None = None) -> Journal:
    """The journal of a network: in the store that it was started with, or that the user names."""
    place = Path(run_dir) / _STORE
    known = place.read_text() if place.exists() else ""
    named = (access or Access.from_environment()).store
    if known and named and named != known:
        raise NetworkError(f"{network}: its journal is in {known}, not in --store {named}")
    address = named or known
    if not address:
        return Journal(network)
    return Journal(network, EtcdStore(parse_store(address), network, Path(run_dir) / "store.key"))


def new_journal(network: str, run_dir: str) -> Journal:
    """The empty journal of a network that has just been started; its commands will know the store."""
    access = Access.from_environment()
    journal = journal_of(network, run_dir, access)
    journal.clear()
    if access.store:
        try:
            (Path(run_dir) / _STORE).write_text(access.store)
        except OSError as error:
            raise StoreError(f"{run_dir}/{_STORE}: {error.strerror}") from error
    return journal
