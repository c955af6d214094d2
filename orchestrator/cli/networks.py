"""How commands find their network."""

from __future__ import annotations

from orchestrator.deployment.live import LiveNetwork
from orchestrator.emulation.facilities import facilities_of
from orchestrator.errors import NetworkError
from orchestrator.network.folders import list_inventories, list_networks
from orchestrator.network.inventory import load_inventory
from orchestrator.observation.conditions import links_down
from orchestrator.placement.topologies import resolve_topology

MEMORY = "memory"
"""The network in memory that `deploy` starts if it does not run."""


def name_of(asked: str) -> str:
    """The name of the network that --network says: memory:TOPOLOGY is memory-(the topology's name)."""
    if not asked.startswith(f"{MEMORY}:"):
        return asked

    return f"{MEMORY}-{resolve_topology(asked.partition(':')[2]).name}"


def only(names: list[str]) -> str:
    """The only one of networks' names; NetworkError if there are others, or none."""
    if len(names) != 1:
        running = ", ".join(names) or "none"
        raise NetworkError(f"say which network with --network NAME (running: {running})")
    return names[0]


def networks_here() -> list[str]:
    """All networks that were started or attached, whether they came up or not."""
    return sorted({*list_networks(), *list_inventories()})


def find_network(name: str) -> LiveNetwork:
    """The named network, or the only one that there is."""
    inventory = load_inventory(name_of(name) or only(list_inventories()))
    return LiveNetwork(
        inventory,
        facilities=facilities_of(inventory.name),
        links_down=lambda: links_down(inventory),
    )
