"""A network of any size as data centres have them: pods of leaves, two spines each, ten cores.

It has no servers: what is asked of it is what P4Runtime devices cost.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path

from orchestrator.model.topology import Host, Link, Switch, Topology
from orchestrator.network.inventory import Inventory, PipelineAddress
from orchestrator.targets.edge import EDGE
from servernf.wire.addresses import mac_text

CORES, LEAVES, SPINES = 10, 8, 2
_GBIT = 10**9

Wires = dict[tuple[int, int], tuple[int, int]]


def pods(count: int) -> Topology:
    """So many switches (10 and a multiple of 10), a host at each leaf."""
    numbers = range((count - CORES) // (LEAVES + SPINES))
    spines = [f"p{p}s{s}" for s in range(SPINES) for p in numbers]
    leaves = [f"p{p}l{n}" for p in numbers for n in range(LEAVES)]
    names = [*(f"c{c}" for c in range(CORES)), *spines, *leaves]
    ports = dict.fromkeys(names, 0)

    def link(a: str, b: str) -> Link:
        for node in ports.keys() & {a, b}:
            ports[node] += 1
        return Link(a, ports.get(a, 0), b, ports.get(b, 0), 40 * _GBIT, 1)

    links = [link(f"p{p}l{n}", f"p{p}s{s}") for p in numbers for n in range(LEAVES) for s in (0, 1)]
    links += [
        link(f"p{p}s{s}", f"c{c}") for p in numbers for c in range(CORES) for s in (c % SPINES,)
    ]
    hosts = {f"h{n}": _host(n) for n in range(1, len(leaves) + 1)}
    links += [link(leaf, host) for leaf, host in zip(leaves, hosts, strict=True)]
    switches = {n: Switch(n, i, "softswitch", EDGE, {}) for i, n in enumerate(names, 1)}
    name = f"pods-{count}"
    return Topology(name, switches, {}, {}, hosts, tuple(links), 2, name)


def topology_file(topology: Topology, addresses: Mapping[int, str], folder: Path) -> Path:
    """The file of a network whose devices answer at addresses by id, as `net attach` reads it."""
    switches = {
        name: {"target": switch.target, "address": addresses[switch.id], "device_id": switch.id}
        for name, switch in topology.switches.items()
    }
    hosts = {
        name: {
            "addresses": [str(address) for address in host.addresses],
            "gateways": [str(gateway) for gateway in host.gateways],
            "mac": mac_text(host.mac),
        }
        for name, host in topology.hosts.items()
    }
    links = [
        {"a": x.a, "b": x.b, "a_port": x.a_port, **({"b_port": x.b_port} if x.b_port else {})}
        for x in topology.links
    ]
    document = {"name": topology.name, "trees": topology.trees, "switches": switches}
    file = folder / "topology.json"
    file.write_text(json.dumps({**document, "hosts": hosts, "links": links}))
    return file


def wires(topology: Topology) -> Wires:
    """Where a frame arrives that leaves a device by a port: both as (device id, port)."""
    ends: Wires = {}
    for link in topology.links:
        if {link.a, link.b} <= topology.switches.keys():
            a = topology.switches[link.a].id, link.a_port
            b = topology.switches[link.b].id, link.b_port
            ends |= {a: b, b: a}
    return ends


def _host(number: int) -> Host:
    subnet = f"10.{number // 256}.{number % 256}"
    address = ipaddress.ip_interface(f"{subnet}.2/24")
    gateway = ipaddress.ip_address(f"{subnet}.1")
    return Host(f"h{number}", 0x0A_00_00_00_00_00 + number, (address,), (gateway,))


def filtering(topology: Topology, rules: int, folder: Path, *, last: int = 443) -> Path:
    """A graph that filters what all hosts but one send to that one; `last` is the last rule's port."""
    *inside, outside = topology.hosts
    listed = [
        {
            **{"src": "10.0.0.0/8", "dst": f"192.168.{n // 250}.{n % 250}/32", "action": "deny"},
            **{"protocol": "tcp", "dst_port": str(last if n == rules - 1 else 80)},
        }
        for n in range(rules)
    ]
    graph = {
        "name": "filtering",
        "endpoints": {"inside": {"hosts": inside}, "outside": {"hosts": [outside]}},
        "nfs": {"acl": {"type": "acl", "config": {"rules": listed, "default": "permit"}}},
        "edges": [
            {"from": "inside", "to": "acl.inside"},
            {"from": "acl.outside", "to": "outside"},
        ],
        "traffic": [{"name": "out", "from": "inside", "to": "outside", "rate": "1Mbit/s"}],
    }
    file = folder / "graph.json"
    file.write_text(json.dumps(graph))
    return file


def inventory_of(topology: Topology, addresses: Mapping[int, str], folder: Path) -> Inventory:
    """The inventory of a network whose devices answer at addresses by id."""
    at = {
        name: PipelineAddress(addresses[switch.id], switch.id)
        for name, switch in topology.switches.items()
    }
    return Inventory(topology.name, topology, at, (), str(folder))
