"""NFs that switches can run equal the unsplit graph: in a switch, forced to a server, between others.

Forced: the topology's switches have no room in the NF's blocks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_equivalence import assert_equivalent
from test_shapes import ACL, IDS, ROUTER, chain

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology

DSCP: dict[str, Any] = {
    "type": "dscp_marker",
    "config": {
        "rules": [
            {"protocol": "tcp", "dst_port": "80-90", "dscp": "AF41"},
            {"src": "10.0.1.12/32", "dscp": "EF"},
            {"version": 6, "protocol": "udp", "dscp": 8},
        ],
        "reverse": "mirror",
    },
}
DSCP_ALL: dict[str, Any] = {"type": "dscp_marker", "config": {"default": "CS1"}}
TTL: dict[str, Any] = {
    "type": "ttl_guard",
    "config": {
        "rules": [
            {"protocol": "tcp", "min": 2},
            {"protocol": "udp", "min": 3, "max": 60, "action": "clamp"},
        ],
        "reverse": "same",
    },
}
PUSH: dict[str, Any] = {"type": "vlan_push", "config": {"vid": 100, "pcp": 5}}
SERVICE: dict[str, Any] = {"type": "vlan_push", "config": {"vid": 7, "type": "0x88a8"}}
POP: dict[str, Any] = {"type": "vlan_pop"}
POP_5: dict[str, Any] = {"type": "vlan_pop", "config": {"vid": 5, "others": "drop"}}
BALANCED = [{"address": "10.0.1.11", "weight": 2}, {"address": "10.0.1.12"}]
BALANCED_V6 = [{"address": "2001:db8:1::11"}, {"address": "2001:db8:1::12"}]
HASH_LB: dict[str, Any] = {
    "type": "hash_lb",
    "config": {
        "virtual": [
            {"address": "203.0.113.10", "backends": BALANCED, "hash": "ports"},
            {"address": "2001:db8:ff::10", "backends": BALANCED_V6},
        ]
    },
}
POLICER: dict[str, Any] = {
    "type": "policer",
    "config": {
        "rules": [
            {"protocol": "tcp", "rate": "400kbit/s", "burst": 3000},
            {
                "src": "10.0.1.12/32",
                "rate": 200_000,
                "burst": 2000,
                "peak_rate": "600kbit/s",
                "peak_burst": 4000,
                "yellow": "AF12",
                "red": "drop",
            },
            {"version": 6, "rate": "100kbit/s", "burst": 2500, "red": 1},
        ],
        "reverse": "mirror",
    },
}
POLICER_ALL: dict[str, Any] = {
    "type": "policer",
    "config": {"rules": [{"rate": "1Mbit/s", "burst": 5000}], "reverse": "same"},
}
MIRROR: dict[str, Any] = {
    "type": "mirror",
    "config": {"rules": [{"protocol": "udp"}, {"src": "10.0.1.12/32"}], "reverse": "mirror"},
}
MIRROR_ALL: dict[str, Any] = {"type": "mirror"}
ENDS = {"local": "203.0.113.5", "remote": "203.0.113.6"}
ENCAP: dict[str, Any] = {"type": "vxlan_encap", "config": {"vni": 7001, **ENDS}}
TO_HOST = {"local": "203.0.113.5", "remote": "198.51.100.13"}
ENCAP_TO_HOST: dict[str, Any] = {"type": "vxlan_encap", "config": {"vni": 1, **TO_HOST}}
DECAP: dict[str, Any] = {"type": "vxlan_decap", "config": {"vni": 7001, "local": "203.0.113.6"}}
"""As part of a chain, it is passed from its outside to its inside."""
SHAPES: dict[str, list[dict[str, Any]]] = {
    "dscp_marker": [DSCP],
    "dscp_marker_for_all": [DSCP_ALL],
    "ttl_guard": [TTL],
    "acl_dscp_marker_ids": [ACL, DSCP, IDS],
    "dscp_marker_ttl_guard_router": [DSCP, TTL, ROUTER],
    "router_dscp_marker": [ROUTER, DSCP_ALL],
    "policer": [POLICER],
    "policer_for_all": [POLICER_ALL],
    "acl_policer_ids": [ACL, POLICER, IDS],
    "mirror": [MIRROR],
    "acl_mirror_all_ids": [ACL, MIRROR_ALL, IDS],
    "dscp_marker_mirror_router": [DSCP_ALL, MIRROR, ROUTER],
    "vxlan_to_a_host": [ENCAP_TO_HOST],
    "vxlan": [ENCAP, DECAP],
    "vxlan_marked": [ACL, ENCAP, DSCP_ALL, DECAP, ROUTER],
    "vlan_vxlan_ids": [PUSH, ENCAP, DECAP, POP, IDS],
    "hash_lb": [HASH_LB],
    "acl_hash_lb_router": [ACL, HASH_LB, ROUTER],
    "vlan_push": [PUSH],
    "vlan_push_pop": [SERVICE, DSCP_ALL, POP],
    "vlan_pop": [POP],
    "vlan_pop_acl_router_push": [POP_5, ACL, ROUTER, PUSH],
}
TOLERANT = frozenset({"acl_policer_ids"})
"""Behind a server a switch's meter counts the tag: so tokens differ a little."""
BLOCKS = ("mirror", "policer", "mark", "hash_lb", "vlan", "tunnel")


def without_blocks(topology: Topology) -> Topology:
    """The topology with no room for segments in the gated blocks."""
    sizes = {f"{block}.segments": 0 for block in BLOCKS}
    switches = {
        name: replace(switch, table_sizes={**switch.table_sizes, **sizes})
        for name, switch in topology.switches.items()
    }
    return replace(topology, switches=switches)


def shaped(nfs: list[dict[str, Any]], tmp_path: Path) -> ServiceGraph:
    """A chain; what mirrors copy comes to an endpoint of its own through an NF or not."""
    graph = chain("shape", nfs)
    for name in (name for name, nf in graph["nfs"].items() if nf["type"] == "vxlan_decap"):
        turned = {f"{name}.inside": f"{name}.outside", f"{name}.outside": f"{name}.inside"}
        for edge in graph["edges"]:
            edge.update({end: turned.get(edge[end], edge[end]) for end in ("from", "to")})
    mirrors = [name for name, nf in graph["nfs"].items() if nf["type"] == "mirror"]
    if mirrors:
        graph["endpoints"] = {
            "inside": {"hosts": ["h1", "h2"]},
            "outside": {"hosts": ["h3"]},
            "watch": {"hosts": ["h4"]},
        }
        graph["nfs"]["seen"] = {"type": "dscp_marker", "config": {"default": "LE"}}
        graph["edges"] += [{"from": f"{name}.mirror", "to": "seen.inside"} for name in mirrors]
        graph["edges"] += [{"from": "seen.outside", "to": "watch"}]
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph))
    return load_graph(file).graph


def kinds(graph: ServiceGraph, topology: Topology) -> dict[str, set[str]]:
    """NF type -> kinds of device that its units run on."""
    stories: dict[str, set[str]] = {}
    for story in compile_graph(CompileRequest(graph, topology)).bundle.stories:
        nf = story.unit.split(".")[0]
        if nf in graph.nfs:
            stories.setdefault(graph.nfs[nf].type, set()).add(story.kind)
    return stories


@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_a_switch(shape: str, topology: str, tmp_path: Path) -> None:
    graph, physical = shaped(SHAPES[shape], tmp_path), load_topology(topology)
    where = kinds(graph, physical)
    assert all(k == {"switch"} for nf, k in where.items() if nf not in ("ids", "napt")), where
    driver = assert_equivalent(graph, physical, 1500, seed=3)
    assert driver.delivered > 50
    assert driver.uncompared == 0 or shape in TOLERANT


@pytest.mark.parametrize("shape", SHAPES)
def test_forced_to_a_server(shape: str, tmp_path: Path) -> None:
    graph, physical = shaped(SHAPES[shape], tmp_path), without_blocks(load_topology("leaf-spine"))
    nf = shape_type(SHAPES[shape])
    assert kinds(graph, physical)[nf] == {"server"}
    driver = assert_equivalent(graph, physical, 1000, seed=4)
    assert driver.delivered > 50
    assert driver.uncompared == 0 or shape in TOLERANT


@pytest.mark.parametrize("shape", SHAPES)
def test_between_two_stateful_functions(shape: str, tmp_path: Path) -> None:
    graph = shaped([IDS, *SHAPES[shape], {**IDS}], tmp_path)
    physical = load_topology("single")
    assert "server" in kinds(graph, physical)[shape_type(SHAPES[shape])]
    driver = assert_equivalent(graph, physical, 800, seed=5)
    assert driver.delivered > 50


def shape_type(nfs: list[dict[str, Any]]) -> str:
    """The first NF type of a shape that is not from elsewhere."""
    return next(nf["type"] for nf in nfs if nf["type"] not in ("acl", "ids", "router"))
