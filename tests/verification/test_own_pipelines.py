"""Graphs on pipelines that p4c made for them, in memory, against the reference; and through a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.bundle.codec import dump, load
from orchestrator.compile import CompileRequest
from orchestrator.compile_specialised import compile_specialised
from orchestrator.deployment.equivalence import compare
from orchestrator.graph import load_graph, load_topology
from orchestrator.resources import shipped
from orchestrator.targets.pipelines import sizes_of
from orchestrator.targets.v1model import COMPILER

pytestmark = pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} is not installed")
LLDP = {
    "name": "second",
    "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
    "nfs": {
        "edge_acl": {
            "type": "acl",
            "config": {"rules": [{"ether_type": "0x88cc", "action": "permit"}]},
        }
    },
    "edges": [
        {"from": "inside", "to": "edge_acl.inside"},
        {"from": "edge_acl.outside", "to": "outside"},
    ],
    "traffic": [
        {
            "name": "lldp",
            "from": "inside",
            "to": "outside",
            "match": {"ether_type": "0x88cc"},
            "rate": "1Mbit/s",
        }
    ],
}


@pytest.mark.parametrize("example", ["campus_edge", "web_service", "branch_office"])
def test_a_graph_on_its_own_pipeline_is_the_reference(example: str) -> None:
    graph = load_graph(Path(shipped("examples")) / example / "graph.json").graph
    topology = load_topology("leaf-spine")
    compiled = compile_specialised(CompileRequest(graph, topology))
    bundle = load(dump(compiled.bundle), "bundle")
    (build,) = bundle.builds
    assert build.name.startswith("specialised-")
    instances = {slot.instance for slot in build.slots}
    assert all(any(nf in name for nf in graph.nfs) for name in instances)
    driver = compare(graph, topology, bundle, 2000)
    assert not driver.differences, "\n".join(map(str, driver.differences[:3]))
    assert driver.delivered > 100


def test_the_tables_of_graphs_that_are_there_stay(tmp_path: Path) -> None:
    topology = load_topology("leaf-spine")
    first = load_graph(Path(shipped("examples")) / "campus_edge" / "graph.json").graph
    (tmp_path / "graph.json").write_text(json.dumps(LLDP))
    second = load_graph(tmp_path / "graph.json").graph
    there = compile_specialised(CompileRequest(first, topology)).bundle
    both = compile_specialised(CompileRequest(second, topology, graph_id=2), (there,)).bundle
    sizes = sizes_of(*both.builds)
    for bundle in (there, both):
        for tables in bundle.entries_by_table().values():
            assert all(sizes[table] >= count for table, count in tables.items())
    used = {t.split(".")[0] for tables in both.entries_by_table().values() for t in tables}
    assert "nf_edge_acl" in used, (
        "the second graph's NF of the same name has an instance of its own"
    )
    assert "edge_acl" not in used
