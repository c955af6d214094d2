"""A graph as the journal keeps it: what comes back is what was loaded, files and provenance included.

Oracle: equality of the checked graph, and of what the compiler and the workers are told of each NF.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from networks import both_ways, make_graph

from orchestrator.errors import StoreError
from orchestrator.graph import functions_of, load_graph
from orchestrator.graph.kept import dump_graph, restored
from orchestrator.nfs.base import FROM_FILE, known_types

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*/graph.json"))
MATCH = {"src": "10.0.0.0/8", "dst_port": "80-90", "protocol": "tcp", "tcp_flags": "0x02/0x12"}
SIGNATURE = {"id": 1, "content": "a|0d 0a|b", "protocol": "tcp", "ports": ["80", "8000-8100"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "acl": {"rules": [{**MATCH, "action": "permit"}, {"ether_type": "0x0806", "action": "deny"}]},
    "aes_decrypt": {"key_environment": "KEY", "spi": 300},
    "aes_encrypt": {"key_file": "/etc/key", "spi": 300, "mtu": 1400},
    "cache_observer": {"labels": {"hit": 7, "miss": 8}},
    "dedup": {"window_ms": 20},
    "dnat": {"address": "2001:db8::1", "port": 80},
    "dns_guard": {"block": ["ads.example"], "answers": "any"},
    "dscp_marker": {"rules": [{**MATCH, "dscp": "EF"}]},
    "flow_monitor": {},
    "hash_lb": {
        "virtual": [{"address": "198.51.100.1", "backends": [{"address": "10.0.1.1", "weight": 2}]}]
    },
    "ids": {"signatures": [SIGNATURE], "action": "alert"},
    "l4_load_balancer": {
        "virtual": [
            {
                "address": "198.51.100.1",
                "port": 80,
                "protocol": "tcp",
                "backends": [{"address": "10.0.1.11", "port": 8080}],
            }
        ]
    },
    "label_filter": {"rules": [{"label": 21, "action": "deny"}], "default": "permit"},
    "mirror": {"rules": [MATCH]},
    "napt": {"addresses": ["203.0.113.1"], "ports": [2000, 3000], "timeouts_s": {"udp": 120}},
    "policer": {"rules": [{**MATCH, "rate": "1.5Mbit/s", "burst": 3000}]},
    "router": {"routes": [{"prefix": "10.0.0.0/8", "next_hop": "10.0.1.11"}]},
    "stateful_firewall": {"rules": [{**MATCH, "action": "permit"}]},
    "static_nat": {"pairs": [{"inside": "10.0.1.11", "outside": "203.0.113.11"}]},
    "traffic_shaper": {"rate": "10Mbit/s"},
    "ttl_guard": {"rules": [{**MATCH, "min": 255}]},
    "url_filter": {"rules": [{"host": "*.example.com", "path": "/x*", "action": "deny"}]},
    "vlan_pop": {"vid": 7},
    "vlan_push": {"vid": 7, "type": "0x88a8"},
    "vxlan_decap": {"vni": 5, "local": "192.0.2.1"},
    "vxlan_encap": {"vni": 5, "local": "192.0.2.1", "remote": "192.0.2.2"},
}


def test_every_function_is_here() -> None:
    assert sorted(CONFIGS) == list(known_types())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_comes_back(kind: str) -> None:
    graph = make_graph({"nf": (kind, CONFIGS[kind])}, both_ways("inside", "nf", "outside"))
    again = restored(dump_graph(graph), "journal")
    assert again == graph
    (mine,), (its,) = (functions_of(one).values() for one in (graph, again))
    assert its.runtime_config() == mine.runtime_config()
    assert its.elements("inside") == mine.elements("inside")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_comes_back_without_its_files(file: Path) -> None:
    graph = load_graph(file).graph
    again = restored(dump_graph(graph), "journal")
    assert again == graph
    for name, nf in graph.nfs.items():
        assert getattr(again.nfs[name].config, FROM_FILE, ()) == getattr(nf.config, FROM_FILE, ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        zlib.compress(b"[]"),
        zlib.compress(json.dumps({"format": 99}).encode()),
        dump_graph(make_graph({"nf": ("flow_monitor", {})}, both_ways("inside", "nf", "outside")))[
            :-9
        ],
    ],
)
def test_a_damaged_one_is_told(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"journal: g: its graph cannot be read"):
        restored(data, "journal: g")
