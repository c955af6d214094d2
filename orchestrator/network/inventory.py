"""The inventory of a network: which devices it has and how each is reached.

`net up` writes it for a network that it started, `net attach` for one that it has checked. All that
deploys to a network or looks at it knows its devices from here only: not who started them, nor where
their processes run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InputError, NetworkError, quoted, unknown
from orchestrator.files import read_regular, replace_private
from orchestrator.graph import check_topology
from orchestrator.model.addresses import ADDRESS_FORMS, is_address
from orchestrator.model.devices import Device, devices_of, pipelined
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology, public
from orchestrator.network.folders import inventories_dir, list_inventories
from orchestrator.network.names import check_network_name
from orchestrator.targets import AUTO

FORMAT = 1
_LARGEST = 64 << 20
"""Bytes of an inventory's file: a thousand switches take about one MB."""


@dataclass(frozen=True, slots=True)
class PipelineAddress:
    """How a device with a pipeline is reached: a gRPC target, and its P4Runtime device id."""

    address: str
    """`unix:/PATH`, `HOST:PORT` or `[IPv6]:PORT`."""
    device_id: int
    role: str = ""
    """The P4Runtime role that its controller takes; "": the default one."""


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """How the worker on a core is reached: the gRPC target of its management API."""

    name: str
    core: Core
    address: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A network's devices.

    `topology` says what each is as it runs: its target or runtime, pipeline, id, ports, and TLS.
    `pipelines` has the address of every device with a pipeline, `workers` those of all workers, `agents`
    those of the servers' agents, where there are any (the gRPC target by the server's name).
    `folder` is where the network's commands on this machine keep what they share. `hosts` is the socket
    by which the hosts of a network in memory send (orchestrator/simulation/hosts.py), "" elsewhere.
    """

    name: str
    topology: Topology
    pipelines: Mapping[str, PipelineAddress]
    workers: tuple[WorkerAddress, ...]
    folder: str
    agents: Mapping[str, str] = field(default_factory=dict[str, str])
    hosts: str = ""

    @property
    def devices(self) -> Mapping[str, Device]:
        """All devices by name."""
        return devices_of(self.topology)

    @property
    def cores(self) -> Mapping[Core, WorkerAddress]:
        """The workers by core."""
        return {worker.core: worker for worker in self.workers}


class _Document(BaseModel):
    """An inventory's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    name: str
    topology: Topology
    pipelines: dict[str, PipelineAddress]
    workers: tuple[WorkerAddress, ...]
    folder: Annotated[str, Field(pattern="^/")]
    agents: dict[str, str] = Field(default_factory=dict[str, str])
    hosts: Annotated[str, Field(pattern="^(/.*)?$")] = ""


def save_inventory(inventory: Inventory) -> None:
    """Replace a network's inventory at once, so that readers see the old one or the new one."""
    document = _Document(
        format=FORMAT,
        name=inventory.name,
        topology=inventory.topology,
        pipelines=dict(inventory.pipelines),
        workers=inventory.workers,
        folder=inventory.folder,
        agents=dict(inventory.agents),
        hosts=inventory.hosts,
    )
    replace_private(_path(inventory.name), document.model_dump_json(indent=1).encode())


def changed_at(name: str) -> int:
    """When a network's inventory was written last (ns since 1970); NetworkError when there is none."""
    try:
        return _path(name).stat().st_mtime_ns
    except FileNotFoundError:
        raise NetworkError(f"{name}: the network is gone (its inventory was removed)") from None


def forget_inventory(name: str) -> None:
    """Remove a network's inventory; nothing when there is none."""
    _path(name).unlink(missing_ok=True)


def load_inventory(name: str) -> Inventory:
    """The inventory of a network; NetworkError with the known names when there is none."""
    path = _path(name)
    if not path.exists():
        raise NetworkError(
            f"{unknown('network', name, list_inventories())}; `orchestrator net up` or `net attach`"
        )
    return read_inventory(path)


def read_inventory(path: Path) -> Inventory:
    """The inventory in a file; InputError says what is wrong with it, and where."""
    try:
        document = _Document.model_validate_json(read_regular(path, str(path), _LARGEST))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {first['msg']} (format {FORMAT} is read)") from error
    inventory = Inventory(
        document.name,
        document.topology,
        document.pipelines,
        document.workers,
        document.folder,
        document.agents,
        document.hosts,
    )
    problems = list(_problems(inventory))
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    return inventory


def _path(name: str) -> Path:
    return inventories_dir() / f"{check_network_name(name)}.json"


def _problems(inventory: Inventory) -> Iterator[str]:
    """What a file can get wrong though each value is of its type."""
    try:
        check_topology(public(inventory.topology))
    except ValueError as error:
        yield f"topology: {error}"
    for switch in inventory.topology.switches.values():
        if switch.target == AUTO:
            yield f"topology: {switch.name}: '{AUTO}' does not say which target runs"
    with_pipeline = pipelined(inventory.topology)
    for name in inventory.pipelines:
        if name not in with_pipeline:
            yield f"pipelines: {unknown('device with a pipeline', name, tuple(with_pipeline))}"
    for name in with_pipeline:
        if name not in inventory.pipelines:
            yield f"pipelines: no address of {name}"
    servers = inventory.topology.servers
    for name in inventory.agents:
        if name not in servers:
            yield f"agents: {unknown('server', name, tuple(servers))}"
    for number, worker in enumerate(inventory.workers):
        server = servers.get(worker.core.server)
        if server is None:
            yield f"workers.{number}: {unknown('server', worker.core.server, tuple(servers))}"
        elif not 0 <= worker.core.index < server.cores:
            yield f"workers.{number}: {server.name} has cores 0..{server.cores - 1}"
    if len({worker.core for worker in inventory.workers}) != len(inventory.workers):
        yield "workers: two of them have one core"
    addresses = {name: pipeline.address for name, pipeline in inventory.pipelines.items()}
    addresses |= {worker.name: worker.address for worker in inventory.workers}
    addresses |= {f"agent of {server}": address for server, address in inventory.agents.items()}
    for name, address in addresses.items():
        if not is_address(address):
            yield f"{name}: address {quoted(address)} is none of {ADDRESS_FORMS}"
