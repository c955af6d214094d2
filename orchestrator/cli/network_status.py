"""`orchestrator net status`: networks that were started here or attached, and what of them answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.crowds import All, crowd, first_lines
from orchestrator.cli.options import SameNetwork, said
from orchestrator.cli.output import Json, print_json, print_table, say, warn
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.presence import look
from orchestrator.emulation import NetworkStatus, net_status
from orchestrator.emulation.facilities import EmulatedFacilities
from orchestrator.emulation.state import inventory_of
from orchestrator.model.away import Away
from orchestrator.network.inventory import list_inventories, load_inventory
from orchestrator.network.registry import is_started
from orchestrator.observation.conditions import links_down

Told = dict[str, object]


def register(net: typer.Typer) -> None:
    """Add this module's command to those on networks."""
    net.command("status", epilog="Example: orchestrator net status")(net_status_command)


def net_status_command(
    name: Annotated[str, typer.Argument(metavar="[NETWORK]", help="All if left out.")] = "",
    same: SameNetwork = "",
    everything: All = False,
    as_json: Json = False,
) -> None:
    """Show networks: processes and links of those started here, addresses of attached ones.

    And what does not answer.
    """
    name = said(name, same)
    others = [each for each in [name] * bool(name) or list_inventories() if not is_started(each)]
    attached = [each for each in others if each in list_inventories()]
    started = [] if name in attached else net_status(name or None)
    if as_json:
        print_json([*map(_started_json, started), *map(_attached_json, attached)])
        return
    for status in started:
        title, rows = crowd(
            f"Network {status.state.name}: {status.health}",
            ((c.kind, c.name, c.pid, "yes" if c.alive else "NO") for c in status.components),
            lambda row: row[-1] != "yes",
            everything,
        )
        print_table(title, ("kind", "name", "pid#", "alive"), rows)
        for line in first_lines((*status.links_down, *_silent_of_started(status)), everything):
            warn(line)
    for each in attached:
        network = _network(each)
        silent = _silent(network)
        dead = {*silent.devices, *map(network.worker_name, silent.cores)}
        title, rows = crowd(
            f"Network {each}: {_health(network)}",
            _rows(network),
            lambda row, dead=dead: row[1] in dead,
            everything,
        )
        print_table(title, ("kind", "name", "address"), rows)
        for line in first_lines([*_links_down(network), *silent.words()], everything):
            warn(line)
    if not started and not attached:
        say("no network is running")


def _started_json(status: NetworkStatus) -> Told:
    return {
        "name": status.state.name,
        "health": status.health,
        "components": [asdict(component) for component in status.components],
        "links_down": status.links_down,
        "silent": _silent_of_started(status),
    }


def _attached_json(name: str) -> Told:
    network = _network(name)
    return {
        "name": name,
        "health": _health(network),
        "components": [
            {"kind": kind, "name": device, "address": address}
            for kind, device, address in _rows(network)
        ],
        "links_down": _links_down(network),
        "silent": tuple(_silent(network).words()),
    }


def _health(network: LiveNetwork) -> str:
    return "in memory" if network.inventory.hosts else "attached"


def _network(name: str) -> LiveNetwork:
    return LiveNetwork(load_inventory(name))


def _links_down(network: LiveNetwork) -> tuple[str, ...]:
    """As a watch knows, while one runs."""
    return tuple(links_down(network.inventory).values())


def _rows(network: LiveNetwork) -> Iterator[tuple[str, str, str]]:
    inventory = network.inventory
    for device, pipeline in inventory.pipelines.items():
        yield inventory.devices[device].kind, device, pipeline.address
    for server, address in inventory.agents.items():
        yield "agent", server, address
    for worker in inventory.workers:
        yield "worker", worker.name, worker.address


def _silent(network: LiveNetwork) -> Away:
    """Switches and workers that do not answer, whether their processes live or not."""
    return look(network).silent


def _silent_of_started(status: NetworkStatus) -> tuple[str, ...]:
    if status.health in ("starting", "crashed"):
        return ()
    network = LiveNetwork(inventory_of(status.state), facilities=EmulatedFacilities(status.state))
    return tuple(_silent(network).words())
