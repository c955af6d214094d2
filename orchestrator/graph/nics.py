"""SmartNICs of a topology file: devices with a pipeline that stand between a server and its switch.

A NIC has the port `port` towards the switch and one for each worker core (`core_ports`, else those that
follow), so it needs nothing but a core's MAC to find its worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.graph.topology_file import (
    LinkFile,
    NicFile,
    Port,
    SwitchFile,
    TopologyFile,
)
from orchestrator.model.topology import Link, Topology


@dataclass(frozen=True, slots=True)
class FoundNic:
    """A NIC and where the file says it."""

    server: str
    said: NicFile

    @property
    def where(self) -> str:
        return f"servers.{self.server}.nics[0]"


def nics_of(file: TopologyFile) -> dict[str, FoundNic]:
    """By name."""
    return {
        nic.name or f"{name}-nic": FoundNic(name, nic)
        for name, server in file.servers.items()
        for nic in server.nics
    }


def problems_of(file: TopologyFile) -> Iterator[tuple[str, str]]:
    """(where, what): names that are taken, ports that are too many, twice or too few."""
    names = {*file.switches, *file.servers, *file.smartnics, *file.hosts}
    for name, file_nic in nics_of(file).items():
        server, nic = file.servers[file_nic.server], file_nic.said
        if name in names:
            yield f"{file_nic.where}.name", f"'{name}' is another node's; give it a name of its own"
        names.add(name)
        if server.interface is not None:
            yield f"{file_nic.where}", "workers have a port each: say 'interfaces', not 'interface'"
        if server.address is not None and not server.interfaces:
            text = "needed: behind a NIC each worker has one, at the end of the NIC's port for it"
            yield f"servers.{file_nic.server}.interfaces", text
        workers = max(0, server.cores - server.reserved_cores)
        if nic.core_ports and len(nic.core_ports) != workers:
            text = f"has {len(nic.core_ports)}; one for each of {workers} workers"
            yield f"{file_nic.where}.core_ports", text
        elif len({*_core_ports(nic, workers), nic.port}) <= workers:
            yield (
                f"{file_nic.where}.core_ports",
                f"a port is there twice, or is {nic.port}, the switch's",
            )


def with_nics(file: TopologyFile) -> TopologyFile:
    """The file with its NICs as switches, behind all others, and with links to and from them.

    A server's first link ends at its NIC; links of its cores follow all that the file says.
    """
    nics = nics_of(file)
    if not nics:
        return file
    links = list(file.links)
    more: list[LinkFile] = []
    for name, file_nic in nics.items():
        server, nic = file.servers[file_nic.server], file_nic.said
        first = next((i for i, x in enumerate(links) if file_nic.server in (x.a, x.b)), None)
        if first is None:
            continue  # told as a server without a link
        cable = links[first]
        end = "a" if cable.a == file_nic.server else "b"
        links[first] = cable.model_copy(update={end: name, f"{end}_port": nic.port})
        more += (
            LinkFile(
                a=name, a_port=port, b=file_nic.server, capacity=cable.capacity, latency=nic.latency
            )
            for port in _core_ports(nic, max(0, server.cores - server.reserved_cores))
        )
    switches = {name: _as_switch(file_nic.said) for name, file_nic in nics.items()}
    return file.model_copy(
        update={"switches": {**file.switches, **switches}, "links": (*links, *more)}
    )


def to_cores(links: Iterable[Link], nics: Mapping[str, FoundNic]) -> Iterator[Link]:
    """Links of `with_nics`, those from NICs to their servers with the cores that they are for."""
    cores = Counter[str]()
    for link in links:
        if link.a in nics and link.b == nics[link.a].server:
            yield replace(link, b_port=cores[link.a])
            cores[link.a] += 1
        else:
            yield link


def said_of(topology: Topology) -> Mapping[str, list[dict[str, Any]]]:
    """Each server's `nics`, as a file would say them."""
    said: dict[str, list[dict[str, Any]]] = {}
    for name, nic in topology.switches.items():
        if not nic.server:
            continue
        cores = [link for link in topology.links if (link.a, link.b) == (name, nic.server)]
        cable = (link for link in topology.links if name in (link.a, link.b) and link not in cores)
        said.setdefault(nic.server, []).append(
            {
                "name": name,
                "target": nic.target,
                "pipeline": nic.pipeline,
                "table_sizes": nic.table_sizes,
                "packets_per_second": nic.packets_per_second or None,
                "port": next((x.a_port if x.a == name else x.b_port for x in cable), 1),
                "core_ports": [link.a_port for link in cores],
                "latency": next((link.latency_us for link in cores), 0),
            }
        )
    return said


def _core_ports(nic: NicFile, workers: int) -> tuple[Port, ...]:
    """One for each worker; if not said, those that follow the port towards the switch."""
    first = nic.port + 1 if isinstance(nic.port, int) else 2
    return nic.core_ports or tuple(range(first, first + workers))


def _as_switch(nic: NicFile) -> SwitchFile:
    return SwitchFile.model_construct(
        target=nic.target,
        pipeline=nic.pipeline,
        table_sizes=nic.table_sizes,
        tls=nic.tls,
        address=nic.address,
        device_id=nic.device_id,
        role=nic.role,
        ports=nic.ports,
        _fields_set=nic.model_fields_set,
    )
