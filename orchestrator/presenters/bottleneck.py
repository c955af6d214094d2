"""What `orchestrator bottleneck` tells: two readings of a network, and where packets waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from orchestrator.deployment.live import LiveNetwork
from orchestrator.model.topology import Topology
from orchestrator.observation.bottleneck import Bottleneck, bottlenecks
from orchestrator.observation.health import Reading
from orchestrator.observation.link_load import link_loads
from orchestrator.observation.load import core_loads, switch_loads
from orchestrator.observation.slo import traffic_states
from orchestrator.presenters.load import two_readings


def found_now(live: LiveNetwork, interval_s: float) -> list[Bottleneck]:
    """From a reading, another one so many seconds later."""
    return found_between(live.topology, *two_readings(live, interval_s))


def found_between(topology: Topology, before: Reading, now: Reading) -> list[Bottleneck]:
    """What limits traffics between two readings."""
    bundles = [graph.bundle for graph in now.deployed.values()]
    return bottlenecks(
        core_loads(now, before),
        switch_loads(topology, now, before),
        link_loads(topology, bundles, traffic_states(now, before)),
        bundles,
        {server.name: server.runtime for server in topology.servers.values()},
    )


def bottleneck_json(network: str, narrowest: Sequence[Bottleneck]) -> dict[str, object]:
    """All of it."""
    return {"network": network, "bottlenecks": [asdict(one) for one in narrowest]}
