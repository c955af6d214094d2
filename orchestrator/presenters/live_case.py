"""What `whatif --live` starts from: the deployed placement, at the rates that switches measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.deployment.cordoning import cordon_of
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.specialising import builds_of, with_pipelines
from orchestrator.errors import InputError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.observation.health import read_network
from orchestrator.observation.load import CoreLoad, core_loads
from orchestrator.observation.rates import MeasuredTraffic, measured_rates
from orchestrator.placement.resources import used_by
from orchestrator.targets.pipelines import Pipelines
from orchestrator.whatif.scenarios import Case


@dataclass(frozen=True, slots=True)
class LiveCase:
    """A case with where its tasks run, on how many workers its pools do, and what was measured."""

    case: Case
    running: dict[str, str] = field(default_factory=dict[str, str])
    workers: dict[str, int] = field(default_factory=dict[str, int])
    measured: dict[str, int] = field(default_factory=dict[str, int])
    """bit/s by traffic (with its graph's name before it where there are several graphs)."""
    cores: tuple[CoreLoad, ...] = ()
    """Of those that run the graphs, meanwhile."""


def live_case(
    graphs: Sequence[ServiceGraph], live: LiveNetwork, interval_s: float, *, measure: bool = True
) -> LiveCase:
    """Two readings of the network, `interval_s` apart; its other graphs keep what they hold."""
    if interval_s <= 0:
        raise InputError(f"--interval {interval_s:g}: must be above 0")
    reading = read_network(live)
    bundles = {name: one.bundle for name, one in reading.deployed.items()}
    missing = [g.name for g in graphs if g.name not in bundles]
    if missing:
        names = ", ".join(bundles) or "none"
        raise InputError(
            f"whatif --live: {', '.join(missing)} is not deployed on {live.name} (deployed: {names})"
        )
    rates: dict[tuple[str, str], MeasuredTraffic] = {}
    loads: tuple[CoreLoad, ...] = ()
    if measure:
        time.sleep(interval_s)
        later = read_network(live)
        rates = measured_rates(reading, later)
        asked = {c.name for c in later.cores if {g.name for g in graphs} & {*c.graphs}}
        loads = tuple(load for load in core_loads(later, reading) if load.name in asked)
        graphs = [_measured(graph, rates) for graph in graphs]
    prefixes = {g.name: f"{g.name}/" if len(graphs) > 1 else "" for g in graphs}
    running: dict[str, str] = {}
    workers: dict[str, int] = {}
    for name, prefix in prefixes.items():
        _deployed(bundles[name], prefix, running, workers)
    others = {name: bundle for name, bundle in bundles.items() if name not in prefixes}
    used = used_by(others, live.topology)
    topology = with_pipelines(live.topology, reading.deployed)
    made = Pipelines.of(builds_of(reading.deployed))
    cordon = cordon_of(live)
    case = Case(tuple(graphs), None, topology, used=used, builds=made, cordon=cordon)
    return LiveCase(
        case,
        running,
        workers,
        {prefixes[g] + t: one.rate for (g, t), one in rates.items() if g in prefixes},
        loads,
    )


def _deployed(
    bundle: Bundle, prefix: str, running: dict[str, str], workers: dict[str, int]
) -> None:
    """Devices of a deployed graph's units, and worker counts of its groups."""
    running |= {prefix + unit: switch for unit, switch in bundle.plan.device_of.items()}
    servers = {w.server: None for w in bundle.workers}
    for story in bundle.stories:
        if story.kind == "server":
            home = next((s for s in servers if story.device.startswith(f"{s} ")), "")
            if home:
                running[prefix + story.unit] = home
    for index, cores in enumerate(bundle.plan.cores_of):
        workers[f"{prefix}group{index}"] = len(cores)


def _measured(
    graph: ServiceGraph, rates: Mapping[tuple[str, str], MeasuredTraffic]
) -> ServiceGraph:
    """The graph with measured rates and packet sizes; an SLO asks for no more than that."""

    def changed(traffic: Traffic) -> Traffic:
        measured = rates.get((graph.name, traffic.name))
        if measured is None:
            return traffic
        rate = max(1, measured.rate)
        least = None if traffic.min_rate is None else min(traffic.min_rate, rate)
        size = measured.packet_bytes or traffic.packet_bytes
        return replace(traffic, rate=rate, min_rate=least, packet_bytes=size)

    return replace(graph, traffic=tuple(changed(t) for t in graph.traffic))
