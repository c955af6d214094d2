"""The commands `cordon` and `uncordon`: what placement keeps off."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, print_json, say
from orchestrator.deployment import cordoning

Names = Annotated[
    list[str],
    typer.Argument(help="Switches, servers or cores (server1.1).", metavar="DEVICE|CORE..."),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "cordon",
        epilog="Examples: orchestrator cordon server1.1 --- orchestrator cordon spine1 -n rack",
    )(cordon)
    app.command("uncordon", epilog="Example: orchestrator uncordon server1.1")(uncordon)


def cordon(names: Names, network: NetworkName = "", as_json: Json = False) -> None:
    """Keep placement off devices or cores, until `uncordon`.

    What runs there goes on, until its graph is deployed again or moved because something else has died.
    """
    live = find_network(network)
    _print(live.name, cordoning.cordon(live, names), as_json)


def uncordon(names: Names, network: NetworkName = "", as_json: Json = False) -> None:
    """Let placement use devices or cores again."""
    live = find_network(network)
    _print(live.name, cordoning.uncordon(live, names), as_json)


def _print(network: str, cordoned: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({"network": network, "cordoned": cordoned})
    else:
        say(f"cordoned on {network}: {', '.join(cordoned) or 'nothing'}")
