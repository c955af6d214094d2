"""SmartNICs in topology files: devices between a server and its switch; every bad input's text.

Oracle: the links that a reader of the file would draw. Blind spot: NICs that run already (attachment).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_topologies import GOOD, load

from orchestrator.errors import InputError
from orchestrator.graph import check_topology
from orchestrator.model.devices import devices_of
from orchestrator.network.fabric import Fabric


def with_nic(nic: dict[str, Any], **server: Any) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    raw["servers"]["v1"] |= {"nics": [nic], **server}
    return raw


def test_a_nic_stands_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = load(tmp_path, monkeypatch, GOOD)
    nic = {"target": "softswitch", "table_sizes": {"acl.ipv4": 9}, "packets_per_second": 7}
    loaded = load(tmp_path, monkeypatch, with_nic(nic))
    made = loaded.switches["v1-nic"]
    assert (made.server, made.target, made.table_sizes) == ("v1", "softswitch", {"acl.ipv4": 9})
    assert made.packets_per_second == 7
    assert devices_of(loaded)["v1-nic"].kind == "nic"
    # What was there keeps its id; the cable of the server is the NIC's, and each core has a port.
    assert {n: s.id for n, s in loaded.servers.items()} == {"v1": without.servers["v1"].id}
    assert made.id == 4
    ends = [(x.a, x.a_port, x.b, x.b_port) for x in loaded.links]
    assert ends[3:] == [
        ("s2", 2, "v1-nic", 1),
        *(("v1-nic", 2 + core, "v1", core) for core in range(3)),
    ]
    fabric = Fabric(loaded)
    assert fabric.access("v1") == "v1-nic"
    assert fabric.before("v1") == ("s2", "v1-nic")
    assert [fabric.port_of("v1", core) for core in range(3)] == [2, 3, 4]


def test_its_name_and_ports_may_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"p0": 40, "vf0": 3, "vf1": 9}
    nic = {"name": "bf2", "port": "p0", "core_ports": ["vf0", 4, "vf1"], "ports": ports}
    loaded = load(tmp_path, monkeypatch, with_nic(nic))
    fabric = Fabric(loaded)
    assert fabric.link("s2", "bf2").b_port == 40
    assert [fabric.port_of("v1", core) for core in range(3)] == [3, 4, 9]


def test_a_bundle_says_it_and_not_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tmp_path, monkeypatch, with_nic({"port": 5, "packets_per_second": 10**6}))
    check_topology(loaded)
    nic = replace(loaded.switches["v1-nic"], id=77)
    with pytest.raises(ValueError, match="are not those of a topology"):
        check_topology(replace(loaded, switches={**loaded.switches, "v1-nic": nic}))
    with pytest.raises(ValueError, match="has 2; one for each of 3 workers"):
        check_topology(replace(loaded, links=loaded.links[:-1]))
    stray = replace(loaded.switches["s2"], server="elsewhere")
    with pytest.raises(ValueError, match=r"nics|topology"):
        check_topology(replace(loaded, switches={**loaded.switches, "s2": stray}))


@pytest.mark.parametrize(
    ("nic", "server", "text"),
    [
        ({"name": "s1"}, {}, "servers.v1.nics[0].name: 's1' is another node's"),
        ({"core_ports": [2, 3]}, {}, "servers.v1.nics[0].core_ports: has 2; one for each of 3"),
        ({"core_ports": [2, 3, 3]}, {}, "a port is there twice"),
        ({"core_ports": [2, 3, 1]}, {}, "a port is there twice, or is 1, the switch's"),
        ({"packets_per_second": 0}, {}, "packets_per_second: "),
        ({"target": "fpga"}, {}, "unknown value 'fpga'"),
        ({"table_sizes": {"acl": 1}}, {}, "servers.v1.nics[0].table_sizes.acl: "),
        ({"device_id": 7}, {}, "servers.v1.nics[0].device_id: needs the switch's address"),
        ({}, {"interface": "eth0"}, "servers.v1.nics[0]: workers have a port each"),
        (
            {"address": "n:1"},
            {"address": "v:1"},
            "servers.v1.interfaces: needed: behind a NIC each worker has one",
        ),
    ],
)
def test_bad_ones(
    nic: dict[str, Any],
    server: dict[str, Any],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, monkeypatch, with_nic(nic, **server))
    assert text in str(caught.value)


def test_one_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = with_nic({})
    raw["servers"]["v1"]["nics"].append({})
    with pytest.raises(InputError, match="nics"):
        load(tmp_path, monkeypatch, raw)
