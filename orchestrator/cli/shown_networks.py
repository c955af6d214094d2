"""What of a network is there and answers, as `net status` tells it.

A module of its own, since most of it asks devices: who has no network needs none of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.presence import look
from orchestrator.emulation import NetworkStatus, net_status
from orchestrator.emulation.facilities import EmulatedFacilities
from orchestrator.emulation.state import inventory_of
from orchestrator.network.folders import list_inventories, list_networks
from orchestrator.network.inventory import Inventory, load_inventory
from orchestrator.observation.conditions import links_down


@dataclass(frozen=True, slots=True)
class ShownNetwork:
    """Of one network: its components in words and as JSON, what is down, and what does not answer."""

    name: str
    health: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    components: tuple[Mapping[str, object], ...]
    dead: frozenset[tuple[object, ...]]
    """Of the rows."""
    links_down: tuple[str, ...]
    silent: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """What `--json` prints of it."""
        return {
            "name": self.name,
            "health": self.health,
            "components": self.components,
            "links_down": self.links_down,
            "silent": self.silent,
        }


def shown_network(name: str) -> ShownNetwork:
    """Of one network; NetworkError when there is none of that name."""
    if name in list_inventories() and name not in list_networks():
        return _of_attached(load_inventory(name))
    (status,) = net_status(name)
    return _of_started(status)


def _of_started(status: NetworkStatus) -> ShownNetwork:
    silent: tuple[str, ...] = ()
    if status.health not in ("starting", "crashed"):
        facilities = EmulatedFacilities(status.state)
        network = LiveNetwork(inventory_of(status.state), facilities=facilities)
        silent = tuple(look(network).silent.words())
    rows = tuple((c.kind, c.name, c.pid, "yes" if c.alive else "NO") for c in status.components)
    return ShownNetwork(
        status.state.name,
        status.health,
        ("kind", "name", "pid#", "alive"),
        rows,
        tuple(asdict(component) for component in status.components),
        frozenset(row for row in rows if row[-1] != "yes"),
        tuple(status.links_down),
        silent,
    )


def _of_attached(inventory: Inventory) -> ShownNetwork:
    """Also of one in memory; links as a watch knows them, while one runs."""
    network = LiveNetwork(inventory)
    rows = tuple(_addresses(inventory))
    silent = look(network).silent
    dead = {*silent.devices, *map(network.worker_name, silent.cores)}
    columns = ("kind", "name", "address")
    return ShownNetwork(
        inventory.name,
        "in memory" if inventory.hosts else "attached",
        columns,
        rows,
        tuple(dict(zip(columns, row, strict=True)) for row in rows),
        frozenset(row for row in rows if row[1] in dead),
        tuple(links_down(inventory).values()),
        tuple(silent.words()),
    )


def _addresses(inventory: Inventory) -> Iterator[tuple[str, str, str]]:
    for device, pipeline in inventory.pipelines.items():
        yield inventory.devices[device].kind, device, pipeline.address
    for server, address in inventory.agents.items():
        yield "agent", server, address
    for worker in inventory.workers:
        yield "worker", worker.name, worker.address
