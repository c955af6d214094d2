"""How commands find their network."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.errors import InputError, NetworkError

if TYPE_CHECKING:
    from orchestrator.deployment.live import LiveNetwork

_VARIABLE = "ORCHESTRATOR_NETWORK"
_HELP = "Name of a running network; the only one if left out."
NetworkName = Annotated[str, typer.Option("--network", "-n", envvar=_VARIABLE, help=_HELP)]
NetworkArgument = Annotated[
    str, typer.Argument(metavar="[NETWORK]", help="The network, as --network.", show_default=False)
]
"""Of commands that are about a network and nothing else."""

MEMORY = "memory"
"""The network in memory that `deploy` starts if it does not run."""


def said(argument: str, option: str) -> str:
    """A network's name by NETWORK or --network; an argument goes before the environment."""
    if argument and option not in ("", argument, os.environ.get(_VARIABLE)):
        raise InputError(f"two networks: {argument} and --network {option}")
    return argument or option


def name_of(asked: str) -> str:
    """The name of the network that --network says: memory:TOPOLOGY is memory-(the topology's name)."""
    if not asked.startswith(f"{MEMORY}:"):
        return asked
    from orchestrator.placement.topologies import resolve_topology

    return f"{MEMORY}-{resolve_topology(asked.partition(':')[2]).name}"


def only(names: list[str]) -> str:
    """The only one of networks' names; NetworkError if there are others, or none."""
    if len(names) != 1:
        running = ", ".join(names) or "none"
        raise NetworkError(f"say which network with --network NAME (running: {running})")
    return names[0]


def networks_here() -> list[str]:
    """All networks that were started or attached, whether they came up or not."""
    from orchestrator.emulation import list_networks
    from orchestrator.network.inventory import list_inventories

    return sorted({*list_networks(), *list_inventories()})


def find_network(name: str) -> LiveNetwork:
    """The named network, or the only one that there is."""
    from orchestrator.deployment.live import LiveNetwork
    from orchestrator.emulation.facilities import facilities_of
    from orchestrator.network.inventory import list_inventories, load_inventory
    from orchestrator.observation.conditions import links_down

    inventory = load_inventory(name_of(name) or only(list_inventories()))
    return LiveNetwork(
        inventory,
        facilities=facilities_of(inventory.name),
        links_down=lambda: links_down(inventory),
    )
