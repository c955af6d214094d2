"""Topologies of the P4 tutorials and of p4-utils.

Oracle: what the formats' own documentation says of ports, addresses and units; our reader of topologies.
"""

from __future__ import annotations

import json
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.graph import load_topology
from orchestrator.graph.importers import import_topology
from orchestrator.model.topology import Topology

TUTORIAL: dict[str, Any] = {
    "hosts": {
        "h1": {
            "ip": "10.0.1.1/24",
            "mac": "08:00:00:00:01:11",
            "commands": [
                "route add default gw 10.0.1.10 dev eth0",
                "arp -i eth0 -s 10.0.1.10 08:00:00:00:01:00",
            ],
        },
        "h2": {"ip": "10.0.2.2/24", "mac": "08:00:00:00:02:22"},
    },
    "switches": {"s1": {"runtime_json": "s1-runtime.json"}, "s2": {}},
    "links": [
        ["h1", "s1-p2"],
        ["h2", "s2-p1"],
        ["s1-p3", "s2-p7", "5ms", 0.5],
        ["s1-p4", "s2-p4", 2],
    ],
}

APP: dict[str, Any] = {"switches": {"s1": {}}, "hosts": {}, "links": []}


def imported(tmp_path: Path, content: object) -> Topology:
    """Through the command, which reads back what it writes."""
    source, output = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps(content))
    done = CliRunner().invoke(
        app, ["import", "topology", str(source), "-o", str(output), "--name", "lab"]
    )
    assert done.exit_code == 0, done.output
    return load_topology(output)


def ports(topology: Topology) -> set[tuple[str, int, str, int]]:
    return {(link.a, link.a_port, link.b, link.b_port) for link in topology.links}


def test_the_tutorials_ports_units_and_gateways(tmp_path: Path) -> None:
    written = imported(tmp_path, TUTORIAL)
    assert written.name == "lab"
    assert ports(written) == {
        ("h1", 0, "s1", 2), ("h2", 0, "s2", 1), ("s1", 3, "s2", 7), ("s1", 4, "s2", 4),
    }  # fmt: skip
    assert [(link.latency_us, link.capacity) for link in written.links[2:]] == [
        (5_000, 500_000), (2_000, 10**10),
    ]  # fmt: skip
    h1 = written.hosts["h1"]
    assert h1.mac == 0x080000000111
    assert [str(gateway) for gateway in h1.gateways] == ["10.0.1.10"]
    assert not written.hosts["h2"].gateways


@pytest.mark.parametrize(
    ("strategy", "address", "mac", "gateways"),
    [
        ("l2", "10.0.0.2/16", 0x00000A000002, []),
        ("mixed", "10.0.5.2/24", 0x00000A000502, ["10.0.5.254"]),
        ("l3", "10.5.2.2/24", 0x00000A050202, ["10.5.2.1"]),
        ("manual", "192.0.2.7/24", 0x080000000007, ["192.0.2.1"]),
    ],
)
def test_p4_utils_gives_addresses(
    tmp_path: Path, strategy: str, address: str, mac: int, gateways: list[str]
) -> None:
    one = {"ip": "192.0.2.6/24"}
    other = {"ip": "192.0.2.7", "mac": "08:00:00:00:00:07", "gw": "192.0.2.1"}
    content = {
        "program": "x.p4",
        "topology": {
            "assignment_strategy": strategy,
            "default": {"bw": 10},
            "switches": {"s1": {}, "s5": {}, "core": {}},
            "hosts": {"h1": one, "h2": other},
            "links": [
                ["h1", "s1"],
                ["h2", "s5"],
                ["s1", "s5", {"delay": 3, "bw": 1}],
                ["s1", "core"],
            ],
        },
    }
    written = imported(tmp_path, content)
    assert written.hosts["h2"].addresses == (ip_interface(address),)
    assert written.hosts["h2"].mac == mac
    assert [str(gateway) for gateway in written.hosts["h2"].gateways] == gateways
    assert [link.capacity for link in written.links[:3]] == [10**7, 10**7, 10**6]
    assert written.links[2].latency_us == 3_000
    assert ("s1", 2, "s5", 2) in ports(written)


def test_what_p4_utils_has_started(tmp_path: Path) -> None:
    content = {
        "directed": False,
        "nodes": [{"id": "s1", "isSwitch": True}, {"id": "h1", "isHost": True}],
        "links": [
            {
                "node1": "h1",
                "node2": "s1",
                "port1": 0,
                "port2": 4,
                "ip1": "10.1.1.2/24",
                "addr1": "00:00:0a:01:01:02",
                "addr2": "00:01:0a:01:01:02",
            }
        ],
    }
    written = imported(tmp_path, content)
    assert ports(written) == {("h1", 0, "s1", 4)}
    assert written.hosts["h1"].mac == 0x00000A010102


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "is neither the tutorials' topology.json nor p4-utils'"),
        ({"hosts": {}}, "'switches' is missing"),
        ({**TUTORIAL, "links": [["h1", "s1.2"]]}, r"links\[0\]: 's1.2' is no node"),
        ({**TUTORIAL, "links": [["h1", "s1-p1", "soon"]]}, r"links\[0\]: 'soon' is not a quantity"),
        ({**TUTORIAL, "hosts": {"h1": {}}}, r"hosts.h1: has no address"),
        ({**TUTORIAL, "hosts": {"h1": {"ip": "10.0.0.1/8", "mac": "x"}}}, "hosts.h1.mac: 'x'"),
        ({"nodes": [{"id": "r1"}], "links": []}, "nodes: r1 is neither a host nor a switch"),
        ({"topology": {**APP, "assignment_strategy": "l4"}}, "assignment_strategy 'l4'"),
        ({"topology": {**APP, "hosts": {"web": {}}}}, "hosts.web: has no address"),
        ({"topology": {**APP, "routers": {"r1": {}}}}, "routers: only hosts and P4 switches"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: object, said: str) -> None:
    file = tmp_path / "in.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        import_topology(file, "lab")
