"""Real switch processes and workers of a topology, on TCP and Unix sockets; no packets, no root.

Their state is read back as a set of lines that does not depend on order, counters or who looks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from finsy.proto import p4r
from networks import topology

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.emulation.state import NetworkState, ServerState, SwitchState, WorkerState
from orchestrator.errors import SwitchError
from servernf.proto import vnf_pb2
from servernf.wire.addresses import device_mac

WORKERS = Path(__file__).with_name("recovery_workers.py")
State = frozenset[tuple[str, str]]
"""(device, what it has) of all devices."""


def _announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@contextmanager
def devices(folder: Path, where: str = "leaf-spine", *, first: str = "") -> Iterator[NetworkState]:
    """All devices of a topology as processes, workers in one; switches start with program `first`."""
    found = topology(where)
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str) -> subprocess.Popen[str]:
        command = [sys.executable, *argv]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    try:
        started = {
            name: start(
                *("-m", "orchestrator.softswitch", "--name", name),
                *("--device-id", str(switch.id), "--grpc-addr", "127.0.0.1:0"),
                *((first and f"--pipeline={first}.json --p4info={first}.p4info.txtpb").split()),
            )
            for name, switch in found.switches.items()
        }
        cores = [
            (server, core, f"unix:{folder}/{server.name}-{core}.sock")
            for server in found.servers.values()
            for core in range(server.cores - server.reserved_cores)
        ]
        sockets = [
            f"{server.name}-core{core + 1}={device_mac(server.id, core=core + 1)}={api}"
            for server, core, api in cores
        ]
        workers = start(str(WORKERS), *sockets)
        _announced(workers)
        states = [
            WorkerState(
                name=f"{server.name}-core{core + 1}",
                server=server.name,
                core=core,
                mac=device_mac(server.id, core=core + 1),
                api=api,
                pid=workers.pid,
                interface="",
                log="",
            )
            for server, core, api in cores
        ]
        switches = {
            name: SwitchState(
                name=name,
                target="softswitch",
                device_id=found.switches[name].id,
                grpc_address=_announced(process)["grpc_addr"],
                pid=process.pid,
                cpu_port=510,
                interfaces={},
                log="",
            )
            for name, process in started.items()
        }
        yield NetworkState(
            name="devices",
            id="0000",
            phase="running",
            topology=found,
            created=time.time(),
            run_dir=str(folder),
            namespace=0,
            switches=switches,
            servers={
                name: ServerState(name, 0, "", tuple(w for w in states if w.server == name))
                for name in found.servers
            },
        )
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def through(state: NetworkState, addresses: dict[str, str]) -> NetworkState:
    """The same network, some devices of which are reached at other addresses."""
    return replace(
        state,
        switches={
            name: replace(switch, grpc_address=addresses.get(name, switch.grpc_address))
            for name, switch in state.switches.items()
        },
        servers={
            name: replace(
                server,
                workers=tuple(
                    replace(worker, api=addresses.get(worker.name, worker.api))
                    for worker in server.workers
                ),
            )
            for name, server in state.servers.items()
        },
    )


def read_state(network: NetworkState, *, workers: bool = True) -> State:
    """What all devices have, or all switches; a switch without a pipeline has nothing."""
    lines: set[tuple[str, str]] = set()
    for name, switch in network.switches.items():
        with (
            SwitchClient(name, switch.grpc_address, switch.device_id, primary=False) as client,
            suppress(SwitchError),  # it runs no pipeline
        ):
            lines |= {(name, _text(entity)) for entity in client.read_entities(*_everything())}
    for worker in network.workers if workers else ():
        with WorkerClient(worker.name, worker.api) as client:
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
