"""`orchestrator net status`: networks that were started here or attached, and what of them answers."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.crowds import All, crowd, first_lines
from orchestrator.cli.options import SameNetwork, said
from orchestrator.cli.output import Json, print_json, print_table, say, warn
from orchestrator.network.folders import list_inventories, list_networks


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
    started, attached = list_networks(), list_inventories()
    names = [name] if name else [*started, *(each for each in attached if each not in started)]
    if not names:
        if as_json:
            print_json([])
        else:
            say("no network is running")
        return
    from orchestrator.cli.shown_networks import shown_network

    networks = list(map(shown_network, names))
    if as_json:
        print_json([network.as_json() for network in networks])
        return
    for network in networks:
        title, rows = crowd(
            f"Network {network.name}: {network.health}",
            network.rows,
            network.dead.__contains__,
            everything,
        )
        print_table(title, network.columns, rows)
        for line in first_lines([*network.links_down, *network.silent], everything):
            warn(line)
