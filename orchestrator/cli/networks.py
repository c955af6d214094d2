"""Commands on a network: deploy, undeploy; and how the others find theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.graphs import print_entries, print_stories
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.working import COMPILING, Work
from orchestrator.errors import InputError, NetworkError

if TYPE_CHECKING:
    from orchestrator.bundle.codec import Packed
    from orchestrator.deployment.live import LiveNetwork
    from orchestrator.model.graph import ServiceGraph

NetworkName = Annotated[
    str,
    typer.Option("--network", "-n", help="Name of a running network; the only one if left out."),
]

MEMORY = "memory"
"""The network in memory that `deploy` starts if it does not run."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "deploy",
        epilog="Examples: orchestrator deploy examples/campus_edge/graph.json --- "
        "orchestrator compile graph.json -t leaf-spine -o my.bundle, then, without graph.json and its "
        "files: orchestrator deploy my.bundle --dry-run",
    )(deploy)
    app.command("undeploy", epilog="Example: orchestrator undeploy campus_edge")(undeploy)


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


def deploy(
    graph: Annotated[
        Path,
        typer.Argument(help="The service graph (graph.json), or a compiled bundle (compile -o)."),
    ],
    network: NetworkName = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would change; exit code 1 if anything, 0 if nothing."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --dry-run: every entry, too.")
    ] = False,
    allow_interruption: Annotated[
        bool,
        typer.Option(
            "--allow-interruption",
            help="Where a table cannot hold both versions: drop the graph's packets meanwhile.",
        ),
    ] = False,
    specialise: Annotated[
        bool,
        typer.Option("--specialise", help="On a pipeline that p4c makes for the network's graphs."),
    ] = False,
    allow_pipeline_change: Annotated[
        bool,
        typer.Option(
            "--allow-pipeline-change",
            help="With --specialise: load it although that interrupts the graphs that are deployed.",
        ),
    ] = False,
    traffic: Annotated[
        Path | None,
        typer.Option(
            "--pcap",
            help="On a network in memory: packets to send from the first host (of a bundle: by name).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile a graph for a running network and put it there, or on one in memory.

    A bundle (compile -o) is deployed as it was compiled, and needs no other file: the network must be
    the one it was compiled for, with all that it takes still free.

    A graph that is deployed already is updated: only what differs is changed, every packet meets the
    old version or the new one, and none is lost. NFs whose configuration is as it was keep their state.

    --network memory (or memory:TOPOLOGY; else leaf-spine) needs no root: a network in memory, which is
    started if it does not run, and is fed with packets made from the graph's traffic or with --pcap.
    """
    from orchestrator.bundle.codec import Packed

    with Work(f"reading {graph}", silent=as_json):
        source, warnings = to_deploy(graph)
    if specialise and isinstance(source, Packed):
        raise InputError(
            f"{graph}: --specialise: a bundle brings the pipeline that it was compiled for "
            "(compile --specialise), only graph.json can be given another one"
        )
    for warning in warnings:
        warn(warning)
    from orchestrator.cli.changes import changes_json, print_changes
    from orchestrator.deployment.journal import state_directory
    from orchestrator.deployment.operations import deploy_graph, prepare
    from orchestrator.observation.telemetry import record_deployment

    if network == MEMORY or network.startswith(f"{MEMORY}:"):
        from orchestrator.cli.memory import started

        started(network, name_of(network), source)
    live = find_network(network)
    if traffic is not None and not live.inventory.hosts:
        raise InputError(f"--pcap {traffic}: only networks in memory send packets of a capture")
    if dry_run:
        with Work(COMPILING, silent=as_json):
            prepared = prepare(
                source,
                live,
                allow_interruption=allow_interruption,
                warnings=warnings,
            )
        for line in (*prepared.presence.away.words(), *prepared.moves()):
            warn(line)
        if as_json:
            print_json({"network": live.name, **changes_json(prepared, verbose)})
        else:
            print_changes(prepared, live.name, verbose)
        raise typer.Exit(1 if prepared.summary else 0)
    with Work(COMPILING, silent=as_json) as work:
        done = deploy_graph(
            source,
            live,
            allow_interruption=allow_interruption,
            specialised=specialise,
            allow_pipeline_change=allow_pipeline_change,
            warnings=warnings,
            expected=lambda total: work.step("installing changes", total),
            progress=lambda _, count: work.advance(count),
            note=warn,
        )
    bundle, applied = done.bundle, done.applied
    delays = {
        "synthesis_delay_s": round(done.synthesis_delay_s, 3),
        "offloading_installation_delay_s": round(applied.installation_delay_s, 3),
        "launch_delay_s": round(applied.launch_delay_s, 3),
    }
    total = sum(applied.entries.values())
    try:
        record_deployment(state_directory(), live.name, bundle.graph, delays, total)
    except OSError as error:  # it is deployed all the same
        warn(f"the delays are not kept for `metrics`: {error.filename}: {error.strerror}")
    counts = bundle.entries_by_table()
    packets = None
    if live.inventory.hosts:
        from orchestrator.cli.memory import send_packets

        packets = send_packets(source, bundle, live, traffic)
    if as_json:
        print_json(
            {
                "graph": bundle.graph,
                "network": live.name,
                "updated": done.updated,
                "changes": {k: v for k, v in done.summary.counts.items() if k != "provenance"},
                "state_lost": [*done.summary.lost, *done.applied.behind],
                "state_moved": list(done.applied.moved),
                "moved": list(done.moves),
                "entries": {switch: dict(tables) for switch, tables in counts.items()},
                **delays,
                **(packets.json() if packets else {}),
            }
        )
        return
    for moved in done.moves:
        warn(moved)
    for going in done.applied.moved:
        say(f"state moved: {going}")
    for lost in (*done.summary.lost, *done.applied.behind):
        warn(f"state lost: {lost}")
    times = ", ".join(f"{name} {value:.2f}" for name, value in delays.items())
    if done.updated:
        say(f"{bundle.graph} is updated on {live.name}: {done.summary.words()}; {times}")
    else:
        print_stories(bundle)
        print_entries(counts)
        say(f"{bundle.graph} is deployed on {live.name}: {total} entries written; {times}")
    if packets:
        packets.show()


def to_deploy(file: Path) -> tuple[ServiceGraph | Packed, tuple[str, ...]]:
    """What a file holds, told by its content, and its warnings."""
    from orchestrator.bundle.codec import is_bundle, read
    from orchestrator.deployment.journal import memo
    from orchestrator.graph import load_graph
    from orchestrator.nfs.files import Readings

    if is_bundle(file):
        packed = read(file)
        return packed, packed.bundle.warnings
    loaded = load_graph(file, Readings(memo()))
    return loaded.graph, tuple(loaded.warnings)


def undeploy(
    graph: Annotated[str, typer.Argument(help="Name of a deployed graph.")],
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Take a graph off its network: every switch and server is as it was before it.

    A device that does not answer is cleaned by `reconcile` when it does again.
    """
    from orchestrator.deployment.operations import undeploy_graph

    live = find_network(network)
    for problem in undeploy_graph(graph, live, note=warn):
        warn(problem)
    if as_json:
        print_json({"graph": graph, "network": live.name, "deployed": False})
    else:
        say(f"{graph} is no longer deployed on {live.name}")
