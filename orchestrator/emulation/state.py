"""What is known of a started network: one JSON file each, readable by its owner only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import NetworkError, unknown
from orchestrator.files import replace_private
from orchestrator.model.plan import Core
from orchestrator.model.topology import IpAddress, IpInterface, Topology
from orchestrator.network.folders import list_networks, state_file
from orchestrator.network.inventory import (
    Inventory,
    PipelineAddress,
    WorkerAddress,
    save_inventory,
)
from orchestrator.network.names import check_network_name
from servernf.host.processes import Process


@dataclass(frozen=True, slots=True)
class SwitchState:
    """A running switch process and how it is reached."""

    name: str
    target: str
    device_id: int
    grpc_address: str
    """`unix:PATH`, or with TLS (or where TCP was asked for) `127.0.0.1:PORT`."""
    pid: int
    cpu_port: int
    interfaces: dict[int, str]
    """Interface (in the root namespace) by port number."""
    log: str


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker process: one core of a server."""

    name: str
    server: str
    core: int
    """From 0; the MAC and the interface's name count from 1."""
    mac: int
    api: str
    """gRPC target, `unix:/...`."""
    pid: int
    interface: str
    log: str


@dataclass(frozen=True, slots=True)
class AgentState:
    """A server's agent, which started its workers."""

    name: str
    api: str
    """gRPC target, `unix:/...`."""
    pid: int
    log: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server's namespace, kept by process `pid`, its workers, and their agent if there are any."""

    name: str
    pid: int
    interface: str
    workers: tuple[WorkerState, ...]
    agent: AgentState | None = None


@dataclass(frozen=True, slots=True)
class HostState:
    """An end host's namespace, kept by process `pid`."""

    name: str
    pid: int
    interface: str
    mac: int
    addresses: tuple[IpInterface, ...]
    gateways: tuple[IpAddress, ...]


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A network: `starting` until every switch and worker answered, then `running`."""

    name: str
    id: str
    """Four hex digits; part of every interface's name."""
    phase: Literal["starting", "running"]
    topology: Topology
    """The whole topology with ids and ports filled in (its file may be gone or changed)."""
    created: float
    """Seconds since 1970."""
    run_dir: str
    namespace: int
    """The network namespace (inode) that the network was started in."""
    supervisor: int = 0
    switches: dict[str, SwitchState] = field(default_factory=dict[str, SwitchState])
    servers: dict[str, ServerState] = field(default_factory=dict[str, ServerState])
    hosts: dict[str, HostState] = field(default_factory=dict[str, HostState])
    processes: tuple[Process, ...] = ()
    """All that the supervisor started, and itself: what may be killed with the network."""

    def process(self, pid: int) -> Process:
        """The process of the network that was started with a pid, nobody's if there is none."""
        process = (p for p in reversed(self.processes) if p.pid == pid)
        return next(process, Process(pid, ""))

    @property
    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of all servers."""
        return tuple(w for server in self.servers.values() for w in server.workers)

    @property
    def agents(self) -> tuple[AgentState, ...]:
        """The agents of all servers that have workers."""
        return tuple(s.agent for s in self.servers.values() if s.agent is not None)

    @property
    def log(self) -> Path:
        """The supervisor's log."""
        return Path(self.run_dir) / "supervisor.log"


@dataclass(frozen=True, slots=True)
class Handle:
    """As much of a network as is needed to remove it, whatever version wrote its file."""

    name: str
    id: str
    run_dir: str
    supervisor: int
    namespace: int
    processes: tuple[Process, ...] = ()

    def is_up(self) -> bool:
        """Whether its supervisor runs."""
        return any(p.pid == self.supervisor and p.is_alive for p in self.processes)


_CODEC = TypeAdapter(NetworkState)


def inventory_of(state: NetworkState) -> Inventory:
    """The inventory of a started network: with the targets that were chosen for its switches."""
    nodes = state.topology.switches
    running = {
        name: replace(nodes[name], target=switch.target) for name, switch in state.switches.items()
    }
    return Inventory(
        state.name,
        replace(state.topology, switches=nodes | running),
        {
            name: PipelineAddress(switch.grpc_address, switch.device_id)
            for name, switch in state.switches.items()
        },
        tuple(
            WorkerAddress(worker.name, Core(worker.server, worker.core), worker.api)
            for worker in state.workers
        ),
        state.run_dir,
    )


def save_state(state: NetworkState) -> None:
    """Replace the file at once, so that readers see the old state or the new one.

    Of a network that runs the inventory is written with it: a device that was started anew may be
    reached elsewhere.
    """
    replace_private(state_file(state.name), _CODEC.dump_json(state, indent=1))
    if state.phase == "running":
        save_inventory(inventory_of(state))


def load_state(name: str) -> NetworkState:
    """The state of a network; NetworkError with the known names when there is none."""
    path = _existing(name)
    try:
        return _CODEC.validate_json(path.read_bytes())
    except (ValidationError, ValueError) as e:
        raise NetworkError(
            f"{path} cannot be read (written by another version?); "
            f"`orchestrator net down {name}` still removes the network"
        ) from e


def load_handle(name: str) -> Handle:
    """What `net_down` needs, also of a file that `load_state` refuses."""
    path = _existing(name)
    try:
        raw = cast("dict[str, object]", json.loads(path.read_bytes()))
        processes = cast("list[dict[str, str]]", raw.get("processes", []))
        return Handle(
            name,
            str(raw["id"]),
            str(raw["run_dir"]),
            int(str(raw["supervisor"])),
            int(str(raw["namespace"])),
            tuple(Process(int(p["pid"]), str(p["started"])) for p in processes),
        )
    except (ValueError, KeyError, TypeError) as e:
        raise NetworkError(f"{path} is damaged; remove it, then `net down` the others") from e


def _existing(name: str) -> Path:
    path = state_file(check_network_name(name))
    if not path.exists():
        raise NetworkError(f"{unknown('network', name, list_networks())}; `orchestrator net up`")
    return path
