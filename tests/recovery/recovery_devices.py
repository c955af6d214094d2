"""Real switch processes and workers of a topology, on TCP and Unix sockets; no packets, no root.

Their state is read back as a set of lines that does not depend on order, counters or who looks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finsy.proto import p4r
from networks import topology

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import SwitchError
from orchestrator.model.plan import Core
from orchestrator.network.inventory import Inventory, PipelineAddress, WorkerAddress
from servernf.proto import vnf_pb2
from servernf.wire.addresses import device_mac

WORKERS = Path(__file__).with_name("recovery_workers.py")
State = frozenset[tuple[str, str]]
"""(device, what it has) of all devices."""


def _announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@dataclass(frozen=True)
class Devices:
    """Running devices, and which processes they are: all workers are one."""

    inventory: Inventory
    pids: dict[str, int]
    workers: int


@contextmanager
def devices(
    folder: Path, where: str = "leaf-spine", *, first: str = "", engine: str = "python"
) -> Iterator[Devices]:
    """All devices of a topology as processes, workers in one; switches start with program `first`."""
    network = topology(where)
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str) -> subprocess.Popen[str]:
        command = [sys.executable, *argv]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    try:
        started = {
            name: start(
                *("-m", "orchestrator.softswitch", "--name", name, "--engine", engine),
                *("--device-id", str(switch.id), "--grpc-addr", "127.0.0.1:0"),
                *((first and f"--pipeline={first}.json --p4info={first}.p4info.txtpb").split()),
            )
            for name, switch in network.switches.items()
        }
        cores = [
            (server, core, f"unix:{folder}/{server.name}-{core}.sock")
            for server in network.servers.values()
            for core in server.worker_cores
        ]
        sockets = [
            f"{server.name}.{core + 1}={device_mac(server.id, core=core + 1)}={api}"
            for server, core, api in cores
        ]
        workers = start(str(WORKERS), *sockets)
        _announced(workers)
        reached = {
            name: PipelineAddress(_announced(process)["grpc_addr"], network.switches[name].id)
            for name, process in started.items()
        }
        inventory = Inventory(
            "devices",
            network,
            reached,
            tuple(
                WorkerAddress(str(Core(server.name, core)), Core(server.name, core), api)
                for server, core, api in cores
            ),
            str(folder),
        )
        pids = {name: process.pid for name, process in started.items()}
        yield Devices(inventory, pids, workers.pid)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def through(inventory: Inventory, addresses: dict[str, str]) -> Inventory:
    """The same network, some devices of which are reached at other addresses."""
    return replace(
        inventory,
        pipelines={
            name: replace(device, address=addresses.get(name, device.address))
            for name, device in inventory.pipelines.items()
        },
        workers=tuple(
            replace(worker, address=addresses.get(worker.name, worker.address))
            for worker in inventory.workers
        ),
    )


def read_state(network: Inventory, *, workers: bool = True) -> State:
    """What all devices have, or all switches; a switch without a pipeline has nothing."""
    lines: set[tuple[str, str]] = set()
    for name, switch in network.pipelines.items():
        with (
            SwitchClient(name, switch.address, switch.device_id, primary=False) as client,
            suppress(SwitchError),  # it runs no pipeline
        ):
            lines |= {(name, _text(entity)) for entity in client.read_entities(*_everything())}
    for worker in network.workers if workers else ():
        with WorkerClient(worker.name, worker.address) as client:
            lines |= {(worker.name, line) for line in _of_worker(client.status())}
    return frozenset(lines)


def _everything() -> Iterable[p4r.Entity]:
    yield p4r.Entity(table_entry=p4r.TableEntry())
    groups, sessions = p4r.Entity(), p4r.Entity()
    groups.packet_replication_engine_entry.multicast_group_entry.SetInParent()
    sessions.packet_replication_engine_entry.clone_session_entry.SetInParent()
    yield groups
    yield sessions


def _text(entity: p4r.Entity) -> str:
    return entity.SerializeToString(deterministic=True).hex()


def _of_worker(status: vnf_pb2.Status) -> Iterator[str]:
    for instance in status.nfs:
        yield f"nf {instance.name} {instance.type} {instance.config_digest}"
    for graph in status.sampled_graphs:
        yield f"sampled {graph}"
    for path in status.paths:
        yield f"path {path.SerializeToString(deterministic=True).hex()}"
