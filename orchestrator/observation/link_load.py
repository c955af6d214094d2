"""How much crosses each link at most: the plans' paths, at the rates that the ingresses admit now.

Nobody counts frames on links. A plan says which ways a graph's packets may take, and reserves for each
way all that may come there; of that, as much as the graph's traffics are admitted of what they offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.model.bundle import Bundle
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.observation.slo import TrafficState


@dataclass(frozen=True, slots=True)
class GraphCrossing:
    """Packets of a graph that cross a link between two devices of it, bit/s as planned."""

    graph: str
    source: str
    target: str
    rate: int


@dataclass(frozen=True, slots=True)
class LinkLoad:
    """One direction of a link, bit/s: planned, and how much of that is admitted now (None: unknown)."""

    link: str
    source: str
    target: str
    capacity: int
    planned: int
    admitted: float | None
    crossings: tuple[GraphCrossing, ...]


def link_loads(
    topology: Topology, bundles: Iterable[Bundle], states: Iterable[TrafficState]
) -> list[LinkLoad]:
    """The directions of links between devices that packets of these graphs may take."""
    fabric = Fabric(topology)
    crossings: dict[tuple[str, str], dict[GraphCrossing, None]] = {}
    for bundle in bundles:
        for hop in bundle.plan.hops:
            for pair in pairwise(fabric.path(hop.source, hop.target, hop.tree)):
                crossing = GraphCrossing(bundle.graph, hop.source, hop.target, hop.rate)
                crossings.setdefault(pair, {})[crossing] = None
    share = _shares(states)
    return [_load(fabric, pair, tuple(crossings[pair]), share) for pair in sorted(crossings)]


def _load(
    fabric: Fabric,
    pair: tuple[str, str],
    crossings: tuple[GraphCrossing, ...],
    share: Mapping[str, float],
) -> LinkLoad:
    link = fabric.link(*pair)
    rates_known = all(c.graph in share for c in crossings)
    admitted = sum(c.rate * share[c.graph] for c in crossings) if rates_known else None
    planned = sum(c.rate for c in crossings)
    name = f"{link.a}-{link.b}"
    return LinkLoad(name, *pair, link.capacity, planned, admitted, crossings)


def _shares(states: Iterable[TrafficState]) -> dict[str, float]:
    """Graph -> what is admitted of what its traffics offer; without graphs whose rates are not known."""
    sums: dict[str, tuple[float, int]] = {}
    for state in states:
        if state.bits_per_second is not None and state.offered_rate:
            admitted, offered = sums.get(state.graph, (0.0, 0))
            sums[state.graph] = (admitted + state.bits_per_second, offered + state.offered_rate)
    return {graph: admitted / offered for graph, (admitted, offered) in sums.items()}
