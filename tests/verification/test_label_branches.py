"""A label's packets take a branch: ids and label_filter on servers, the branches wherever they run.

Oracle: the reference interpreter of the unsplit graph.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_equivalence import assert_equivalent

from orchestrator.graph import load_graph, load_topology

pytestmark = pytest.mark.slow

SIGNATURES = [
    {"id": 1, "content": "0123", "protocol": "udp", "action": "alert", "label": 7},
    {"id": 2, "content": "cdef", "protocol": "tcp", "action": "alert", "label": 9},
]
RULES = [{"label": 7, "port": "scrub"}, {"label": 9, "port": "trap"}]


def graph(between: dict[str, Any]) -> dict[str, Any]:
    """What carries a signature is scrubbed, or comes to a honeypot; `between` ids and filter."""
    way = ["ids", *between, "sort"]
    edges = [("in", "ids.inside")]
    edges += [(f"{a}.outside", f"{b}.inside") for a, b in pairwise(way)]
    edges += [("sort.outside", "out"), ("sort.scrub", "strict.inside"), ("strict.outside", "out")]
    edges += [("sort.trap", "pot"), ("out", "sort.outside"), ("sort.inside", f"{way[-2]}.outside")]
    edges += [(f"{b}.inside", f"{a}.outside") for a, b in pairwise(way[:-1])]
    return {
        "name": "labels",
        "endpoints": {
            "in": {"hosts": ["h1", "h2"]}, "out": {"hosts": ["h3"]}, "pot": {"hosts": ["h4"]},
        },
        "nfs": {
            "ids": {"type": "ids", "config": {"signatures": SIGNATURES}},
            **between,
            "sort": {"type": "label_filter", "config": {"rules": RULES}},
            "strict": {
                "type": "acl",
                "config": {"rules": [{"dst_port": "0-1023", "action": "permit"}], "default": "deny"},
            },
        },
        "edges": [{"from": a, "to": b} for a, b in [*edges, ("ids.inside", "in")]],
        "traffic": [
            {"name": "up", "from": "in", "to": "out", "rate": "10Mbit/s"},
            {"name": "down", "from": "out", "to": "in", "rate": "10Mbit/s"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "between", [{}, {"mon": {"type": "flow_monitor"}}], ids=["next", "between"]
)
def test_labels_branch_as_in_the_unsplit_graph(between: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph(between)))
    driver = assert_equivalent(load_graph(file).graph, load_topology("leaf-spine"), 1200, seed=4)
    assert driver.delivered > 50
