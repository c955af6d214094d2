"""Two graphs may share a port only if their matches cannot meet."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from networks import both_ways, demand, make_graph, napt

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.overlap import check_overlap
from orchestrator.errors import DeploymentError
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.match import Match


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
    return compile_graph(CompileRequest(load_graph(file).graph, load_topology("leaf-spine"))).bundle


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
    check_overlap(dataclasses.replace(second, programs={}), {"first": first})


def test_an_address_has_one_owner_at_a_port() -> None:
    """Two graphs of h1 (other matches) that both translate to 203.0.113.1, asked for by h3."""

    def graph(name: str, graph_id: int, ether_type: int) -> Bundle:
        there = demand("inside", "outside", name="there", match=Match(ether_type=ether_type))
        back = demand("outside", "inside", name="back", match=Match(ether_type=ether_type))
        compiled_graph = make_graph(
            {"nat": napt(["203.0.113.1"])},
            both_ways("inside", "nat", "outside"),
            name=name,
            traffic=(there, back),
        )
        return compile_graph(
            CompileRequest(compiled_graph, load_topology("single"), graph_id=graph_id)
        ).bundle

    first, second = graph("first", 1, 0x88CC), graph("second", 2, 0x88CD)
    with pytest.raises(
        DeploymentError, match=r"nat: address and nat: address of first own the same"
    ):
        check_overlap(second, {"first": first})
