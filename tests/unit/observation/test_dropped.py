"""What `top` says NFs have dropped: entries that deny, and the workers' own counts."""

from __future__ import annotations

from orchestrator.observation.health import CoreReading, DeviceReading, Reading
from orchestrator.presenters.top import Dropped, dropped_by_nfs


def test_drops_of_switches_and_workers_the_most_first() -> None:
    nfs = {("g", "pol", "deny"): (7, 700), ("g", "pol", "police"): (90, 9000)}
    metrics = {
        "frames_in": 9, "drop.malformed": 3, "h/fw.packets": 50, "h/fw.drops": 12,
        "h/fw.drop.denied": 12, "h/fw~2.drops": 12, "h/nat.drops": 0,
    }  # fmt: skip
    reading = Reading(
        0.0,
        (DeviceReading("leaf1", "switch", "bmv2", nfs=nfs),),
        (CoreReading("server1", 1, ("h",), metrics=metrics),),
        {},
    )
    assert dropped_by_nfs(reading) == [
        Dropped(12, "h", "fw", "server1.2"),
        Dropped(7, "g", "pol", "leaf1"),
    ]
