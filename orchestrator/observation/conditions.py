"""The conditions of devices as a watcher has left them for other commands, or as one look tells.

`reconcile --watch` writes them beside the network; a file that is not renewed says nothing any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError
from orchestrator.files import read_regular, replace_private
from orchestrator.model.away import Away
from orchestrator.model.devices import devices_of
from orchestrator.model.topology import Link
from orchestrator.network.inventory import Inventory
from orchestrator.observation.liveness import DOWN, UP, Condition, Subject
from orchestrator.observation.watcher import link_name, subject_of

_FILE = "conditions.json"
RENEWED_S = 1.0
"""How often a watcher writes them, at least."""
_FRESH_S = 10.0
_LARGEST = 16 << 20
_ROWS = TypeAdapter(list[tuple[Subject, Condition]])


def record(folder: str, conditions: Mapping[Subject, Condition]) -> None:
    """Leave them in a network's folder; times are seconds since 1970."""
    rows = [[asdict(subject), asdict(condition)] for subject, condition in conditions.items()]
    document = {"at": time.time(), "conditions": rows}
    replace_private(Path(folder) / _FILE, json.dumps(document).encode())


def forget(folder: str) -> None:
    """Nobody watches any more."""
    with suppress(OSError):  # the network's folder may be gone, too
        (Path(folder) / _FILE).unlink()


def recorded(folder: str) -> Mapping[Subject, Condition]:
    """What a watcher that runs knows; nothing when none does, or its file cannot be read."""
    path = Path(folder) / _FILE
    try:
        document = json.loads(read_regular(path, str(path), _LARGEST))
        if not 0 <= time.time() - document["at"] < _FRESH_S:
            return {}
        return dict(_ROWS.validate_python(document["conditions"]))
    except (InputError, ValueError, LookupError, TypeError, ValidationError):
        return {}


def links_down(inventory: Inventory) -> Mapping[Link, str]:
    """Links that a watcher that runs knows to be down, and why."""
    conditions = recorded(inventory.folder)
    return {
        link: f"{subject}: {condition.why}"
        for link in inventory.topology.links
        if (condition := conditions.get(subject := Subject("link", link_name(link))))
        and condition.state == DOWN
    }


def conditions_now(
    network: LiveNetwork, silent: Away, before: Mapping[Subject, Condition] | None = None
) -> Mapping[Subject, Condition]:
    """What a watcher that runs knows, else what was seen just now: all but the `silent` answered.

    `before` is what was seen before, so that it is known since when.
    """
    conditions = recorded(network.inventory.folder)
    return conditions or seen(_answers(network, silent), before or {}, time.time())


def of_devices(
    conditions: Mapping[Subject, Condition], inventory: Inventory, names: Collection[str]
) -> dict[Subject, Condition]:
    """Those of some devices, of their workers and of their links."""
    workers = {w.name for w in inventory.workers if w.core.server in names}
    links = {link_name(x) for x in inventory.topology.links if {x.a, x.b}.intersection(names)}
    mine = {"link": links, "worker": workers}
    return {
        s: condition for s, condition in conditions.items() if s.name in mine.get(s.kind, names)
    }


def _answers(network: LiveNetwork, silent: Away) -> dict[Subject, str]:
    """Why a device does not answer or a link is down, empty where all is well."""
    down, workers = network.links_down(), network.inventory.cores.items()
    devices = devices_of(network.topology)
    return {
        **{subject_of(devices[n]): silent.devices.get(n, "") for n in network.inventory.pipelines},
        **{Subject("worker", w.name): silent.cores.get(core, "") for core, w in workers},
        **{Subject("link", link_name(x)): down.get(x, "") for x in network.topology.links},
    }


def seen(
    answers: Mapping[Subject, str], before: Mapping[Subject, Condition], at: float
) -> dict[Subject, Condition]:
    """The conditions by one look: why there was no answer, empty for one; since when, if it is known."""
    conditions: dict[Subject, Condition] = {}
    for subject, why in answers.items():
        state = DOWN if why else UP
        last = before.get(subject)
        conditions[subject] = last if last and last.state == state else Condition(state, at, why)
    return conditions
