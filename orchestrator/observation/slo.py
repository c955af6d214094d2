"""Each traffic against its SLO: what was asked, what was planned, what is measured.

The rate is what the ingress switches admit (so a traffic of which less is offered than its SLO promises
is below its target without anybody's fault). The latency is that of sampled packets within the servers,
by one worker's clock; what the way between devices adds is only planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from orchestrator.observation.health import Reading


@dataclass(frozen=True, slots=True)
class TrafficState:
    """A traffic now; None is what nobody asked for, or what is not known."""

    graph: str
    owner: str
    traffic: str
    bits_per_second: float | None
    offered_rate: int | None
    """What the graph says will be offered, bit/s."""
    min_rate: int | None
    rate_met: bool | None
    planned_latency_us: int | None
    server_latency_us: int | None
    """Of 99 % of the graph's sampled packets since the reading before, in servers."""
    max_latency_us: int | None
    latency_met: bool | None
    idle: bool = False
    """No packet has come since the reading before: nothing is met, and nothing missed."""


def traffic_states(now: Reading, before: Reading | None) -> list[TrafficState]:
    """Every traffic of every deployed graph."""
    rates = _rates(now, before)
    rows: list[TrafficState] = []
    for deployed in now.deployed.values():
        bundle = deployed.bundle
        seen = (traffic for graph, traffic in rates if graph == bundle.graph)
        server = percentile(
            [us for core in now.cores for us in core.latencies_us.get(bundle.graph, ())], 0.99
        )
        for name in dict.fromkeys((*bundle.slos, *bundle.plan.latency_us, *seen)):
            slo = bundle.slos.get(name)
            rate = rates.get((bundle.graph, name), 0.0) if before is not None else None
            lowest = slo.min_rate if slo else None
            highest = slo.max_latency_us if slo else None
            planned = bundle.plan.latency_us.get(name)
            # The plan counts the servers' share, too: what is measured takes the place of none of it.
            latency = max((us for us in (planned, server) if us is not None), default=None)
            idle = rate == 0 and server is None
            if server is None and not rate:
                latency = None  # what is planned is not met by itself
            rows.append(
                TrafficState(
                    bundle.graph,
                    bundle.owner,
                    name,
                    rate,
                    slo.rate if slo else None,
                    lowest,
                    None if rate is None or lowest is None or idle else rate >= lowest,
                    planned,
                    server,
                    highest,
                    None if latency is None or highest is None else latency <= highest,
                    idle,
                )
            )
    return rows


def percentile(values: Sequence[int], share: float) -> int | None:
    """The smallest value that so large a share of them does not exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _rates(now: Reading, before: Reading | None) -> dict[tuple[str, str], float]:
    """(graph, traffic) -> bit/s admitted; switches that do not answer count nothing."""
    earlier = {switch.name: switch for switch in before.devices} if before is not None else {}
    rates: dict[tuple[str, str], float] = {}
    for switch in now.devices:
        then = earlier.get(switch.name)
        for key, (_, octets) in switch.traffic.items():
            rates.setdefault(key, 0.0)
            if then is None or then.problem or switch.at <= then.at:
                continue
            old = then.traffic.get(key, (0, 0))[1]
            grown = octets - old if octets >= old else octets  # its entries were installed anew
            rates[key] += 8 * grown / (switch.at - then.at)
    return rates
