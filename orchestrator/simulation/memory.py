"""The devices of a topology in this process, on a simulated network. No root needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.devices import MemoryServer, MemorySwitch, MemoryWorker
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
        given = clocks or {}
        self.switches = {
            name: MemorySwitch(switch, self._clock_of(given.get(name)))
            for name, switch in topology.switches.items()
        }
        for name, switch in self.switches.items():
            self.add(name, switch)
        self.workers: dict[Core, MemoryWorker] = {}
        for name, server in topology.servers.items():
            made = MemoryServer(server, lambda: self.now_ns, given.get(name, Clock()), epoch_us)
            self.add_holder(name, made)
            for index, worker in made.workers.items():
                self.workers[Core(name, index)] = MemoryWorker(worker)

    def _clock_of(self, clock: Clock | None) -> Callable[[], int]:
        return (lambda: self.now_ns) if clock is None else lambda: clock.read_ns(self.now_ns)

    def device(self, name: str) -> AbstractContextManager[MemorySwitch]:
        """The switch; there is no session to open."""
        return nullcontext(self.switches[name])

    def worker(self, core: Core) -> AbstractContextManager[MemoryWorker]:
        """The worker; there is no session to open."""
        return nullcontext(self.workers[core])

    def pause(self, seconds: float) -> None:
        """Let packets move for so long."""
        self.advance(round(seconds * 1e6))
