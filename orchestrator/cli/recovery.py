"""`orchestrator recover`: finish or undo what a controller left unfinished."""

from __future__ import annotations

import typer

from orchestrator.cli.networks import NetworkName, find_network
from orchestrator.cli.output import Json, print_json, say, warn


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("recover", epilog="Example: orchestrator recover --network leaf-spine")(recover)


def recover(network: NetworkName = "", as_json: Json = False) -> None:
    """Finish or undo a change whose controller was killed or lost a device.

    Undone until the new version is in force on all switches, finished from then on. Every deploy,
    undeploy and reconcile does it first, too.
    """
    from orchestrator.deployment import recovery
    from orchestrator.deployment.live import LiveNetwork

    live = LiveNetwork(find_network(network))
    with live.leading() as lead:
        recovered = recovery.recover(live, lead)
    if as_json:
        print_json(
            {
                "network": live.name,
                "recovered": recovered
                and {
                    "graph": recovered.graph,
                    "outcome": recovered.outcome,
                    "begun_at": recovered.begun_at,
                    "controller": recovered.controller,
                    "amiss": list(recovered.amiss),
                },
            }
        )
        return
    for problem in recovered.amiss if recovered else ():
        warn(problem)
    say(str(recovered) if recovered else f"{live.name}: nothing was left unfinished")
