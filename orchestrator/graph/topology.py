"""Topologies from files: read, checked as a whole; ids, ports and MACs filled in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
from pydantic import ValidationError

from orchestrator.errors import InputError, unknown
from orchestrator.graph import nics
from orchestrator.graph.tls import merged, problems_of
from orchestrator.graph.topology_file import (
    MAX_PORT,
    HostFile,
    ServerFile,
    SwitchFile,
    TopologyFile,
)
from orchestrator.model.topology import (
    Host,
    IpAddress,
    Link,
    Management,
    Server,
    SmartNic,
    Switch,
    Tls,
    Topology,
    without_nics,
)
from orchestrator.nfs.files import explain, located, parse_json, read_text
from orchestrator.resources import shipped_topologies
from orchestrator.targets.pipelines import size_problem
from servernf.wire.addresses import mac_text

FIRST_HOST_MAC = 0x0A_00_00_00_00_00


def load_topology(path_or_name: str | Path) -> Topology:
    """A topology file, or a shipped topology by name; InputError with all problems."""
    name, path = str(path_or_name), Path(path_or_name)
    if not path.suffix and not path.is_file():
        shipped = shipped_topologies()
        if name not in shipped:
            raise InputError(unknown("topology", name, list(shipped)))
        path = shipped[name]
    raw = parse_json(read_text(path, name), name)
    try:
        parsed = TopologyFile.model_validate(raw)
    except ValidationError as error:
        raise InputError([located(name, t) for t in explain(error, TopologyFile)]) from None
    return _Loader(name, parsed, path.parent).load()


def check_topology(topology: Topology) -> None:
    """ValueError for a topology that no file could have said (it comes from a stranger's bundle)."""
    nics_of, cables = nics.said_of(topology), without_nics(topology, *topology.servers).links
    raw = {
        "name": "any",
        "trees": topology.trees,
        "switches": {
            name: {
                "target": s.target,
                "pipeline": s.pipeline,
                "table_sizes": s.table_sizes,
                "packets_per_second": s.packets_per_second or None,
            }
            for name, s in topology.switches.items()
            if not s.server
        },
        "servers": {
            name: {
                "cores": s.cores,
                "reserved_cores": s.reserved_cores,
                "cycles_per_second": s.cycles_per_second or None,
                "memory": s.memory_bytes,
                "runtime": s.runtime,
                "nics": nics_of.get(name, []),
            }
            for name, s in topology.servers.items()
        },
        "smartnics": {
            name: {"server": nic.server, "rules": nic.rules}
            for name, nic in topology.smartnics.items()
        },
        "hosts": {
            name: {
                "addresses": [str(address) for address in host.addresses],
                "gateways": [str(gateway) for gateway in host.gateways],
                "mac": mac_text(host.mac),
            }
            for name, host in topology.hosts.items()
        },
        "links": [
            {
                "a": link.a,
                "b": link.b,
                "a_port": link.a_port or None,
                "b_port": link.b_port or None,
                "capacity": link.capacity,
                "latency": link.latency_us,
            }
            for link in cables
        ],
    }
    name = "topology.json"
    try:
        said = _Loader(name, TopologyFile.model_validate(raw), Path()).load()
    except ValidationError as error:
        raise ValueError(located(name, explain(error, TopologyFile)[0])) from None
    except (InputError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if replace(said, name=topology.name, source=topology.source) != topology:
        raise ValueError(f"{name}: ids, ports or names are not those of a topology")


class _Loader:
    def __init__(self, name: str, file: TopologyFile, folder: Path) -> None:
        self.name = name
        self.nics = nics.nics_of(file)
        self.said, self.file = file, nics.with_nics(file)
        self.folder = folder
        self.problems: list[str] = []

    def problem(self, path: str, text: str) -> None:
        for name, nic in self.nics.items():  # where the file says them
            if path == f"switches.{name}" or path.startswith(f"switches.{name}."):
                path = nic.where + path.removeprefix(f"switches.{name}")
        self.problems.append(f"{self.name}: {path}: {text}")

    def load(self) -> Topology:
        file = self.file
        for where, text in nics.problems_of(self.said):
            self.problem(where, text)
        self._names()
        links = self._links()
        self._attachments()
        self._table_sizes()
        hosts = self._hosts()
        self._management()
        for name, server in file.servers.items():
            if server.reserved_cores >= server.cores:
                text = f"all {server.cores} cores are reserved: none is left for workers"
                self.problem(f"servers.{name}.reserved_cores", text)
        tls = self._tls()
        if self.problems:
            raise InputError(self.problems)
        ids = {n: i for i, n in enumerate((*self.said.switches, *file.servers, *self.nics), 1)}
        return Topology(
            name=file.name,
            switches={
                n: Switch(
                    n,
                    ids[n],
                    s.target,
                    s.pipeline,
                    s.table_sizes,
                    tls[n],
                    _of_switch(s, ids[n]),
                    nic.server if nic else "",
                    (nic.said if nic else s).packets_per_second or 0,
                )
                for n, s in file.switches.items()
                for nic in [self.nics.get(n)]
            },
            servers={
                n: Server(
                    n,
                    ids[n],
                    s.cores,
                    s.reserved_cores,
                    round(s.cycles_per_second or 0),
                    s.memory,
                    tls[n],
                    s.runtime,
                    Management(s.address, interface=s.interface or "") if s.address else None,
                    s.interfaces,
                )
                for n, s in file.servers.items()
            },
            smartnics={n: SmartNic(n, s.server, s.rules) for n, s in file.smartnics.items()},
            hosts=hosts,
            links=links,
            trees=file.trees,
            source=self.name,
        )

    def _table_sizes(self) -> None:
        for name, switch in self.file.switches.items():
            for table, size in switch.table_sizes.items():
                text = size_problem(switch.pipeline, switch.target, table, size)
                if text:
                    self.problem(f"switches.{name}.table_sizes.{table}", text)

    def _tls(self) -> dict[str, Tls | None]:
        """The settings of every switch and server; a problem of the network's own is told once."""
        by_name: dict[str, Tls | None] = {}
        problems: dict[str, str] = {}
        for kind in ("switches", "servers"):
            for name, device in getattr(self.file, kind).items():
                by_name[name] = tls = merged(self.file.tls, device.tls, self.folder)
                where = "tls" if device.tls is None else f"{kind}.{name}.tls"
                problems |= {
                    f"{where}.{key}": text for key, text in (problems_of(tls) if tls else ())
                }
        for where, text in problems.items():
            self.problem(where, text)
        return by_name

    def _management(self) -> None:
        """What belongs to an address says nothing without one; a port has one name."""
        for name, switch in self.file.switches.items():
            for key in ("device_id", "role"):
                if key in switch.model_fields_set and switch.address is None:
                    self.problem(f"switches.{name}.{key}", "needs the switch's address, too")
            named: dict[int, str] = {}
            for port, number in switch.ports.items():
                if number in named:
                    text = f"port {number} is '{named[number]}' already"
                    self.problem(f"switches.{name}.ports.{port}", text)
                named.setdefault(number, port)
        for name, server in self.file.servers.items():
            if server.interface is not None and server.address is None:
                self.problem(f"servers.{name}.interface", "needs the agent's address, too")
            if server.interfaces:
                self._interfaces(name, server)

    def _interfaces(self, name: str, server: ServerFile) -> None:
        """One for each worker, each another one."""
        where, workers = f"servers.{name}.interfaces", server.cores - server.reserved_cores
        if server.interface is not None:
            text = "workers have these; leave 'interface' out, which macvlans would be on"
            self.problem(where, text)
        if len(server.interfaces) != workers:
            text = f"one for each of {workers} workers (cores - reserved_cores)"
            self.problem(where, f"has {len(server.interfaces)}; {text}")
        for index, interface in enumerate(server.interfaces):
            if (first := server.interfaces.index(interface)) != index:
                text = f"'{interface}' is that of interfaces[{first}] already"
                self.problem(f"{where}[{index}]", text)

    def _names(self) -> None:
        seen: dict[str, str] = {}
        for kind in ("switches", "servers", "smartnics", "hosts"):
            for name in getattr(self.file, kind):
                if name in seen:
                    self.problem(f"{kind}.{name}", f"the name is already in {seen[name]}")
                seen.setdefault(name, kind)
        for name, nic in self.file.smartnics.items():
            if nic.server not in self.file.servers:
                text = unknown("server", nic.server, list(self.file.servers))
                self.problem(f"smartnics.{name}.server", text)

    def _links(self) -> tuple[Link, ...]:
        """Links with ports filled in: in the order of links, the lowest that is not given to another."""
        file = self.file
        nodes = (*file.switches, *file.servers, *file.hosts)
        used: dict[tuple[str, int], int] = {}
        for index, link in enumerate(file.links):
            ends = (("a", link.a, link.a_port), ("b", link.b, link.b_port))
            for end, node, said in ends:
                self._link_end(f"links[{index}].{end}", node, said, nodes)
                port = self._number(node, said)
                if isinstance(said, str) and port is None and node in file.switches:
                    text = unknown(f"port of '{node}'", said, list(file.switches[node].ports))
                    self.problem(f"links[{index}].{end}_port", text)
                elif port is not None and (node, port) in used:
                    text = f"port {port} of '{node}' is already links[{used[node, port]}]'s"
                    self.problem(f"links[{index}].{end}_port", text)
                elif port is not None:
                    used[node, port] = index
            if link.a == link.b:
                self.problem(f"links[{index}]", f"'{link.a}' is linked to itself")
            elif link.a in nodes and link.b in nodes and not {link.a, link.b} & set(file.switches):
                self.problem(f"links[{index}]", "one end of a link must be a switch")
            if link.capacity == 0:
                self.problem(f"links[{index}].capacity", "must be above 0")

        def number(node: str, said: int | str | None, index: int) -> int:
            given = self._number(node, said)
            if given is not None or node not in file.switches:
                return given or 0
            port = next(
                p for p in range(1, len(file.links) + MAX_PORT + 2) if (node, p) not in used
            )
            used[node, port] = index
            if port > MAX_PORT:
                self.problem(f"links[{index}]", f"'{node}' has more than {MAX_PORT} links")
            return port

        links = (
            Link(
                a=link.a,
                a_port=number(link.a, link.a_port, index),
                b=link.b,
                b_port=number(link.b, link.b_port, index),
                capacity=link.capacity,
                latency_us=link.latency,
            )
            for index, link in enumerate(file.links)
        )
        return tuple(nics.to_cores(links, self.nics))

    def _number(self, node: str, said: int | str | None) -> int | None:
        """A port by its number or its name; None: not said, or unknown."""
        if isinstance(said, str):
            switch = self.file.switches.get(node)
            return switch.ports.get(said) if switch else None
        return said

    def _link_end(
        self, where: str, node: str, port: int | str | None, nodes: tuple[str, ...]
    ) -> None:
        if node not in nodes:
            self.problem(where, unknown("node", node, nodes))
        elif port is not None and node not in self.file.switches:
            self.problem(f"{where}_port", f"'{node}' is no switch: it has no port numbers")

    def _attachments(self) -> None:
        """A host has one link, a server at least one, and everything hangs together."""
        file = self.file
        joined: nx.Graph[str] = nx.Graph()
        joined.add_nodes_from((*file.switches, *file.servers, *file.hosts))
        links = dict.fromkeys(joined, 0)
        for link in file.links:
            for node in {link.a, link.b} & set(links):
                links[node] += 1
            if link.a in links and link.b in links:
                joined.add_edge(link.a, link.b)
        for host in file.hosts:
            if links[host] != 1:
                text = f"has {links[host]} links; a host has exactly one, to a switch"
                self.problem(f"hosts.{host}", text)
        for server in file.servers:
            if not links[server]:
                self.problem(f"servers.{server}", "has no link; a server has at least one")
        first = next(iter(file.switches))
        reachable = nx.node_connected_component(joined, first)
        for node in joined:
            if node not in reachable and (links[node] or node in file.switches):
                self.problem("links", f"'{node}' cannot be reached from '{first}'")

    def _hosts(self) -> dict[str, Host]:
        hosts: dict[str, Host] = {}
        addresses: dict[IpAddress, str] = {}
        macs: dict[int, str] = {}
        given = {host.mac for host in self.file.hosts.values()}
        free = (FIRST_HOST_MAC + n for n in range(1, 1 << 24))
        for name, host in self.file.hosts.items():
            where = f"hosts.{name}"
            for index, interface in enumerate(host.addresses):
                if interface.ip in addresses:
                    text = f"{interface.ip} is already an address of '{addresses[interface.ip]}'"
                    self.problem(f"{where}.addresses[{index}]", text)
                addresses.setdefault(interface.ip, name)
            self._gateways(where, host)
            mac = host.mac if host.mac is not None else next(m for m in free if m not in given)
            if mac in macs:
                self.problem(f"{where}.mac", f"{mac_text(mac)} is already that of '{macs[mac]}'")
            macs.setdefault(mac, name)
            hosts[name] = Host(name, mac, host.addresses, host.gateways)
        for name, host in self.file.hosts.items():
            for index, gateway in enumerate(host.gateways):
                if gateway in addresses:
                    text = f"{gateway} is the address of host '{addresses[gateway]}'"
                    self.problem(f"hosts.{name}.gateways[{index}]", text)
        return hosts

    def _gateways(self, where: str, host: HostFile) -> None:
        versions: set[int] = set()
        for index, gateway in enumerate(host.gateways):
            if gateway.version in versions:
                text = f"a second IPv{gateway.version} gateway; a host has one of each version"
                self.problem(f"{where}.gateways[{index}]", text)
            versions.add(gateway.version)
            subnets = [a.network for a in host.addresses if a.version == gateway.version]
            if not any(gateway in subnet for subnet in subnets):
                networks = ", ".join(map(str, subnets)) or f"no IPv{gateway.version} address"
                text = f"{gateway} is in none of the host's subnets ({networks})"
                self.problem(f"{where}.gateways[{index}]", text)


def _of_switch(switch: SwitchFile, number: int) -> Management | None:
    if switch.address is None:
        return None
    device_id = number if switch.device_id is None else switch.device_id
    return Management(switch.address, device_id, switch.role, dict(switch.ports))
