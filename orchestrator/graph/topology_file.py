"""What a topology file holds, as pydantic models, and the JSON Schema of it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from orchestrator.errors import quoted, unknown
from orchestrator.graph.schema import FileModel
from orchestrator.graph.tls import TlsSetting
from orchestrator.model.addresses import ADDRESS_FORMS, is_address
from orchestrator.model.topology import IpAddress, IpInterface
from orchestrator.runtimes import DEFAULT, runtime
from orchestrator.targets import AUTO, automatic, choices
from orchestrator.targets.edge import EDGE
from orchestrator.units import Bytes, Microseconds, Name, Rate
from servernf.wire.addresses import GATEWAY_MAC, mac_text, parse_interface, parse_ip, parse_mac

MAX_PORT = 500
"""P4 ports have nine bits, of which targets reserve the highest."""


def _interface(text: object) -> IpInterface:
    if isinstance(text, str) and "/" in text:
        with suppress(ValueError):  # told below, as what is no text
            return parse_interface(text)
    raise ValueError(
        f"{quoted(text)} is not an address with its prefix length, like '10.0.1.11/24'"
    )


def _address(text: object) -> IpAddress:
    try:
        return parse_ip(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an IP address") from None


def _mac(text: object) -> int:
    try:
        mac = parse_mac(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a MAC address like '0a:00:00:00:00:01'") from None
    if mac >> 40 & 1 or mac == 0:
        raise ValueError(f"{quoted(text)} is no host's address")
    if mac >> 40 == 0x02 or mac == GATEWAY_MAC:
        raise ValueError(
            f"{quoted(text)} belongs to the network itself (02:..., {mac_text(GATEWAY_MAC)})"
        )
    return mac


def _management_address(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"{quoted(text)} is none of {ADDRESS_FORMS}")
    return text


_TEXT = WithJsonSchema({"type": "string"})
ManagementAddress = Annotated[str, AfterValidator(_management_address)]
InterfaceName = Annotated[str, Field(pattern=r"^[^\s/]{1,15}$")]
"""IFNAMSIZ without the terminating zero."""
PORT_NAME = re.compile(r"\S{1,64}")
PortName = Annotated[str, Field(pattern=rf"^{PORT_NAME.pattern}$")]
PortNumber = Annotated[int, Field(ge=1, le=MAX_PORT, strict=True)]


def _port(value: object) -> int | str:
    if isinstance(value, str) and PORT_NAME.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PORT:
        return value
    raise ValueError(f"{quoted(value)} is no port number (1 to {MAX_PORT}), nor a port's name")


Port = Annotated[
    int | str,
    PlainValidator(_port, json_schema_input_type=PortNumber | PortName),
]
"""A port of a switch: its number, or a name that the switch has for it."""
Count = Annotated[int, Field(ge=0, strict=True)]


_TARGETS = (
    f"One of {', '.join(choices())}; {AUTO} is the first of "
    f"{', '.join(target.name for target in automatic())} that is installed."
)


def _target(name: str) -> str:
    if name not in choices():
        raise ValueError(unknown("value", name, choices()))
    return name


class SwitchFile(FileModel):
    """A programmable switch.

    `address` and what follows say how `net attach` reaches one that runs already: where its P4Runtime
    server listens, its device id there (the switch's place in the topology, if left out), the P4Runtime
    role that the controller takes, and its ports' numbers by the names that links may then use.
    `packets_per_second` is what it can carry, each pass counted; else what was measured of its target.
    """

    target: Annotated[str, AfterValidator(_target), Field(description=_TARGETS)] = AUTO
    pipeline: str = EDGE
    table_sizes: dict[str, Count] = Field(default_factory=dict[str, int])
    packets_per_second: Annotated[int, Field(gt=0, strict=True)] | None = None
    tls: TlsSetting | None = None
    address: ManagementAddress | None = None
    device_id: Annotated[int, Field(ge=0, lt=1 << 64, strict=True)] | None = None
    role: Annotated[str, Field(max_length=64)] = ""
    ports: dict[PortName, PortNumber] = Field(default_factory=dict[str, int])


def _runtime(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError("must be the name of a runtime")
    return runtime(name).name


class NicFile(FileModel):
    """A SmartNIC with a pipeline, between a server and the switch of the server's first link.

    It is a device of its own, called `name`, else after its server (`server1-nic`), with a port towards
    the switch and one for each worker core; `latency` is theirs. `packets_per_second` is what it can
    carry, one way in counted as one. `address` and what follows: as a switch's, to attach one that runs.
    """

    name: Name | None = None
    target: Annotated[str, AfterValidator(_target), Field(description=_TARGETS)] = AUTO
    pipeline: str = EDGE
    table_sizes: dict[str, Count] = Field(default_factory=dict[str, int])
    packets_per_second: Annotated[int, Field(gt=0, strict=True)] | None = None
    latency: Microseconds = 1
    port: Port = 1
    core_ports: tuple[Port, ...] = ()
    tls: TlsSetting | None = None
    address: ManagementAddress | None = None
    device_id: Annotated[int, Field(ge=0, lt=1 << 64, strict=True)] | None = None
    role: Annotated[str, Field(max_length=64)] = ""
    ports: dict[PortName, PortNumber] = Field(default_factory=dict[str, int])


class ServerFile(FileModel):
    """`reserved_cores` of `cores` run no worker; the others, one of `runtime` each. `cycles_per_second`
    is a core's, if that is not as fast as the one on which the runtime was measured.

    `address` is where the server's agent listens, `interface` its NIC towards the switches (which need
    not be said where it has one only): `net attach` asks for them. `interfaces` are given to workers
    instead of macvlans on that NIC: one a worker, such as VFs. `nics`: a SmartNIC, at most one.
    """

    cores: Annotated[int, Field(ge=1, le=1024, strict=True)] = 4
    reserved_cores: Count = 1
    cycles_per_second: Annotated[float, Field(gt=0, le=1e12)] | None = None
    memory: Bytes = 16 << 30
    runtime: Annotated[str, PlainValidator(_runtime), _TEXT] = DEFAULT
    tls: TlsSetting | None = None
    address: ManagementAddress | None = None
    interface: InterfaceName | None = None
    interfaces: tuple[InterfaceName, ...] = ()
    nics: Annotated[tuple[NicFile, ...], Field(max_length=1)] = ()


class SmartNicFile(FileModel):
    """A SmartNIC of a server."""

    server: Name
    rules: Count = 0


class HostFile(FileModel):
    """An end host with one link."""

    addresses: Annotated[
        tuple[Annotated[IpInterface, PlainValidator(_interface), _TEXT], ...], Field(min_length=1)
    ]
    gateways: tuple[Annotated[IpAddress, PlainValidator(_address), _TEXT], ...] = ()
    mac: Annotated[int, PlainValidator(_mac), _TEXT] | None = None


class LinkFile(FileModel):
    """A full-duplex link; ports only of switches, by number or by a name that the switch says."""

    a: str
    b: str
    a_port: Port | None = None
    b_port: Port | None = None
    capacity: Rate = 10 * 10**9
    latency: Microseconds = 5


class TopologyFile(FileModel):
    """The physical network; `tls` holds for every switch and server that says nothing else."""

    name: Name
    tls: TlsSetting | None = None
    trees: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    switches: Annotated[dict[Name, SwitchFile], Field(min_length=1)]
    servers: dict[Name, ServerFile] = Field(default_factory=dict[str, ServerFile])
    smartnics: dict[Name, SmartNicFile] = Field(default_factory=dict[str, SmartNicFile])
    hosts: dict[Name, HostFile]
    links: tuple[LinkFile, ...]


def topology_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a topology file."""
    schema = TopologyFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
