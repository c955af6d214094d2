"""The agents of a network's servers: one a namespace, told to start a worker on each core.

An agent listens on a socket in a folder of its own below the network's, as its workers do. It starts
nothing again that ends: what dies in a network is to be seen, until `net restart`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.clients.agent import AgentClient, worker_specs
from orchestrator.emulation.commands import speaks_tls, user_of
from orchestrator.emulation.state import WorkerState
from orchestrator.model.topology import Server, Tls
from servernf.proto import agent_pb2


def agent_name(server: str) -> str:
    """The name of a server's agent among a network's processes, and of its log."""
    return f"{server}-agent"


def agent_folder(server: Server, folder: Path) -> Path:
    """Where an agent keeps files and sockets, under a short name: a path of a socket has 107 bytes."""
    return folder / f"a{server.id}"


def agent_api(server: Server, folder: Path) -> str:
    """Where an agent listens."""
    return f"unix:{agent_folder(server, folder)}/agent.sock"


def sockets(server: Server, folder: Path) -> Iterator[str]:
    """The paths of the sockets that an agent and its workers will have."""
    own = agent_folder(server, folder)
    yield f"{own}/agent.sock"
    yield from (f"{own}/core{core + 1}.sock" for core in server.worker_cores)


def agent_argv(server: Server, folder: Path, network_id: str, cle: str = "") -> list[str]:
    """Write an agent's configuration; the command that runs it, in the server's namespace.

    `cle`: where what workers tell witnesses is shipped.
    """
    own = agent_folder(server, folder)
    own.mkdir(mode=0o700, exist_ok=True)
    workers: dict[str, object] = {
        "listen": f"unix:{own}",
        "user": int(user_of(network_id)),
        "pin": False,
        "restart": False,
        "doors": str(folder / "doors"),  # of all servers
    }
    if server.tls is not None and speaks_tls(server.tls):
        workers["tls"] = _tls(server.tls)
    config: dict[str, object] = {
        "name": server.name,
        "listen": agent_api(server, folder),
        "folder": str(own),
        "workers": workers,
    }
    if cle:
        config["cle"] = {"address": cle}
    file = own / "agent.json"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(config, out, indent=1)
    return [sys.executable, "-m", "servernf", "agent", "--config", str(file)]


def starting(
    client: AgentClient, server: Server, nic: str
) -> Callable[[], tuple[WorkerState, ...]]:
    """Start all workers of a server; what is returned waits until they run."""
    wait = client.starting(worker_specs(server, nic))
    return lambda: worker_states(server, wait())


def worker_states(server: Server, workers: Iterable[agent_pb2.Worker]) -> tuple[WorkerState, ...]:
    """Workers as an agent tells of them."""
    return tuple(
        WorkerState(
            name=worker.spec.name,
            server=server.name,
            core=worker.spec.core,
            mac=worker.spec.mac,
            api=worker.api,
            pid=worker.pid,
            interface=worker.interface,
            log=worker.log,
        )
        for worker in workers
    )


def _tls(tls: Tls) -> dict[str, object]:
    files: dict[str, object] = {"certificate": tls.device_certificate, "key": tls.device_key}
    if not tls.mutual:
        return files
    return {**files, "ca": tls.ca, "writers": list(tls.writers)}
