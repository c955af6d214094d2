"""A running network: switches over P4Runtime, workers over the VNF management API."""

from __future__ import annotations

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.journal import Journal
from orchestrator.emulation import NetworkState
from orchestrator.errors import NetworkError, unknown
from orchestrator.model.plan import Core


class LiveNetwork:
    """Sessions with the devices of a network that `net up` started."""

    def __init__(self, state: NetworkState) -> None:
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
        return SwitchClient(name, found.grpc_address, found.device_id)

    def worker(self, core: Core) -> WorkerClient:
        """A session with a worker."""
        found = self._workers.get(core)
        if found is None:
            raise NetworkError(f"{self.name}: no worker on {core.server} core {core.index + 1}")
        return WorkerClient(found.name, found.api)
