"""Rules that ask for a VLAN: in switches, on servers, and behind what pushes and pops tags.

Oracle: the reference interpreter of the unsplit graph; its frames have tags, and corners of every rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from networks import small
from test_equivalence import assert_equivalent
from test_shapes import ACL, IDS, ROUTER, chain

from orchestrator.graph import load_graph, load_topology

pytestmark = pytest.mark.slow

RULES = [
    {"vlan": 5, "protocol": "udp", "action": "deny"},
    {"vlan": "none", "dst_port": "0-79", "action": "deny"},
    {"vlan": 7, "action": "permit"},
    {"vlan": 100, "protocol": "tcp", "action": "deny"},
    {"vlan": 5, "ether_type": "0x0806", "action": "deny"},
]
BY_VLAN: dict[str, Any] = {
    "type": "acl",
    "config": {"rules": RULES, "default": "permit", "reverse": "mirror"},
}
FIREWALL: dict[str, Any] = {
    "type": "stateful_firewall",
    "config": {"rules": [{"vlan": 5, "action": "permit"}, {"vlan": "none", "action": "permit"}]},
}
MARK: dict[str, Any] = {
    "type": "dscp_marker",
    "config": {"rules": [{"vlan": 5, "dscp": "EF"}, {"vlan": "none", "dscp": "CS1"}]},
}
PUSH: dict[str, Any] = {"type": "vlan_push", "config": {"vid": 100}}
POP: dict[str, Any] = {"type": "vlan_pop"}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "two_lists": [BY_VLAN, ACL],
    "tags_between": [PUSH, BY_VLAN, POP, ROUTER, BY_VLAN],
    "popped": [POP, BY_VLAN, MARK],
    "stateful": [BY_VLAN, FIREWALL, BY_VLAN, IDS],
}


@pytest.mark.parametrize("room", [True, False], ids=["switches", "servers"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rules_by_vlan_equal_the_unsplit_graph(shape: str, room: bool, tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(chain(shape, SHAPES[shape])))
    topology = load_topology("leaf-spine")
    if not room:
        sizes = {f"acl.{table}": 0 for table in ("ipv4", "ipv6", "other")}
        topology = small(topology, **sizes)
    driver = assert_equivalent(load_graph(file).graph, topology, 600, seed=5)
    assert driver.delivered > 50


def test_traffics_by_vlan(tmp_path: Path) -> None:
    raw = chain("traffics", [ACL])
    raw["traffic"][0]["match"] = {"vlan": 5}
    raw["traffic"][1]["match"] = {"vlan": "none", "version": 4}
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(raw))
    driver = assert_equivalent(load_graph(file).graph, load_topology("leaf-spine"), 600, seed=6)
    assert driver.delivered > 50
