"""Topologies: the shipped ones, what is filled in, and every bad input's exact text."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.graph import graph_json_schema, load_graph, load_topology, topology_json_schema
from orchestrator.model.topology import Management, public
from orchestrator.resources import shipped

GOOD: dict[str, Any] = {
    "name": "small",
    "switches": {"s1": {}, "s2": {"target": "bmv2"}},
    "servers": {"v1": {"memory": "2GiB"}},
    "hosts": {
        "h1": {"addresses": ["10.0.1.11/24"], "gateways": ["10.0.1.1"]},
        "h2": {"addresses": ["10.0.2.11/24"], "mac": "0a:00:00:00:00:01"},
    },
    "links": [
        {"a": "s1", "b": "h1", "a_port": 7},
        {"a": "h2", "b": "s1", "capacity": "1Gbit/s", "latency": "1ms"},
        {"a": "s1", "b": "s2", "b_port": 1},
        {"a": "s2", "b": "v1"},
    ],
}


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: dict[str, Any]) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(json.dumps(raw))
    return load_topology("net.json")


def test_what_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = load(tmp_path, monkeypatch, GOOD)
    assert [(s.name, s.id) for s in topology.switches.values()] == [("s1", 1), ("s2", 2)]
    assert topology.servers["v1"].id == 3
    assert topology.servers["v1"].memory_bytes == 2 << 30
    # h2's own MAC is the one that h1 would have got
    assert topology.hosts["h1"].mac == 0x0A_00_00_00_00_02
    ports = [(link.a_port, link.b_port) for link in topology.links]
    assert ports == [(7, 0), (0, 1), (2, 1), (2, 0)]
    assert (topology.links[1].capacity, topology.links[1].latency_us) == (10**9, 1000)


MANAGED: dict[str, Any] = {
    **GOOD,
    "switches": {
        "s1": {"address": "[2001:db8::1]:9559", "device_id": 0, "ports": {"Ethernet1/4": 4}},
        "s2": {"address": "unix:/run/s2.sock", "role": "fabric"},
    },
    "servers": {"v1": {"address": "v1.example:50050", "interface": "ens1"}},
}


def test_devices_that_run_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = copy.deepcopy(MANAGED)
    raw["links"][2]["a_port"] = "Ethernet1/4"
    topology = load(tmp_path, monkeypatch, raw)
    assert topology.switches["s1"].management == Management(
        "[2001:db8::1]:9559", 0, ports={"Ethernet1/4": 4}
    )
    # its place in the topology, where the file says no id
    assert topology.switches["s2"].management == Management("unix:/run/s2.sock", 2, "fabric")
    assert topology.servers["v1"].management == Management("v1.example:50050", interface="ens1")
    assert topology.links[2].a_port == 4


def test_interfaces_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {**GOOD, "servers": {"v1": {"cores": 3, "interfaces": ["vf0", "vf1"]}}}
    topology = load(tmp_path, monkeypatch, raw)
    assert topology.servers["v1"].interfaces == ("vf0", "vf1")
    assert public(topology).servers["v1"].interfaces == ()


def test_a_bundle_does_not_say_where_devices_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = public(load(tmp_path, monkeypatch, MANAGED))
    assert "example" not in repr(managed)
    assert [s.management for s in (*managed.switches.values(), *managed.servers.values())] == [
        None,
        None,
        None,
    ]


CASES: list[tuple[tuple[str, Any], list[str]]] = [
    (
        ("links.0.b", "h11"),
        [
            "links[0].b: unknown node 'h11'; did you mean 'h1'? (known: h1, h2, s1, s2, v1)",
            "hosts.h1: has 0 links; a host has exactly one, to a switch",
        ],
    ),
    (("links.0.capacity", -1), ["links[0].capacity: -1 is negative"]),
    (("links.0.capacity", 0), ["links[0].capacity: must be above 0"]),
    (
        ("links.1.b", "h1"),
        [
            "links[1]: one end of a link must be a switch",
            "hosts.h1: has 2 links; a host has exactly one, to a switch",
        ],
    ),
    (
        ("links.0.b", "s1"),
        [
            "links[0]: 's1' is linked to itself",
            "hosts.h1: has 0 links; a host has exactly one, to a switch",
        ],
    ),
    (("links.2.a_port", 7), ["links[2].a_port: port 7 of 's1' is already links[0]'s"]),
    (("links.0.b_port", 1), ["links[0].b_port: 'h1' is no switch: it has no port numbers"]),
    (
        ("links.0.a_port", 501),
        ["links[0].a_port: 501 is no port number (1 to 500), nor a port's name"],
    ),
    (
        ("links.0.a_port", "eth9"),
        ["links[0].a_port: unknown port of 's1' 'eth9' (known: none)"],
    ),
    (
        ("switches.s1", {"ports": {"one": 7, "seven": 7}}),
        ["switches.s1.ports.seven: port 7 is 'one' already"],
    ),
    (
        ("switches.s1", {"address": "s1:99999"}),
        ["switches.s1.address: 's1:99999' is none of HOST:PORT, [IPv6]:PORT, unix:/PATH"],
    ),
    (
        ("switches.s1", {"device_id": 7, "role": "fabric"}),
        [
            "switches.s1.device_id: needs the switch's address, too",
            "switches.s1.role: needs the switch's address, too",
        ],
    ),
    (
        ("servers.v1.interface", "eth1"),
        ["servers.v1.interface: needs the agent's address, too"],
    ),
    (
        ("servers.v1.interfaces", ["vf0", "vf1"]),
        ["servers.v1.interfaces: has 2; one for each of 3 workers (cores - reserved_cores)"],
    ),
    (
        ("servers.v1", {"cores": 3, "address": "v1:1", "interface": "e", "interfaces": ["f", "f"]}),
        [
            "servers.v1.interfaces: workers have these; leave 'interface' out, which macvlans would "
            "be on",
            "servers.v1.interfaces[1]: 'f' is that of interfaces[0] already",
        ],
    ),
    (("links.3", {"a": "s2", "b": "s1"}), ["servers.v1: has no link; a server has at least one"]),
    (
        ("links.2", {"a": "s2", "b": "v1"}),
        [
            "links: 's2' cannot be reached from 's1'",
            "links: 'v1' cannot be reached from 's1'",
        ],
    ),
    (
        ("hosts.h2.addresses", ["10.0.1.11/24"]),
        ["hosts.h2.addresses[0]: 10.0.1.11 is already an address of 'h1'"],
    ),
    (
        ("hosts.h2.addresses", ["10.0.1.1/24"]),
        ["hosts.h1.gateways[0]: 10.0.1.1 is the address of host 'h2'"],
    ),
    (
        ("hosts.h2.addresses", ["10.0.2.11"]),
        [
            "hosts.h2.addresses[0]: '10.0.2.11' is not an address with its prefix length, like "
            "'10.0.1.11/24'"
        ],
    ),
    (
        ("hosts.h1.gateways", ["10.0.9.1"]),
        ["hosts.h1.gateways[0]: 10.0.9.1 is in none of the host's subnets (10.0.1.0/24)"],
    ),
    (
        ("hosts.h1.gateways", ["10.0.1.1", "10.0.1.2"]),
        ["hosts.h1.gateways[1]: a second IPv4 gateway; a host has one of each version"],
    ),
    (
        ("hosts.h1.mac", "0a:00:00:00:00:01"),
        ["hosts.h2.mac: 0a:00:00:00:00:01 is already that of 'h1'"],
    ),
    (
        ("hosts.h1.mac", "02:00:00:00:00:01"),
        [
            "hosts.h1.mac: '02:00:00:00:00:01' belongs to the network itself (02:..., 06:00:00:00:00:01)"
        ],
    ),
    (
        ("hosts.h1.mac", "01:00:5e:00:00:01"),
        ["hosts.h1.mac: '01:00:5e:00:00:01' is no host's address"],
    ),
    (("hosts.h1.mac", "x"), ["hosts.h1.mac: 'x' is not a MAC address like '0a:00:00:00:00:01'"]),
    (
        ("servers.v1.reserved_cores", 4),
        ["servers.v1.reserved_cores: all 4 cores are reserved: none is left for workers"],
    ),
    (("servers.s1", {}), ["servers.s1: the name is already in switches"]),
    (
        ("smartnics", {"n1": {"server": "v11"}}),
        ["smartnics.n1.server: unknown server 'v11'; did you mean 'v1'? (known: v1)"],
    ),
    (
        ("switches.s1.target", "bmv3"),
        [
            "switches.s1.target: unknown value 'bmv3'; did you mean 'bmv2'? (known: auto, bmv2, dpdk, "
            "softswitch, tofino, tofino2)"
        ],
    ),
    (
        ("switches.s1.table_sizes", {"acl.ipv4": 10**9, "acl.ipv6": 5}),
        [
            "switches.s1.table_sizes.acl.ipv4: the pipeline holds 24,576 entries at most, not "
            "1,000,000,000"
        ],
    ),
    (
        ("switches.s1.targt", "bmv2"),
        [
            "switches.s1: unknown key 'targt'; did you mean 'target'? (known: address, device_id, "
            "packets_per_second, pipeline, ports, role, table_sizes, target, tls)"
        ],
    ),
]


def test_a_size_of_a_table_that_no_pipeline_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = copy.deepcopy(GOOD)
    raw["switches"]["s1"]["table_sizes"] = {"acl.ip4": 3}
    with pytest.raises(InputError, match=r"s1\.table_sizes\.acl\.ip4: .* did you mean 'acl\.ipv4'"):
        load(tmp_path, monkeypatch, raw)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: CASES[i][0][0])
def test_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: int) -> None:
    (path, value), expected = CASES[case]
    raw = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node: Any = raw
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    node[int(last) if isinstance(node, list) else last] = value
    with pytest.raises(InputError) as caught:
        load(tmp_path, monkeypatch, raw)
    assert [p.removeprefix("net.json: ") for p in caught.value.problems] == expected


def test_unknown_name_suggests_a_shipped_one() -> None:
    with pytest.raises(InputError, match="unknown topology 'leaf-spin'; did you mean 'leaf-spine'"):
        load_topology("leaf-spin")


@pytest.mark.parametrize(
    ("name", "switches", "servers", "hosts", "trees"),
    [("single", 1, 1, 4, 1), ("leaf-spine", 4, 2, 4, 2), ("fat-tree-k4", 20, 4, 12, 4)],
)
def test_shipped(name: str, switches: int, servers: int, hosts: int, trees: int) -> None:
    topology = load_topology(name)
    assert (len(topology.switches), len(topology.servers)) == (switches, servers)
    assert (len(topology.hosts), topology.trees) == (hosts, trees)
    used = [
        end for link in topology.links for end in ((link.a, link.a_port), (link.b, link.b_port))
    ]
    on_switches = [end for end in used if end[0] in topology.switches]
    assert len(set(on_switches)) == len(on_switches)


@pytest.mark.parametrize("name", ["campus_edge", "web_service", "branch_office"])
def test_examples_load_without_warnings(name: str) -> None:
    assert load_graph(shipped("examples") / name / "graph.json").warnings == ()


def test_schemas_resolve_their_own_references() -> None:
    for schema in (graph_json_schema(), topology_json_schema()):
        text = json.dumps(schema)
        for reference in {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}:
            assert reference in schema["$defs"]
    assert "napt_config" in graph_json_schema()["$defs"]
