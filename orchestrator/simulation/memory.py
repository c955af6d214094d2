"""The devices of a topology in this process, on a simulated network. No root needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.devices import (
    LocalWorker,
    MemoryServer,
    MemorySwitch,
    MemoryWorker,
)
from orchestrator.simulation.network import Simulation


class MemoryNetwork(Simulation):
    """A softswitch for every switch and a worker for every core, as a deployment drives them.

    `clocks` are those of devices, by name, that differ from virtual time. The rest is a `Simulation`'s.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        timed: bool = False,
        seed: int = 0,
        clocks: Mapping[str, Clock] | None = None,
        epoch_us: int = 0,
    ) -> None:
        super().__init__(topology, timed=timed, seed=seed)
        self.name = "memory"
        self.fabric = Fabric(topology)
        self._clocks = dict(clocks or {})
        self.switches: dict[str, MemorySwitch] = {}
        for name in topology.switches:
            self.renew_switch(name)
        self.workers: dict[Core, MemoryWorker] = {}
        self._servers: dict[str, MemoryServer] = {}
        for name, server in topology.servers.items():
            clock = self._clocks.get(name, Clock())
            made = self._servers[name] = MemoryServer(
                server,
                lambda: self.now_ns,
                clock,
                epoch_us,
                self._peer,
                own_ports=name in self.fabric.core_ports,
            )
            self.add_holder(name, made)
            for index, worker in made.workers.items():
                self.workers[Core(name, index)] = MemoryWorker(worker)

    def renew_switch(self, name: str) -> None:
        """A switch is started again, empty."""
        clock = self._clock_of(self._clocks.get(name))
        self.switches[name] = MemorySwitch(
            self.topology.switches[name], clock, lambda port, frame: self.emit(name, port, frame)
        )
        self.add(name, self.switches[name])

    def _clock_of(self, clock: Clock | None) -> Callable[[], int]:
        return (lambda: self.now_ns) if clock is None else lambda: clock.read_ns(self.now_ns)

    def renew_worker(self, core: Core) -> LocalWorker:
        """A worker is started again, empty."""
        worker = self._servers[core.server].renew(core.index)
        self.workers[core] = MemoryWorker(worker)
        return worker

    def _peer(self, name: str) -> LocalWorker | None:
        """The worker that another one calls by its name."""
        workers = [w.worker for w in self.workers.values() if w.worker.name == name]
        return workers[0] if workers else None

    def device(self, name: str) -> AbstractContextManager[MemorySwitch]:
        """The switch; there is no session to open."""
        return nullcontext(self.switches[name])

    def worker(self, core: Core) -> AbstractContextManager[MemoryWorker]:
        """The worker; there is no session to open."""
        return nullcontext(self.workers[core])

    def pause(self, seconds: float) -> None:
        """Let packets move for so long."""
        self.advance(round(seconds * 1e6))
