"""A network in memory as a process of its own: its devices are reached as any other's.

Every switch is behind a P4Runtime server, every worker behind the VNF management API, at the addresses
of an inventory; so whoever deploys and observes knows nothing of it. Hosts send by a socket (`hosts`).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from finsy.proto import p4r

from orchestrator.errors import NetworkError, unknown
from orchestrator.network.inventory import Inventory
from orchestrator.simulation.hosts import Answer, HostServer
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.simulation.network import Sent
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer
from orchestrator.softswitch.switch import SoftSwitch


class _Engine(PythonEngine):
    """An engine that says when it was asked for something: every command reads or writes."""

    def __init__(self, switch: SoftSwitch, used: Callable[[], None]) -> None:
        super().__init__(switch)
        self._used = used

    def commit(self) -> None:
        super().commit()
        gc.collect()  # a pipeline is full of cycles: the one before would stay for long

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        self._used()
        super().write(updates, admit)

    def read(self, entities: Iterable[p4r.Entity]) -> Any:
        self._used()
        return super().read(entities)


class _Locked:
    """A switch as a node while others write to it."""

    def __init__(self, soft: SoftSwitch) -> None:
        self._soft = soft

    def process(self, port: int, frame: bytes) -> list[Sent]:
        with self._soft.locked():
            return self._soft.process(port, frame)


class ServedNetwork:
    """The devices of an inventory, served until `stop`."""

    def __init__(self, inventory: Inventory, *, seed: int = 0) -> None:
        self.inventory = inventory
        self.used_at = time.monotonic()
        """When a device or host was asked for something last."""
        self._network = MemoryNetwork(
            inventory.topology, timed=True, seed=seed, epoch_us=time.time_ns() // 1000
        )
        self._lock = threading.Lock()
        self._packet_outs: SimpleQueue[tuple[str, list[Sent]]] = SimpleQueue()
        self._stops: dict[str, Callable[[], None]] = {}
        for name in inventory.pipelines:
            self._serve_switch(name)
        for worker in inventory.workers:
            local = self._network.workers[worker.core].worker
            self._stops[worker.name] = local.serve(worker.address)
        self._hosts = HostServer(Path(inventory.hosts), self._answer)
        for target in (self._hosts.serve_forever, self._send_packet_outs):
            threading.Thread(target=target, daemon=True).start()

    def stop(self) -> None:
        """Stop serving; sockets are left to whoever removes their folder."""
        self._hosts.shutdown()
        self._hosts.server_close()
        for stop in self._stops.values():
            stop()

    def _use(self) -> None:
        self.used_at = time.monotonic()

    def _serve_switch(self, name: str) -> None:
        soft = self._network.switches[name].soft
        # Whoever sends a PacketOut holds the switch's lock, and the network must not wait for it.
        soft.transmit = lambda frames: self._packet_outs.put((name, frames))
        self._network.add(name, _Locked(soft))
        server = P4RuntimeServer(_Engine(soft, self._use), self.inventory.pipelines[name].address)
        server.start()
        self._stops[name] = lambda: server.stop(0)

    def _send_packet_outs(self) -> None:
        while True:
            name, frames = self._packet_outs.get()
            with self._lock:
                for port, frame in frames:
                    self._network.emit(name, port, frame)
                self._network.run()
                self._network.taken()  # no host asked for them

    def _answer(self, request: dict[str, Any]) -> Answer:
        self._use()
        match request:
            case {"send": [str(host), str(frame)]}:
                with self._lock:
                    return self._told(self._network.send(host, bytes.fromhex(frame)))
            case {"advance": int(us)} if us >= 0:
                with self._lock:
                    self._network.advance(us)
                    return self._told(self._network.taken())
            case {"restart": str(device)}:
                with self._lock:
                    self._restart(device)
                    return {"now_us": self._network.now_us}
            case _:
                raise ValueError("known requests: send [host, hex], advance us, restart device")

    def _told(self, deliveries: Any) -> Answer:
        told = [(d.host, d.frame.hex(), d.at_us) for d in deliveries]
        return {"deliveries": told, "now_us": self._network.now_us}

    def _restart(self, device: str) -> None:
        cores = {worker.name: worker for worker in self.inventory.workers}
        if device in self._network.switches:
            self._stops[device]()
            self._network.renew_switch(device)
            self._serve_switch(device)
        elif device in cores:
            self._stops[device]()
            core, address = cores[device].core, cores[device].address
            self._stops[device] = self._network.renew_worker(core).serve(address)
        else:
            names = (*self._network.switches, *cores)
            raise NetworkError(unknown("switch or worker", device, names))
