"""The conditions of devices in words and JSON, the same in `status` and `top`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict

from orchestrator.model.devices import Device
from orchestrator.network.inventory import Inventory
from orchestrator.observation.liveness import Condition, Subject
from orchestrator.observation.watcher import subject_of


def condition_words(condition: Condition | None) -> str:
    """`up`, or `down since 12:30:01: why`."""
    if condition is None:
        return "unknown"
    if condition.state == "up":
        return "up"
    since = time.strftime("%H:%M:%S", time.localtime(condition.since))
    why = f": {condition.why}" if condition.why else ""
    return f"{condition.state} since {since}{why}"


def badness(condition: Condition | None) -> int:
    """How bad a condition is: 0 for up, most for down."""
    return 1 if condition is None else {"up": 0, "suspect": 2, "down": 3}[condition.state]


def device_badness(
    device: Device, inventory: Inventory, conditions: Mapping[Subject, Condition]
) -> int:
    """That of a device's condition; of a server the worst of its workers'."""
    if device.has_pipeline:
        return badness(conditions.get(subject_of(device)))
    mine = [w.name for w in inventory.workers if w.core.server == device.name]
    return max((badness(conditions.get(Subject("worker", name))) for name in mine), default=0)


def device_words(
    device: Device, inventory: Inventory, conditions: Mapping[Subject, Condition]
) -> str:
    """A device's condition; of a server those of its workers."""
    if device.has_pipeline:
        return condition_words(conditions.get(subject_of(device)))
    mine = [w for w in inventory.workers if w.core.server == device.name]
    of_workers = {w.name: conditions.get(Subject("worker", w.name)) for w in mine}
    up = sum(c is not None and c.state == "up" for c in of_workers.values())
    others = [
        f"{n} {condition_words(c)}" for n, c in of_workers.items() if c is None or c.state != "up"
    ]
    return "; ".join([f"{up} of {len(mine)} workers up" if mine else "no workers", *others])


def links_amiss(conditions: Mapping[Subject, Condition]) -> list[tuple[str, str]]:
    """Links that are not up, and their conditions in words; the worst first."""
    amiss = [(s, c) for s, c in conditions.items() if s.kind == "link" and c.state != "up"]
    amiss.sort(key=lambda pair: (-badness(pair[1]), pair[0]))
    return [(subject.name, condition_words(condition)) for subject, condition in amiss]


def conditions_json(conditions: Mapping[Subject, Condition]) -> list[dict[str, object]]:
    """One object each."""
    return [{**asdict(s), **asdict(conditions[s])} for s in sorted(conditions)]
