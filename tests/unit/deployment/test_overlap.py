"""Two graphs may share a port only if their matches cannot meet."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deployment.overlap import check_overlap
from orchestrator.errors import DeploymentError
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.pipeline import compile_graph


def bundle(folder: Path, name: str, hosts: list[str], match: dict[str, Any]) -> Bundle:
    graph = {
        "name": name,
        "owner": "tests",
        "endpoints": {"inside": {"hosts": hosts}, "outside": {"hosts": ["h3"]}},
        "nfs": {"f": {"type": "acl", "config": {"default": "permit"}}},
        "edges": [{"from": "inside", "to": "f.inside"}, {"from": "f.outside", "to": "outside"}],
        "traffic": [
            {
                "name": "up",
                "from": "inside",
                "to": "outside",
                "match": match,
                "rate": 1e6,
                "packet_size": 500,
            }
        ],
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(graph))
    return compile_graph(load_graph(file).graph, load_topology("leaf-spine")).bundle


WEB = {"protocol": "tcp", "dst_port": "80-90"}


@pytest.mark.parametrize(
    ("hosts", "match"),
    [
        (["h2"], WEB),  # another port of the switch
        (["h1"], {"protocol": "udp"}),
        (["h1"], {"protocol": "tcp", "dst_port": "91-99"}),
        (["h1"], {"ether_type": "0x0806"}),
        (["h1"], {**WEB, "src": "10.0.2.0/24"}),
    ],
)
def test_disjoint_graphs_live_together(
    tmp_path: Path, hosts: list[str], match: dict[str, Any]
) -> None:
    first = bundle(tmp_path, "first", ["h1"], {**WEB, "src": "10.0.1.0/24"})
    check_overlap(bundle(tmp_path, "second", hosts, match), {"first": first})


@pytest.mark.parametrize("match", [{}, WEB, {"dst_port": 85}, {"src": "10.0.1.11/32"}])
def test_overlapping_graphs_are_refused_by_name(tmp_path: Path, match: dict[str, Any]) -> None:
    first = bundle(tmp_path, "first", ["h1"], {**WEB, "src": "10.0.1.0/24"})
    second = bundle(tmp_path, "second", ["h1"], match)
    with pytest.raises(
        DeploymentError, match=r"second: traffic up and traffic up of first .*leaf1"
    ):
        check_overlap(second, {"first": first})
    check_overlap(dataclasses.replace(second, switches={}), {"first": first})
