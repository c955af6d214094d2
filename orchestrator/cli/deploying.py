"""The commands `deploy` and `undeploy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import Packed
from orchestrator.cli.changes import print_changes
from orchestrator.cli.memory import Packets, send_packets, started
from orchestrator.cli.networks import MEMORY, find_network, name_of
from orchestrator.cli.options import NetworkName, takes
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.stories import print_entries, print_stories
from orchestrator.cli.working import COMPILING, Work
from orchestrator.deployment.journal import state_directory
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import Done, Prepared, deploy_graph, prepare, undeploy_graph
from orchestrator.deployment.sources import to_deploy
from orchestrator.errors import InputError
from orchestrator.model.graph import ServiceGraph
from orchestrator.observation.telemetry import record_deployment
from orchestrator.presenters.changes import changes_json, delays_of, done_json


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "deploy",
        epilog="Examples: orchestrator deploy examples/campus_edge/graph.json --- "
        "orchestrator compile graph.json -t leaf-spine -o my.bundle, then, without graph.json and its "
        "files: orchestrator deploy my.bundle --dry-run",
    )(deploy)
    app.command("undeploy", epilog="Example: orchestrator undeploy campus_edge")(undeploy)


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """What `deploy` was asked for."""

    graph: Annotated[
        Path,
        typer.Argument(help="The service graph (graph.json), or a compiled bundle (compile -o)."),
    ]
    network: NetworkName = ""
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would change; exit code 1 if anything, 0 if nothing."
        ),
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --dry-run: every entry, too.")
    ] = False
    allow_interruption: Annotated[
        bool,
        typer.Option(
            "--allow-interruption",
            help="Where a table cannot hold both versions: drop the graph's packets meanwhile.",
        ),
    ] = False
    specialise: Annotated[
        bool,
        typer.Option("--specialise", help="On a pipeline that p4c makes for the network's graphs."),
    ] = False
    allow_pipeline_change: Annotated[
        bool,
        typer.Option(
            "--allow-pipeline-change",
            help="With --specialise: load it although that interrupts the graphs that are deployed.",
        ),
    ] = False
    traffic: Annotated[
        Path | None,
        typer.Option(
            "--pcap",
            help="On a network in memory: packets to send from the first host (of a bundle: by name).",
        ),
    ] = None
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings, and what came of it.")
    ] = False
    as_json: Json = False


@takes(DeployOptions)
def deploy(options: DeployOptions) -> None:
    """Compile a graph for a running network and put it there, or on one in memory.

    A bundle (compile -o) is deployed as it was compiled, and needs no other file: the network must be
    the one it was compiled for, with all that it takes still free.

    A graph that is deployed already is updated: only what differs is changed, every packet meets the
    old version or the new one, and none is lost. NFs whose configuration is as it was keep their state.

    --network memory (or memory:TOPOLOGY; else leaf-spine) needs no root: a network in memory, which is
    started if it does not run, and is fed with packets made from the graph's traffic or with --pcap.
    """
    reached = None if _in_memory(options.network) else find_network(options.network)
    with Work(f"reading {options.graph}", silent=options.as_json or options.quiet):
        source, warnings = to_deploy(options.graph)
    _check_specialise(options.graph, source, options.specialise)
    for warning in warnings:
        warn(warning)
    live = reached or _started(options.network, source)
    if options.traffic is not None and not live.inventory.hosts:
        raise InputError(
            f"--pcap {options.traffic}: only networks in memory send packets of a capture"
        )
    if options.dry_run:
        with Work(COMPILING, silent=options.as_json or options.quiet) as work:
            prepared = prepare(
                source,
                live,
                allow_interruption=options.allow_interruption,
                warnings=warnings,
                step=work.step,
            )
        _print_prepared(prepared, live.name, options.verbose, options.as_json)
        raise typer.Exit(1 if prepared.summary else 0)
    with Work(COMPILING, silent=options.as_json or options.quiet) as work:
        done = deploy_graph(
            source,
            live,
            allow_interruption=options.allow_interruption,
            specialised=options.specialise,
            allow_pipeline_change=options.allow_pipeline_change,
            warnings=warnings,
            step=work.step,
            expected=lambda total: work.step("installing changes", total),
            progress=lambda _, count: work.advance(count),
            note=warn,
        )
    delays = _recorded(done, live.name)
    packets = None
    if live.inventory.hosts:
        packets = send_packets(source, done.bundle, live, options.traffic)
    if options.as_json:
        print_json({**done_json(done, live.name), **delays, **(packets.json() if packets else {})})
    else:
        _print(done, live.name, delays, packets, options.quiet)


def _check_specialise(file: Path, source: ServiceGraph | Packed, specialise: bool) -> None:
    if specialise and isinstance(source, Packed):
        raise InputError(
            f"{file}: --specialise: a bundle brings the pipeline that it was compiled for "
            "(compile --specialise), only graph.json can be given another one"
        )


def _in_memory(asked: str) -> bool:
    return asked == MEMORY or asked.startswith(f"{MEMORY}:")


def _started(asked: str, source: ServiceGraph | Packed) -> LiveNetwork:
    """The network in memory that is asked for, which is started if it does not run."""
    started(asked, name_of(asked), source)
    return find_network(asked)


def _recorded(done: Done, network: str) -> dict[str, float]:
    """The seconds of a deployment's steps, kept for `metrics`."""
    delays = delays_of(done)
    total = sum(done.applied.entries.values())
    try:
        record_deployment(state_directory(), network, done.bundle.graph, delays, total)
    except OSError as error:  # it is deployed all the same
        warn(f"the delays are not kept for `metrics`: {error.filename}: {error.strerror}")
    return delays


def _print_prepared(prepared: Prepared, network: str, verbose: bool, as_json: bool) -> None:
    """What a deployment would change."""
    for line in (*prepared.presence.away.words(), *prepared.moves()):
        warn(line)
    if as_json:
        print_json({"network": network, **changes_json(prepared, verbose)})
    else:
        print_changes(prepared, network, verbose)


def _print(
    done: Done, network: str, delays: dict[str, float], packets: Packets | None, quiet: bool
) -> None:
    for moved in done.moves:
        warn(moved)
    print_state(done)
    graph, times = (
        done.bundle.graph,
        ", ".join(f"{name} {value:.2f}" for name, value in delays.items()),
    )
    if done.updated:
        say(f"{graph} is updated on {network}: {done.summary.words()}; {times}")
    else:
        if not quiet:
            print_stories(done.bundle)
            print_entries(done.bundle.entries_by_table())
        total = sum(done.applied.entries.values())
        say(f"{graph} is deployed on {network}: {total} entries written; {times}")
    if packets:
        packets.show()


def print_state(done: Done) -> None:
    """Whose state went along, and whose did not."""
    for going in done.applied.moved:
        say(f"state moved: {going}")
    for lost in done.state_lost:
        warn(f"state lost: {lost}")
    for amiss in done.applied.amiss:
        warn(amiss)


def undeploy(
    graph: Annotated[str, typer.Argument(help="Name of a deployed graph.")],
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Take a graph off its network: every switch and server is as it was before it.

    A device that does not answer is cleaned by `reconcile` when it does again.
    """
    live = find_network(network)
    for problem in undeploy_graph(graph, live, note=warn):
        warn(problem)
    if as_json:
        print_json({"graph": graph, "network": live.name, "deployed": False})
    else:
        say(f"{graph} is no longer deployed on {live.name}")
