"""Verdicts where an update gave a path's number another meaning: either version's way is honest.

Oracle: the ways, spelled out. Blind spot: what bundles really intend (tests/verification).
"""

from __future__ import annotations

import pytest
from provider import manifest

from orchestrator.verification.intended import Intended, IntendedCall, WorkerExit
from orchestrator.verification.trajectories import Trajectory
from orchestrator.verification.verdicts import Told, judge
from servernf.wire.records import Record, RecordKind, point_id

IN, BACK, NEWER = 7 << 8 | 252, 8 << 8 | 251, 9 << 8 | 251
SWITCH, WORKER = point_id("s1"), point_id("server1.1")
SWITCH_MAC, WORKER_MAC = 0x02_00_00_01_00_00, 0x02_00_00_05_00_01
FIREWALL, ROUTES = IntendedCall("g/firewall", "inside"), IntendedCall("g/routes", "in")


def meant() -> Intended:
    """The older version has packets leave behind the firewall, the newer has a router there."""
    return Intended(
        "g",
        {(WORKER, IN): [FIREWALL]},
        {
            (WORKER, IN, FIREWALL.nf, "out"): [WorkerExit(SWITCH_MAC, BACK), ROUTES],
            (WORKER, IN, ROUTES.nf, "out"): [
                WorkerExit(SWITCH_MAC, BACK),
                WorkerExit(SWITCH_MAC, NEWER),
            ],
        },
        frozenset({(SWITCH, BACK), (SWITCH, NEWER)}),
        {},
        {SWITCH_MAC: SWITCH, WORKER_MAC: WORKER},
        {SWITCH: "s1", WORKER: "server1.1"},
    )


def packet(calls: list[IntendedCall], back: int | None) -> Trajectory:
    """Of a packet that the NFs had, and that came back to the switch by a path."""
    to_worker = f"{WORKER_MAC:012x}"
    mac = ":".join(to_worker[at : at + 2] for at in range(0, 12, 2))
    records = [
        Record(RecordKind.ENTRY, SWITCH, 1, 0, label=1),
        Record(RecordKind.OUT, SWITCH, 1, 1, label=1, port_out=f"{mac} {IN >> 8}/{IN & 255}"),
    ]
    for call in calls:
        of = {"label": 1, "path": IN, "nf": call.nf}
        number = len(records)
        records.append(Record(RecordKind.IN, WORKER, 1, number, port_in=call.port, **of))
        records.append(Record(RecordKind.OUT, WORKER, 1, number + 1, port_out="out", **of))
    if back is not None:
        records.append(Record(RecordKind.HOP, SWITCH, 1, 2, label=1, path=back))
        records.append(Record(RecordKind.EXIT, SWITCH, 1, 3, label=1, path=back))
    return Trajectory((1, 0), tuple(records))


def findings(trajectory: Trajectory) -> list[str]:
    agreed = manifest(1.0).model_copy(update={"points": ("s1", "server1.1"), "loss_bound": 0.0})
    told = Told(trajectory.records, (), ())
    return [finding.what for finding in judge([trajectory], told, meant(), agreed).findings]


@pytest.mark.parametrize(
    ("calls", "back"),
    [([FIREWALL], BACK), ([FIREWALL, ROUTES], BACK), ([FIREWALL, ROUTES], NEWER)],
)
def test_a_way_of_either_version_is_honest(calls: list[IntendedCall], back: int) -> None:
    assert findings(packet(calls, back)) == []


def test_what_no_version_has_is_told() -> None:
    other = IntendedCall("g/other", "in")
    assert findings(packet([other], BACK)) == ["'g/firewall' was to have it next"]
    assert findings(packet([FIREWALL, other], BACK)) != []
    assert findings(packet([FIREWALL], NEWER)) != []
    assert findings(packet([FIREWALL, ROUTES], None)) == [
        "packets vanish, most of them behind server1.1"
    ]
