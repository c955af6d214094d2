"""Graphs whose shape is awkward for a pipeline, a dispatcher or a cut: equal to the unsplit graph.

Each is a chain inside -> ... -> outside with the same instances in the other direction.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_equivalence import assert_equivalent

from orchestrator.graph import load_graph, load_topology
from orchestrator.model.packet import Packet
from orchestrator.oracle import PacketDifference

ACL: dict[str, Any] = {
    "type": "acl",
    "config": {
        "rules": [
            {"action": "deny", "protocol": "tcp", "dst_port": "20-25"},
            {"action": "deny", "src": "10.0.1.12/32", "protocol": "udp", "src_port": "1000-3000"},
            {"action": "deny", "later_fragment": True, "dst": "198.51.100.14/32"},
            {"action": "permit", "version": 4},
            {"action": "deny", "protocol": "icmpv6"},
        ],
        "default": "permit",
        "reverse": "mirror",
    },
}
ROUTER: dict[str, Any] = {
    "type": "router",
    "config": {
        "routes": [
            {"prefix": "198.51.100.0/24"},
            {"prefix": "10.0.1.0/24", "port": "inside"},
            {"prefix": "203.0.113.0/24", "port": "inside"},
            {"prefix": "192.0.2.0/24", "next_hop": "198.51.100.14"},
            {"prefix": "0.0.0.0/0", "next_hop": "198.51.100.13"},
            {"prefix": "2001:db8:2::/64"},
            {"prefix": "2001:db8:1::/64", "port": "inside"},
        ]
    },
}
TELLS: dict[str, Any] = {
    "type": "router",
    "config": {
        "routes": [
            {"prefix": "198.51.100.0/24"},
            {"prefix": "10.0.1.0/24", "port": "inside"},
            {"prefix": "203.0.113.0/24", "port": "inside"},
            {"prefix": "192.0.2.0/24", "next_hop": "198.51.100.14"},
            {"prefix": "2001:db8:2::/64"},
        ],
        "errors": {"addresses": ["192.0.2.1", "2001:db8:9::1"], "mtu": 1300},
    },
}
IDS: dict[str, Any] = {
    "type": "ids",
    "config": {
        "signatures": [
            {"id": 1, "content": "marker-one", "protocol": "tcp", "ports": ["80", "8000-8100"]},
            {"id": 2, "content": "marker|00|two", "protocol": "udp"},
            {"id": 3, "content": "MARKER-o", "protocol": "tcp", "nocase": True, "to": "client"},
        ]
    },
}
NAPT: dict[str, Any] = {
    "type": "napt",
    "config": {"addresses": ["203.0.113.1", "203.0.113.2"]},
    "workers": {"min": 2},
}
NAPT_SHARED = {**NAPT, "config": {"addresses": ["203.0.113.1"]}, "workers": {"min": 3}}
STATIC: dict[str, Any] = {
    "type": "static_nat",
    "config": {"pairs": [{"inside": "10.0.1.11", "outside": "203.0.113.11"}]},
}
FIREWALL: dict[str, Any] = {
    "type": "stateful_firewall",
    "config": {
        "rules": [
            {"action": "deny", "protocol": "tcp", "dst_port": "20-25"},
            {"action": "deny", "protocol": "udp", "src": "10.0.1.12/32", "src_port": "1000-3000"},
            {"action": "permit", "version": 4},
            {"action": "permit", "protocol": "tcp"},
        ],
        "inbound_rules": [
            {"action": "permit", "protocol": "tcp", "dst": "10.0.1.11/32"},
            {"action": "permit", "version": 6, "protocol": "icmpv6"},
        ],
    },
}
MONITOR: dict[str, Any] = {"type": "flow_monitor", "workers": {"min": 2}}
DNAT: dict[str, Any] = {
    "type": "dnat",
    "config": {"address": "198.51.100.14"},
    "workers": {"min": 2},
}
DEDUP: dict[str, Any] = {"type": "dedup", "config": {"window_ms": 20}, "workers": {"min": 2}}
URL_RULES: list[dict[str, Any]] = [
    {"host": "*.shop.example", "path": "/cart/*", "action": "deny"},
    {"host": "news.example", "action": "alert"},
    {"path": "*.exe", "action": "deny"},
]
URL_FILTER: dict[str, Any] = {
    "type": "url_filter",
    "config": {"rules": URL_RULES, "ports": ["80", "8000-8010"], "malformed": "permit"},
    "workers": {"min": 2},
}
URL_FILTER_RESET: dict[str, Any] = {
    "type": "url_filter",
    "config": {"rules": URL_RULES, "reset": True},
    "workers": {"min": 2},
}
DNS_GUARD: dict[str, Any] = {
    "type": "dns_guard",
    "config": {"block": ["ads.example"], "ports": ["53", "5300-5302"]},
    "workers": {"min": 2},
}
os.environ.setdefault("ORCHESTRATOR_TEST_KEY", bytes(range(48)).hex())
_KEY: dict[str, Any] = {"key_environment": "ORCHESTRATOR_TEST_KEY", "spi": 4097}
AES_ENCRYPT: dict[str, Any] = {"type": "aes_encrypt", "config": _KEY, "workers": {"min": 2}}
AES_DECRYPT: dict[str, Any] = {"type": "aes_decrypt", "config": _KEY}
SHAPER: dict[str, Any] = {
    "type": "traffic_shaper",
    "config": {"rate": "3Mbit/s", "burst": 3000, "queue": 9000},
}
CACHE: dict[str, Any] = {"type": "cache_observer", "config": {"ports": ["80", "8000"]}}
NO_MISSES: dict[str, Any] = {
    "type": "label_filter",
    "config": {"rules": [{"label": 22, "action": "deny"}]},
}
NO_HITS: dict[str, Any] = {
    "type": "label_filter",
    "config": {"rules": [{"label": 21, "action": "deny"}]},
}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "dnat": [DNAT],
    "router_before_acl": [ROUTER, ACL],
    "acl_five_times": [ACL, ACL, ACL, ACL, ACL],
    "only_ids": [{**IDS, "workers": {"min": 3}}],
    "napt_before_ids": [NAPT, IDS],
    "static_nat_between_ids": [IDS, STATIC, {**IDS}],
    "stateless_between_stateful": [IDS, ACL, NAPT, ROUTER],
    "acl_static_acl": [ACL, STATIC, ACL],
    "nothing_stateful": [ACL, ROUTER],
    "napt_port_ranges": [ACL, NAPT_SHARED],
    "only_stateful_firewall": [{**FIREWALL, "workers": {"min": 3}}],
    "stateful_firewall_napt": [FIREWALL, NAPT],
    "stateful_firewall_between": [ACL, FIREWALL, ROUTER],
    "only_flow_monitor": [MONITOR],
    "flow_monitor_between": [ACL, MONITOR, NAPT],
    "only_dedup": [DEDUP],
    "dedup_between": [ACL, DEDUP, NAPT],
    "only_url_filter": [URL_FILTER],
    "url_filter_resets": [ACL, URL_FILTER_RESET, STATIC],
    "url_filter_resets_through_napt": [NAPT, URL_FILTER_RESET],
    "only_dns_guard": [DNS_GUARD],
    "dns_guard_between": [ACL, DNS_GUARD, NAPT],
    "aes_there_and_back": [AES_ENCRYPT, AES_DECRYPT],
    "aes_around": [NAPT, AES_ENCRYPT, ACL, ROUTER, AES_DECRYPT, STATIC],
    "only_traffic_shaper": [SHAPER],
    "traffic_shaper_between": [{**NAPT, "workers": {"min": 1}}, SHAPER, ACL, IDS],
    "two_traffic_shapers": [SHAPER, ROUTER, {**SHAPER}],
    "cache_misses_denied": [CACHE, NO_MISSES],
    "cache_hits_denied_behind": [ACL, CACHE, STATIC, SHAPER, NO_HITS, ROUTER],
    "router_napt": [ROUTER, NAPT, ACL],
    "router_that_tells": [TELLS],
    "router_that_tells_first": [TELLS, NAPT],
    "router_that_tells_last": [FIREWALL, NAPT_SHARED, TELLS],
    # Classes that meet no state behind the first function that keeps some leave the server there.
    "ids_acl_napt": [IDS, ACL, NAPT],
    "monitor_ids_napt": [MONITOR, IDS, NAPT, ROUTER],
    "firewall_acl_ids": [FIREWALL, ACL, IDS],
    # What synthesis moves and merges.
    "static_acl_static_acl": [STATIC, ACL, STATIC, ACL],
    "router_acl_ids_acl": [ROUTER, ACL, IDS, ACL],
}


def chain(name: str, nfs: list[dict[str, Any]]) -> dict[str, Any]:
    """The graph file of a chain and its return direction."""
    names = [f"nf{i}_{nf['type']}" for i, nf in enumerate(nfs)]
    there = ["inside", *names, "outside"]

    def port(node: str, side: str) -> str:
        return node if node in ("inside", "outside") else f"{node}.{side}"

    edges = [
        {"from": port(a, "outside"), "to": port(b, "inside")} for a, b in itertools.pairwise(there)
    ] + [
        {"from": port(b, "inside"), "to": port(a, "outside")} for a, b in itertools.pairwise(there)
    ]
    return {
        "name": name,
        "owner": "tests",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": dict(zip(names, nfs, strict=True)),
        "edges": edges,
        "traffic": [
            {
                "name": "up",
                "from": "inside",
                "to": "outside",
                "rate": "10Mbit/s",
                "packet_size": 500,
            },
            {
                "name": "down",
                "from": "outside",
                "to": "inside",
                "rate": "10Mbit/s",
                "packet_size": 500,
            },
        ],
    }


def shared_address(difference: PacketDifference) -> bool:
    """What may differ where workers share a pool address by port ranges.

    Fragments (docs/LIMITATIONS.md), and packets bent to a port that is mapped in the reference only:
    NAPT chooses its ports itself.
    """
    packet = Packet.parse(difference.frame)
    return packet.later_fragment or packet.more_fragments or difference.scenario == "bent"


def test_what_leaves_encrypted_equals_the_unsplit_graph(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    raw = chain("aes_only", [ACL, AES_ENCRYPT])
    raw["traffic"] = raw["traffic"][:1]
    file.write_text(json.dumps(raw))
    driver = assert_equivalent(load_graph(file).graph, load_topology("leaf-spine"), 600, seed=3)
    assert driver.delivered > 50


@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_equals_the_unsplit_graph(shape: str, topology: str, tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(chain(shape, SHAPES[shape])))
    graph, physical = load_graph(file).graph, load_topology(topology)
    shares = NAPT_SHARED in SHAPES[shape]
    forgive = shared_address if shares else lambda _: False
    driver = assert_equivalent(graph, physical, 1200, seed=3, forgive=forgive)
    assert driver.delivered > 50
