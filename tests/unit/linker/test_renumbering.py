"""A bundle under another graph id. Oracle: the compiler, told that id."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import campus, compiled

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.graph import load_graph
from orchestrator.linker.renumbering import renumbered
from orchestrator.placement.topologies import resolve_topology

pytestmark = pytest.mark.slow

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/graph.json"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_examples(file: Path) -> None:
    graph, topology = load_graph(file).graph, resolve_topology("leaf-spine")
    as_1 = compile_graph(CompileRequest(graph, topology, graph_id=1)).bundle
    as_700 = compile_graph(CompileRequest(graph, topology, graph_id=700)).bundle
    assert renumbered(as_1, 700) == as_700
    assert renumbered(as_700, 1) == as_1
    assert as_1.programs != as_700.programs


def test_its_own_number_changes_nothing() -> None:
    bundle = compiled(campus(), graph_id=5).bundle
    assert renumbered(bundle, 5) is bundle
