"""The physical network: switches, servers, SmartNICs, hosts and the links between them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards a device: PEM files by absolute path, empty where the topology names none.

    `ca` signed both sides' certificates; `certificate` and `key` are what the controller shows to a
    device that asks (`mutual`), `device_certificate` and `device_key` what `net up` gives to the
    device. `device_name` is what the device's certificate is for where that is not its address.
    `writers` are the common names of the certificates that may change the device (`mutual`); empty:
    only the one of `certificate`, or of the certificate of whoever starts the network. `listeners`
    are those of certificates that may hear what switches report, and change nothing.
    """

    required: bool = True
    mutual: bool = True
    ca: str = ""
    certificate: str = ""
    key: str = ""
    device_certificate: str = ""
    device_key: str = ""
    device_name: str = ""
    writers: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Management:
    """How a device that runs already is reached, and what it calls its own: no bundle carries it.

    `address` (orchestrator/model/addresses.py) is of a switch's P4Runtime server or of a server's agent.
    Of a switch: its P4Runtime device id (64 bits), the role that its controller takes ("": the default
    one), and its ports' numbers by name. Of a server: its NIC towards the switches ("": its only one).
    """

    address: str
    device_id: int = 0
    role: str = ""
    ports: dict[str, int] = field(default_factory=dict[str, int])
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """A device with a pipeline: a switch or, with `server`, the SmartNIC that this server is behind.

    `id` is 1..65535 and unique among devices; `table_sizes` overrides the pipeline's sizes by table name
    (entries). `packets_per_second` is what it can carry (0: what was measured of its target).
    """

    name: str
    id: int
    target: str
    pipeline: str
    table_sizes: dict[str, int]
    tls: Tls | None = None
    management: Management | None = None
    server: str = ""
    packets_per_second: int = 0


@dataclass(frozen=True, slots=True)
class Server:
    """A server: worker cores, cycles/s of each (0: as where its runtime was measured), memory.

    `reserved_cores` run no worker; on the others, workers of `runtime` execute NFs
    (orchestrator/runtimes). `interfaces` are theirs alone, one a worker (VFs); without any, each gets a
    macvlan. No bundle carries them.
    """

    name: str
    id: int
    cores: int
    reserved_cores: int
    cycles_per_second: int
    memory_bytes: int
    tls: Tls | None = None
    runtime: str = "python"
    management: Management | None = None
    interfaces: tuple[str, ...] = ()

    @property
    def worker_cores(self) -> range:
        """The cores, from 0, that a worker runs on."""
        return range(self.cores - self.reserved_cores)


@dataclass(frozen=True, slots=True)
class SmartNic:
    """A SmartNIC as chains have it: rules that it holds. One that executes a pipeline is a `Switch`."""

    name: str
    server: str
    rules: int


@dataclass(frozen=True, slots=True)
class Host:
    """An end host: its MAC, its addresses with prefix lengths, and its gateways' addresses."""

    name: str
    mac: int
    addresses: tuple[IpInterface, ...]
    gateways: tuple[IpAddress, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A full-duplex link between two nodes.

    A port number is that of a device with a pipeline, or the core (from 0) of a server behind a
    SmartNIC, which has a port for each; else 0.
    """

    a: str
    a_port: int
    b: str
    b_port: int
    capacity: int
    """bit/s per direction."""
    latency_us: int


@dataclass(frozen=True, slots=True)
class Topology:
    """A checked topology; device ids and port numbers are filled in."""

    name: str
    switches: dict[str, Switch]
    servers: dict[str, Server]
    smartnics: dict[str, SmartNic]
    hosts: dict[str, Host]
    links: tuple[Link, ...]
    trees: int
    """Number of forwarding trees towards each device (paths to choose from)."""
    source: str = ""


def to_core(topology: Topology, link: Link) -> bool:
    """Whether a link is that of a SmartNIC's port to a core of its server (`b`)."""
    nic = topology.switches.get(link.a)
    return nic is not None and nic.server == link.b


def within(topology: Topology, link: Link) -> tuple[Link, ...]:
    """The links that fail together with one: a SmartNIC's to all cores of its server, else only it."""
    if not to_core(topology, link):
        return (link,)
    return tuple(x for x in topology.links if (x.a, x.b) == (link.a, link.b))


def without_nics(topology: Topology, *servers: str) -> Topology:
    """These servers are where their SmartNICs were."""
    nics = {n: s.server for n, s in topology.switches.items() if s.server in servers}

    def ends(link: Link) -> Link:
        if link.a in nics:
            return replace(link, a=nics[link.a], a_port=0)
        return replace(link, b=nics[link.b], b_port=0) if link.b in nics else link

    cables = (link for link in topology.links if nics.get(link.a) != link.b)
    switches = {n: s for n, s in topology.switches.items() if n not in nics}
    return replace(topology, switches=switches, links=tuple(map(ends, cables)))


def public(topology: Topology) -> Topology:
    """Without what is only this network's: where files are, and how devices are reached."""
    switches = {n: replace(s, tls=None, management=None) for n, s in topology.switches.items()}
    servers = {
        n: replace(s, tls=None, management=None, interfaces=()) for n, s in topology.servers.items()
    }
    return replace(topology, switches=switches, servers=servers, source="")
