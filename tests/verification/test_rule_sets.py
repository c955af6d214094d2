"""Real rule sets and Metron's chains: the bundle does what the unsplit graph does.

`ORCHESTRATOR_PACKETS=200000` sends so many through each (an hour); by default a few thousand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_equivalence import assert_equivalent

from orchestrator.graph import load_graph, load_topology
from orchestrator.graph.importers import acl_graph, import_classbench, import_metron
from orchestrator.nfs.values import parse_address
from orchestrator.resources import shipped

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PACKETS = int(os.environ.get("ORCHESTRATOR_PACKETS", "3000"))
RULE_SETS = ("acl1_1k", "fw1_1k", "ipc1_1k")
LARGE = "acl1_10k"
CHAINS = (
    "metron-srv-flowdisp-add-dualport-firewall-router-napt",
    "metron-srv-flowdisp-add-singleport-router-mon-lb",
    "metron-net-mac-add-singleport-fw-8rules-hw-napt",
)


def data(name: str) -> Path:
    """A file of ../shared/data; skips by name without it."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not here")
    return path


def check(raw: dict[str, Any], tmp_path: Path) -> int:
    """Compare and say how many packets were."""
    (tmp_path / "graph.json").write_text(json.dumps(raw))
    graph = load_graph(tmp_path / "graph.json").graph
    return assert_equivalent(graph, load_topology("leaf-spine"), PACKETS).packets


@pytest.mark.parametrize(
    ("name", "action"),
    [
        *((name, action) for name in RULE_SETS for action in ("permit", "deny")),
        (LARGE, "deny"),
        pytest.param(LARGE, "permit", marks=pytest.mark.exhaustive),
    ],
)
def test_rule_set(name: str, action: str, tmp_path: Path) -> None:
    raw = acl_graph("rules", import_classbench(data(f"classbench/{name}.rules"), action)[0])
    raw["nfs"]["acl"]["config"] |= {"default": "deny" if action == "permit" else "permit"}
    assert check(raw, tmp_path) >= PACKETS


@pytest.mark.parametrize("name", CHAINS)
def test_metron_chain(name: str, tmp_path: Path) -> None:
    service = ("tcp", "203.0.113.80", 80)
    path = data(f"metron/{name}.json")
    check(import_metron(path, parse_address("198.51.100.13"), service).graph, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["campus_edge", "web_service", "branch_office"])
def test_example(example: str) -> None:
    graph = load_graph(Path(shipped("examples")) / example / "graph.json").graph
    assert assert_equivalent(graph, load_topology("leaf-spine"), PACKETS, seed=2).packets >= PACKETS
