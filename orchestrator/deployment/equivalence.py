"""Whether a compiled graph does what the unsplit one does: packet by packet, state kept (oracle 1).

The reference interpreter runs the original graph NF by NF; the bundle runs on a network in memory.
"""

from __future__ import annotations

from orchestrator.deployment.apply import apply_bundle
from orchestrator.deployment.memory import MemoryNetwork
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Topology
from orchestrator.oracle import Comparator, Driver, ReferenceNetwork, campaign
from orchestrator.verification.manifest import new_manifest

STEP_US = 500
"""Virtual time between two packets."""


def compare(
    graph: ServiceGraph, topology: Topology, bundle: Bundle, packets: int, *, seed: int = 1
) -> Driver:
    """Send about `packets` packets (random, rule corners, whole connections) through both.

    The driver's `differences` are empty when the bundle is equivalent as the graph's NFs define it.
    """
    reference = ReferenceNetwork(graph, topology)
    network = MemoryNetwork(topology)
    apply_bundle(bundle, network, new_manifest(bundle.graph_id, 0.05), first=True)

    def expected(host: str, frame: bytes) -> list[tuple[str, bytes]]:
        reference.now_us += STEP_US
        return list(reference.send(host, frame))

    def actual(host: str, frame: bytes) -> list[tuple[str, bytes]]:
        network.advance(STEP_US)
        delivered = network.send(host, frame)
        if reference.for_network(host, Packet.parse(frame)):
            return []  # the network's own answer, which the reference leaves out
        return [(delivery.host, delivery.frame) for delivery in delivered]

    driver = Driver([expected, actual], Comparator(graph, topology), seed=seed)
    driver.run(campaign(graph, topology, seed), packets)
    return driver
