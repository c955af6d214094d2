"""Whether a compiled graph does what the unsplit one does: packet by packet, state kept (oracle 1).

The reference interpreter runs the original graph NF by NF; the bundle runs on a network in memory.
"""

from __future__ import annotations

from orchestrator.deployment.minimise import Minimal, SystemPair, minimise
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.oracle import Driver, campaign


def compare(
    graph: ServiceGraph, topology: Topology, bundle: Bundle, packets: int, *, seed: int = 1
) -> Driver:
    """Send about `packets` packets (random, rule corners, whole connections) through both.

    The driver's `differences` are empty when the bundle is equivalent as the graph's NFs define it.
    """
    pair = SystemPair(graph, topology, bundle)
    driver = Driver([pair.expected, pair.actual], pair.comparator, seed=seed)
    driver.run(campaign(graph, topology, seed), packets)
    return driver


def smallest(graph: ServiceGraph, topology: Topology, driver: Driver) -> Minimal | None:
    """The driver's first difference with the fewest packets and rules that show it."""
    from orchestrator.compile import CompileRequest, compile_graph

    first = driver.differences[0]
    return minimise(
        graph,
        topology,
        driver.sent[: first.number],
        lambda tried: compile_graph(CompileRequest(tried, topology)).bundle,
    )
