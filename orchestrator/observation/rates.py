"""What traffics really offer: rates from two readings of a network's counters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from orchestrator.errors import NetworkError
from orchestrator.observation.health import Reading


@dataclass(frozen=True, slots=True)
class MeasuredTraffic:
    """A traffic between two readings: bit/s, and bytes of its mean frame (0 without frames)."""

    rate: int
    packet_bytes: int


def measured_rates(before: Reading, after: Reading) -> dict[tuple[str, str], MeasuredTraffic]:
    """(graph, traffic) -> what was admitted at all ingress switches, per second.

    Counters belong to entries: a traffic that was installed anew in between counts from its start.
    NetworkError names a switch that could not be read: its traffic would be missing in the sums.
    """
    for switch in (*before.devices, *after.devices):
        if switch.problem:
            raise NetworkError(f"rates cannot be measured: {switch.name}: {switch.problem}")
    first = {switch.name: switch for switch in before.devices}
    packets: dict[tuple[str, str], int] = defaultdict(int)
    octets: dict[tuple[str, str], int] = defaultdict(int)
    rate: dict[tuple[str, str], float] = defaultdict(float)
    for switch in after.devices:
        earlier = first.get(switch.name)
        if earlier is None or switch.at <= earlier.at:
            raise NetworkError(f"rates cannot be measured: {switch.name} was read only once")
        for key, now in switch.traffic.items():
            then = earlier.traffic.get(key, (0, 0))
            if now[0] < then[0]:
                then = (0, 0)
            packets[key] += now[0] - then[0]
            octets[key] += now[1] - then[1]
            rate[key] += (now[1] - then[1]) * 8 / (switch.at - earlier.at)
    return {
        key: MeasuredTraffic(
            round(rate[key]), round(octets[key] / packets[key]) if packets[key] else 0
        )
        for key in packets
    }
