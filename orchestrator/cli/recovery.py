"""`orchestrator recover`: finish or undo what was left unfinished; a lost journal's graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.working import Work
from orchestrator.deployment import adoption, recovery
from orchestrator.deployment.interrupts import held_interrupts
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import shortcomings
from orchestrator.deployment.presence import check_known, look
from orchestrator.deployment.recovery import changing
from orchestrator.deployment.sources import to_deploy
from orchestrator.errors import DeploymentError, InputError

_EXAMPLES = (
    "Examples: orchestrator recover --network leaf-spine --- orchestrator recover --adopt graph.json "
    "--- orchestrator recover --forget --yes"
)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("recover", epilog=_EXAMPLES)(recover)


def recover(
    network: NetworkName = "",
    adopt: Annotated[
        Path | None,
        typer.Option(
            "--adopt",
            help="A lost journal: note this graph (graph.json or its bundle) as the devices have it.",
        ),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="A lost journal: remove graphs that it does not know from all devices."
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --forget: do it, not only show it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Finish or undo a change whose controller was killed or lost a device.

    Undone until the new version is in force on all switches, finished from then on. Every deploy,
    undeploy and reconcile does it first, too.

    When devices have graphs in force that the journal does not know, it was lost: --adopt takes one back
    into it and changes no device, --forget removes them from the devices.
    """
    if adopt is not None and forget:
        raise InputError("--adopt and --forget do not go together: adopt first, forget the rest")
    if yes and not forget:
        raise InputError("--yes belongs to --forget")
    live = find_network(network)
    if adopt is not None:
        _adopt(live, adopt, as_json)
        return
    if forget:
        _forget(live, yes, as_json)
        return
    with Work("waiting to lead", silent=as_json) as work, live.leading() as lead:
        work.step("looking at what was left unfinished")
        recovered = recovery.recover(
            live,
            lead,
            expected=lambda total: work.step("finishing or undoing it: changes", total),
            progress=lambda _, count: work.advance(count),
        )
    presence, deployed = look(live), live.journal.deployed()
    lacking = shortcomings(live, deployed, presence)
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
                "lacking": lacking,
            }
        )
    else:
        for problem in (*(recovered.amiss if recovered else ()), *lacking):
            warn(problem)
        say(str(recovered) if recovered else f"{live.name}: no change was left unfinished")
    check_known(live, presence, deployed)


def _adopt(live: LiveNetwork, file: Path, as_json: bool) -> None:
    source, _ = to_deploy(file)
    with changing(live, note=warn) as lead:
        adopted = adoption.adopt(source, live, lead).bundle
    left = adoption.strays(live)
    if as_json:
        print_json(
            {
                "network": live.name,
                "adopted": adopted.graph,
                "graph_id": adopted.graph_id,
                "unknown": [stray.graph for stray in left],
            }
        )
        return
    say(
        f"{adopted.graph} (id {adopted.graph_id}) is in the journal of {live.name} again, "
        "as it is in force"
    )
    for stray in left:
        warn(f"not in the journal yet: {stray}")


def _forget(live: LiveNetwork, yes: bool, as_json: bool) -> None:
    with changing(live, note=warn):
        strays = adoption.strays(live)
        waiting: tuple[str, ...] = ()
        if yes and strays:
            with held_interrupts():
                drift = adoption.forget(live, strays)
            waiting = (*drift.unreachable, *drift.waiting)
    names = [str(stray) for stray in strays]
    if as_json:
        print_json(
            {
                "network": live.name,
                "unknown": names,
                "removed": bool(yes and strays),
                "waiting": waiting,
            }
        )
    elif not strays:
        say(f"{live.name}: the journal knows every graph that is in force")
    else:
        for name in names:
            say(f"{name}: " + ("removed" if yes else "would be removed"))
    if waiting:
        raise DeploymentError(
            f"not everywhere: {'; '.join(waiting)}; when they answer, `orchestrator recover --forget "
            "--yes` again"
        )
    if strays and not yes:
        raise InputError(
            "nothing was removed: these graphs' packets would be dropped; --yes does it"
        )
