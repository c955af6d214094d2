"""The oracle: the unsplit graph, interpreted NF by NF, against the whole bundle in memory.

Packets: random ones, the corners of every rule and prefix, whole TCP connections. Blind spots: real
sockets and timing (tests/emulated), BMv2 (tests/p4 compares it with the softswitch).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from networks import with_nics

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.oracle import Driver, PacketDifference
from orchestrator.resources import shipped


def assert_equivalent(
    graph: ServiceGraph,
    topology: Topology,
    packets: int,
    *,
    seed: int = 1,
    forgive: Callable[[PacketDifference], bool] = lambda _: False,
) -> Driver:
    """Run a campaign on both; fail with the first differences that nothing forgives, in words."""
    bundle = compile_graph(CompileRequest(graph, topology)).bundle
    driver = compare(graph, topology, bundle, packets, seed=seed)
    told = [
        f"{difference}\n    {difference.frame.hex()}"
        for difference in driver.differences
        if not forgive(difference)
    ][:5]
    assert not told, "\n".join(told)
    return driver


@pytest.mark.parametrize(
    ("example", "topology", "packets"),
    [
        ("campus_edge", "leaf-spine", 5_000),
        pytest.param("campus_edge", "leaf-spine", 20_000, marks=pytest.mark.exhaustive),
        ("campus_edge", "single", 3_000),
        ("web_service", "leaf-spine", 5_000),
        ("branch_office", "leaf-spine", 5_000),
        ("branch_office", "single", 2_000),
        ("service_edge", "leaf-spine", 5_000),
        ("service_edge", "single", 2_000),
    ],
)
def test_bundle_in_memory_equals_the_unsplit_graph(
    example: str, topology: str, packets: int
) -> None:
    graph = load_graph(Path(shipped("examples")) / example / "graph.json").graph
    driver = assert_equivalent(graph, load_topology(topology), packets)
    assert driver.packets >= packets
    assert driver.delivered > packets // 20, "hardly anything was delivered: nothing was compared"


def test_parts_on_smartnics_equal_the_unsplit_graph(tmp_path: Path) -> None:
    """The access list is on NICs, which no switch has room for; all cores have ports of their own."""
    graph = load_graph(Path(shipped("examples")) / "campus_edge" / "graph.json").graph
    topology = load_topology(with_nics(tmp_path, 100))
    bundle = compile_graph(CompileRequest(graph, topology)).bundle
    assert {s.device for s in bundle.stories if s.unit.startswith("edge_acl.")} == {"server1-nic"}
    driver = assert_equivalent(graph, topology, 3_000)
    assert driver.delivered > 150
