"""What traffics really offer: rates from two readings of a network's counters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from orchestrator.errors import NetworkError
from orchestrator.observation.health import Reading


@dataclass(frozen=True, slots=True)
class Measured:
    """A traffic between two readings: bit/s, and bytes of its mean frame (0 without frames)."""

    rate: int
    packet_bytes: int


def measured_rates(before: Reading, after: Reading) -> dict[tuple[str, str], Measured]:
    """(graph, traffic) -> what was admitted at all ingress switches, per second.

    Counters belong to entries: a traffic that was installed anew in between counts from its start.
    NetworkError names a switch that could not be read: its traffic would be missing in the sums.
    """
    for switch in (*before.switches, *after.switches):
        if switch.problem:
            raise NetworkError(f"rates cannot be measured: {switch.name}: {switch.problem}")
    seconds = after.at - before.at
    if seconds <= 0:
        raise NetworkError("rates cannot be measured: the clock did not move on")
    first = {(s.name, key): count for s in before.switches for key, count in s.traffic.items()}
    packets: dict[tuple[str, str], int] = defaultdict(int)
    octets: dict[tuple[str, str], int] = defaultdict(int)
    for switch in after.switches:
        for key, now in switch.traffic.items():
            then = first.get((switch.name, key), (0, 0))
            if now[0] < then[0]:
                then = (0, 0)
            packets[key] += now[0] - then[0]
            octets[key] += now[1] - then[1]
    return {
        key: Measured(
            round(octets[key] * 8 / seconds),
            round(octets[key] / packets[key]) if packets[key] else 0,
        )
        for key in packets
    }
