"""Agents for tests: within the test's process, with workers that are real processes but no runtime.

Such a worker binds its API's socket, says that it is ready, and sleeps; or it ends at once, while the
file `refuse` is in the agent's folder. One that starts while `deaf` is there heeds no SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from support import eventually

from servernf.agent import starter as starting
from servernf.agent.bounds import PlainBounds
from servernf.agent.config import Config, WorkerSettings, config_of
from servernf.agent.fleet import Fleet
from servernf.agent.memory import WorkerMemory
from servernf.agent.service import AgentService, serve
from servernf.agent.specs import WorkerSpec
from servernf.agent.starter import Starter
from servernf.proto import agent_pb2
from servernf.wire.addresses import device_mac

_WORKER = """
import json, os, signal, socket, sys
path = sys.argv[1].removeprefix("unix:")
if os.path.exists(sys.argv[2] + "/refuse"):
    sys.exit("its cable is not plugged in")
if os.path.exists(sys.argv[2] + "/deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.path.exists(path):
    os.unlink(path)
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen()
print(json.dumps({"ready": True}), flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Sleeper:
    """A runtime whose workers sleep (`servernf.agent.runtimes.RuntimeModule`)."""

    folder: Path
    name: str = "python"

    def device(self, spec: WorkerSpec, settings: WorkerSettings) -> None:
        """None: it has no frames."""

    def argv(self, spec: WorkerSpec, settings: WorkerSettings, cpu: int | None) -> list[str]:
        api = settings.api(spec.core)
        return [sys.executable, "-I", "-S", "-c", _WORKER, api, str(self.folder)]


@dataclass
class Agent:
    """An agent's parts, without its API."""

    config: Config
    starter: Starter
    fleet: Fleet
    memory: WorkerMemory

    @property
    def refuse(self) -> Path:
        """While this file is there, no worker starts."""
        return self.config.folder / "refuse"


def configuration(folder: Path, **changed: object) -> Config:
    """An agent on sockets in `folder`, for eight cores that are not pinned."""
    workers = {"listen": f"unix:{folder}", "pin": False}
    data = {"name": "server1", "listen": f"unix:{folder}/agent.sock", "folder": str(folder)}
    return config_of({**data, "workers": workers, **changed}, "test")


@contextmanager
def agent(
    monkeypatch: pytest.MonkeyPatch, config: Config, *, restarts: bool = True
) -> Iterator[Agent]:
    """An agent that begins with what is remembered in its folder; at the end its workers end."""
    runtime = Sleeper(config.folder)
    monkeypatch.setattr(starting, "runtimes", lambda: {runtime.name: runtime})
    memory = WorkerMemory(config.folder)
    starter = Starter(config, PlainBounds())
    fleet = Fleet(starter, memory, restarts=restarts)
    fleet.resume(config.name)
    try:
        yield Agent(config, starter, fleet, memory)
    finally:
        fleet.end()
        memory.close()


@contextmanager
def served(of_agent: Agent) -> Iterator[grpc.Server]:
    """The agent's API at the address of its configuration."""
    server = serve(
        AgentService(of_agent.config, PlainBounds(), of_agent.starter, of_agent.fleet),
        of_agent.config,
    )
    try:
        yield server
    finally:
        server.stop(None).wait()


def spec(core: int = 0, **changed: object) -> WorkerSpec:
    """A worker's specification that needs no right to make interfaces."""
    data = {
        "name": f"server1.{core + 1}",
        "core": core,
        "runtime": "python",
        "mac": device_mac(1, core=core + 1),
        "macvlan_on": "",
        "interface": f"vf{core}",
        "memory_bytes": 0,
        "cpu": None,
    }
    return WorkerSpec(**{**data, **changed})  # type: ignore[arg-type]


def message(core: int = 0, nic: str = "eth0", **changed: object) -> agent_pb2.WorkerSpec:
    """The message for a worker on a macvlan."""
    data = {
        "name": f"server1.{core + 1}",
        "core": core,
        "runtime": "python",
        "mac": device_mac(1, core=core + 1),
        "macvlan_on": nic,
    }
    return agent_pb2.WorkerSpec(**{**data, **changed})  # type: ignore[arg-type]


def ended(pid: int) -> bool:
    """Wait until a process has ended (it may be left to reap)."""
    stat = Path(f"/proc/{pid}/stat")
    return eventually(
        lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    )
