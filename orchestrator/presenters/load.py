"""How busy a network is between two readings, as `orchestrator status --load` tells it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from orchestrator.deployment.live import LiveNetwork
from orchestrator.observation.health import Reading, read_network
from orchestrator.observation.load import CoreLoad, SwitchLoad, core_loads, switch_loads


@dataclass(frozen=True, slots=True)
class NetworkLoad:
    """Of the devices that answered both times."""

    seconds: float
    switches: Sequence[SwitchLoad]
    cores: Sequence[CoreLoad]


def two_readings(live: LiveNetwork, interval_s: float) -> tuple[Reading, Reading]:
    """A reading, and another one so many seconds later."""
    before = read_network(live)
    time.sleep(interval_s)
    return before, read_network(live, before=before)


def load_over(live: LiveNetwork, interval_s: float) -> NetworkLoad:
    """What two readings tell."""
    before, now = two_readings(live, interval_s)
    switches = switch_loads(live.topology, now, before)
    return NetworkLoad(now.at - before.at, switches, core_loads(now, before))


def load_json(load: NetworkLoad) -> dict[str, object]:
    """All of it."""
    return {
        "seconds": load.seconds,
        "switches": [{**asdict(one), "share": one.share} for one in load.switches],
        "cores": [asdict(one) for one in load.cores],
    }
