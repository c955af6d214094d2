"""A running network: switches over P4Runtime, workers over the VNF management API."""

from __future__ import annotations

import time

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.journal import Journal
from orchestrator.emulation import NetworkState
from orchestrator.errors import NetworkError, unknown
from orchestrator.model.plan import Core


class LiveNetwork:
    """Sessions with the devices of a network that `net up` started, over TLS as its topology says."""

    def __init__(self, state: NetworkState, access: Access | None = None) -> None:
        self.access = Access.from_environment() if access is None else access
        self.name = state.name
        self.topology = state.topology
        self.journal = Journal(state.name)
        self._switches = state.switches
        self._workers = {Core(worker.server, worker.core): worker for worker in state.workers}

    def switch(self, name: str) -> SwitchClient:
        """A session as the switch's primary controller."""
        if name not in self._switches:
            raise NetworkError(f"{self.name}: {unknown('switch', name, tuple(self._switches))}")
        found = self._switches[name]
        tls = self.access.tls_files(name, self.topology.switches[name].tls)
        return SwitchClient(name, found.grpc_address, found.device_id, tls=tls)

    def worker(self, core: Core) -> WorkerClient:
        """A session with a worker."""
        found = self._workers.get(core)
        if found is None:
            raise NetworkError(f"{self.name}: no worker on {core.server} core {core.index + 1}")
        tls = self.access.tls_files(found.name, self.topology.servers[core.server].tls)
        return WorkerClient(found.name, found.api, tls=tls)

    def pause(self, seconds: float) -> None:
        """Let packets move for so long."""
        time.sleep(seconds)
