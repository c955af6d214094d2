"""A network of real switch processes and served workers, without root: no packets, all of control."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from commands import ROOT
from support import eventually

from orchestrator.deployment.journal import Deployed, now
from orchestrator.deployment.live import LiveNetwork
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.inventory import Inventory, PipelineAddress, WorkerAddress
from orchestrator.targets.bmv2 import SimpleSwitch
from orchestrator.targets.engine import Launch
from servernf.python.runtime.service import VnfService, serve
from servernf.python.runtime.worker import Worker
from servernf.wire.addresses import device_mac

BMV2 = shutil.which("simple_switch_grpc")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class SwitchProcess:
    """A softswitch or BMv2 on a port of its own, which it keeps when it is started again."""

    def __init__(self, kind: str, device_id: int) -> None:
        self.kind, self.device_id = kind, device_id
        self.port, self.spare_port = _free_port(), _free_port()
        self.process = self._start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self.kind == "bmv2":
            assert BMV2
            folder = Path(tempfile.gettempdir())
            launch = Launch("s", self.device_id, {}, self.address, 510, folder, self.spare_port)
            words = SimpleSwitch().argv(launch)
        else:
            words = [sys.executable, "-m", "orchestrator.softswitch"]
            words += ["--device-id", str(self.device_id), "--grpc-addr", self.address]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        eventually(lambda: self._listens(process), what=f"{self.kind} at {self.address}")
        return process

    def _listens(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(map(str, process.args))} ended")  # type: ignore[arg-type]
        socket.create_connection(("127.0.0.1", self.port)).close()
        return True


class WorkerServer:
    """A worker of this process, served over its socket; started again it has forgotten everything."""

    def __init__(self, name: str, mac: int, address: str) -> None:
        self.name, self.mac, self.address = name, mac, address
        self._start()

    def _start(self) -> None:
        self.worker = Worker(self.name, self.mac)
        served: tuple[grpc.Server, VnfService, str] = serve(self.worker, self.address)
        self._server, self._service, _ = served

    def stop(self) -> None:
        self._service.stopping.set()
        self._server.stop(0).wait()

    def restart(self) -> None:
        self.stop()
        self._start()


class ProcessNetwork:
    """The processes of a topology, which nobody started as a network, and their inventory."""

    def __init__(self, topology: Topology, kind: str, folder: Path) -> None:
        self.switches = {n: SwitchProcess(kind, s.id) for n, s in topology.switches.items()}
        self.workers: dict[Core, WorkerServer] = {}
        for server in topology.servers.values():
            for index in server.worker_cores:
                core = Core(server.name, index)
                name, mac = str(core), device_mac(server.id, core=index + 1)
                self.workers[core] = WorkerServer(name, mac, f"unix:{folder}/{name}.sock")
        nodes = {n: replace(s, target=kind) for n, s in topology.switches.items()}
        self.inventory = Inventory(
            folder.name,
            replace(topology, switches=nodes),
            {n: PipelineAddress(s.address, s.device_id) for n, s in self.switches.items()},
            tuple(WorkerAddress(w.name, core, w.address) for core, w in self.workers.items()),
            str(folder),
        )
        self.live = LiveNetwork(self.inventory)

    def record(self, bundle: Bundle, manifest: SamplingSecret | None) -> None:
        """Note in the journal that a graph is deployed, and touch no device."""
        with self.live.leading() as lead:
            lead.intend(bundle.graph, Deployed(bundle, manifest, now()))
            lead.finished()

    def close(self) -> None:
        for switch in self.switches.values():
            switch.kill()
        for worker in self.workers.values():
            worker.stop()


@contextmanager
def processes(topology: Topology, kind: str, folder: Path) -> Generator[ProcessNetwork]:
    """A network in `folder`, whose name is its name; $XDG_STATE_HOME must be the caller's own."""
    network = ProcessNetwork(topology, kind, folder)
    try:
        yield network
    finally:
        network.close()
