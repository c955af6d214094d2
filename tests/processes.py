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
from pathlib import Path

import grpc
from support import eventually

from orchestrator.deployment.journal import Deployed, now
from orchestrator.deployment.live import LiveNetwork
from orchestrator.emulation.commands import bmv2_argv
from orchestrator.emulation.state import NetworkState, ServerState, SwitchState, WorkerState
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.verification.manifest import Manifest
from servernf.python.runtime.service import VnfService, serve
from servernf.python.runtime.worker import Worker
from servernf.wire.addresses import device_mac

ROOT = Path(__file__).resolve().parents[1]
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
            words = bmv2_argv(
                self.device_id,
                {},
                self.address,
                cpu_port=510,
                folder=Path(tempfile.gettempdir()),
                spare_port=self.spare_port,
            )
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
    """The processes of a topology, and what `net up` would have noted of them."""

    def __init__(self, topology: Topology, kind: str, folder: Path) -> None:
        self.switches = {n: SwitchProcess(kind, s.id) for n, s in topology.switches.items()}
        self.workers: dict[Core, WorkerServer] = {}
        servers: dict[str, ServerState] = {}
        for server in topology.servers.values():
            states: list[WorkerState] = []
            for index in range(server.cores - server.reserved_cores):
                name, mac = f"{server.name}-core{index + 1}", device_mac(server.id, core=index + 1)
                api = f"unix:{folder}/{name}.sock"
                self.workers[Core(server.name, index)] = WorkerServer(name, mac, api)
                states.append(WorkerState(name, server.name, index, mac, api, 0, "", ""))
            servers[server.name] = ServerState(server.name, 0, "", tuple(states))
        target = "bmv2" if kind == "bmv2" else "softswitch"
        self.state = NetworkState(
            name=folder.name,
            id="0000",
            phase="running",
            topology=topology,
            created=0.0,
            run_dir=str(folder),
            namespace=0,
            switches={
                name: SwitchState(name, target, s.device_id, s.address, 0, 510, {}, "")
                for name, s in self.switches.items()
            },
            servers=servers,
        )
        self.live = LiveNetwork(self.state)

    def record(self, bundle: Bundle, manifest: Manifest | None) -> None:
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
