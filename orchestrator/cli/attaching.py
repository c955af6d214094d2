"""`orchestrator net attach` and `net detach`: networks that somebody else started."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.attachment.attach import Attached, AttachOptions
from orchestrator.attachment.attach import attach as attach_network
from orchestrator.attachment.detach import detach as detach_network
from orchestrator.cli.crowds import names_of
from orchestrator.cli.options import NewNetwork, SameNetwork, said
from orchestrator.cli.output import Json, note, print_json, say, warn
from orchestrator.deployment.access import Access
from orchestrator.errors import InputError
from orchestrator.placement.topologies import resolve_topology


def register(net: typer.Typer) -> None:
    """Add this module's commands to those on networks."""
    net.command(
        "attach",
        epilog="Example: orchestrator net attach topology.json -n rack "
        "--- orchestrator net attach topology.json -n rack --max-clock-offset 0.1 --json",
    )(attach)
    net.command("detach", epilog="Example: orchestrator net detach rack")(detach)


def attach(
    topology: Annotated[
        str,
        typer.Argument(
            help="A topology file that says where switches and servers' agents are reached "
            "(`address`)."
        ),
    ],
    name: NewNetwork = "",
    replace_pipelines: Annotated[
        bool,
        typer.Option(
            "--replace-pipelines",
            help="Load our pipeline on switches that run somebody else's, whose entries are gone then.",
        ),
    ] = False,
    max_clock_offset: Annotated[
        float,
        typer.Option(help="By how many seconds servers' clocks may be off this machine's.", min=0),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Take a network that runs already: check all of it, start its workers, and know it by a name.

    Switches and servers' agents are asked who they are, what they run, whether another controller is
    there; clocks and MTUs are compared, and probe frames pass every link between switches. What is
    wrong is told at once, and then nothing is changed. A switch without a pipeline gets ours, since
    probing needs one.
    """
    wanted = resolve_topology(topology)
    attached = attach_network(
        wanted,
        name or wanted.name,
        Access.from_environment(),
        AttachOptions(replace_pipelines, max_clock_offset),
        note=note,
        warn=warn,
    )
    if as_json:
        print_json(_json(attached))
    else:
        _print(attached)


def _json(attached: Attached) -> dict[str, object]:
    inventory = attached.inventory
    return {
        "name": inventory.name,
        "switches": {
            name: {
                "target": inventory.topology.switches[name].target,
                "address": pipeline.address,
                "device_id": pipeline.device_id,
                "role": pipeline.role,
            }
            for name, pipeline in inventory.pipelines.items()
        },
        "workers": {worker.name: worker.address for worker in inventory.workers},
        "links_probed": attached.links,
        "pipelines_loaded": attached.loaded,
        "workers_started": attached.started,
        "in_force": attached.in_force,
    }


def _print(attached: Attached) -> None:
    inventory = attached.inventory
    targets = sorted({s.target for s in inventory.topology.switches.values()})
    if attached.loaded:
        say(f"{names_of(attached.loaded)}: had no pipeline of ours, so one was loaded")
    say(
        f"network {inventory.name} is attached: {len(inventory.pipelines)} switches "
        f"({', '.join(targets)}), {len(inventory.workers)} workers, {attached.links} links probed"
    )
    for number, graph in sorted(attached.in_force.items()):
        warn(
            f"{graph or 'a graph'} (id {number}) is in force there, and not in the journal of "
            f"{inventory.name}: `orchestrator recover -n {inventory.name} --adopt FILE` takes it in"
        )


def detach(
    name: Annotated[str, typer.Argument(metavar="[NETWORK]", help="An attached network.")] = "",
    network: SameNetwork = "",
    as_json: Json = False,
) -> None:
    """Let go of an attached network: its inventory and journal are removed, and its traffic flows on.

    What is deployed there stays in force; `net attach` and `recover --adopt FILE` take it in again.
    Workers are ended only where no graph is in force.
    """
    name = said(name, network)
    if not name:
        raise InputError("say which network: `orchestrator net detach NETWORK`")
    done = detach_network(name)
    for problem in done.amiss:
        warn(problem)
    if as_json:
        print_json(
            {
                "name": name,
                "attached": False,
                "in_force": done.in_force,
                "workers_stopped": done.stopped,
                "journal": done.journal,
            }
        )
        return
    say(f"network {name} is detached")
    if done.in_force:
        say(
            f"in force there as before: {', '.join(done.in_force)} (after `orchestrator net attach`, "
            "`recover --adopt FILE` takes them in again)"
        )
    if done.journal:
        say(f"its journal stays in {done.journal}, where others may use it")
