"""Options that the reading commands share, and the sessions that they ask for."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.clients.words import as_told
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError
from orchestrator.observation.sessions import at_address
from orchestrator.presenters.tables import TablesSource, target_in

Address = Annotated[
    str,
    typer.Option("--address", help="HOST:PORT or unix:PATH of any P4Runtime switch, ours or not."),
]
DeviceId = Annotated[int, typer.Option("--device-id", help="With --address: its device id.")]


def target_of(switch: str, network: str, address: str, device_id: int) -> TablesSource:
    """The switch that the options name."""
    if address:
        return TablesSource(switch, at_address(switch, address, device_id), {}, None, as_told)
    return target_in(find_network(network), switch)


def live_of(target: TablesSource, option: str) -> LiveNetwork:
    """The running network of a target; InputError where an option needs one."""
    if target.live is None:
        raise InputError(f"{option} needs a network's journal: it does not go with --address")
    return target.live
