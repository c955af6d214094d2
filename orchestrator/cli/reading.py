"""Options that the reading commands share, and the sessions that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.clients.p4runtime import SwitchClient
    from orchestrator.clients.words import Placing, Ports
    from orchestrator.deployment.live import LiveNetwork

Address = Annotated[
    str,
    typer.Option("--address", help="HOST:PORT or unix:PATH of any P4Runtime switch, ours or not."),
]
DeviceId = Annotated[int, typer.Option("--device-id", help="With --address: its device id.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A switch to read; `live` is None for one that is reached by its address. `placing` knows the
    places of its entries' rules."""

    name: str
    client: SwitchClient
    ports: Ports
    live: LiveNetwork | None
    placing: Placing


def target_of(switch: str, network: str, address: str, device_id: int) -> Target:
    """The switch that the options name."""
    from orchestrator.clients.words import as_told
    from orchestrator.deployment.places import places_in
    from orchestrator.observation.ports import port_names
    from orchestrator.observation.sessions import at_address, reader

    if address:
        return Target(switch, at_address(switch, address, device_id), {}, None, as_told)
    live = find_network(network)
    client = reader(live, switch)  # refuses, by name, a switch that is not there
    ports = port_names(live.topology, switch)
    return Target(switch, client, ports, live, places_in(live.journal, switch))


def live_of(target: Target, option: str) -> LiveNetwork:
    """The running network of a target; InputError where an option needs one."""
    if target.live is None:
        raise InputError(f"{option} needs a network's journal: it does not go with --address")
    return target.live
