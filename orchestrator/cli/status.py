"""`orchestrator status`: what of a network answers, what is deployed there, and what needs a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli.crowds import MOST, All, Only, chosen, crowd, first_lines, first_rows
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, print_json, print_table, say, warn
from orchestrator.deployment.following import FOLLOWING
from orchestrator.deployment.operations import shortcomings
from orchestrator.deployment.presence import check_known
from orchestrator.presenters.conditions import device_badness, device_words, links_amiss
from orchestrator.presenters.load import NetworkLoad, load_json, load_over
from orchestrator.presenters.status import NetworkNow, cores_of, look_at, status_json
from servernf.wire.buckets import MOST_SPACES


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        "status",
        epilog="Examples: orchestrator status --json --- orchestrator status --device leaf1 --- "
        "orchestrator status --graph campus_edge --- orchestrator status --load 2",
    )(status)


def status(
    network: NetworkName = "",
    device: Only = None,
    graph: Annotated[
        str, typer.Option("--graph", "-g", help="Only this graph's devices, workers and counters.")
    ] = "",
    load: Annotated[
        float | None,
        typer.Option(
            "--load",
            min=0.1,
            metavar="SECONDS",
            help="Also how busy switches, cores and NFs are, over so many seconds.",
        ),
    ] = None,
    everything: All = False,
    as_json: Json = False,
) -> None:
    """Show the devices, the deployed graphs, and the counters of their workers that have counted."""
    live = find_network(network)
    wanted = chosen(device, live.inventory.devices)
    seen = look_at(live, wanted, graph)
    busy = None if load is None else load_over(live, load)
    if as_json:
        print_json({**status_json(seen), **({} if busy is None else {"load": load_json(busy)})})
    else:
        _print(seen, everything=everything or bool(wanted or graph))
        if busy is not None:
            _print_load(busy, everything)
    check_known(live, seen.presence, seen.deployed)


def _print(seen: NetworkNow, *, everything: bool) -> None:
    _warn(seen, everything)
    inventory = seen.network.inventory
    badness = {
        name: device_badness(device, inventory, seen.conditions) or name in seen.silent
        for name, device in seen.devices.items()
    }
    title, rows = crowd(
        f"Devices of {inventory.name}",
        (
            (
                device.name,
                device.kind,
                device.target or device.runtime,
                device.pipeline,
                device_words(device, inventory, seen.conditions),
            )
            for device in seen.devices.values()
        ),
        lambda row: badness[str(row[0])],
        everything,
    )
    print_table(title, ("device", "kind", "target or runtime", "pipeline", "state"), rows)
    if links := links_amiss(seen.conditions):
        title, rows = first_rows("Links", links, everything)
        print_table(title, ("link", "state"), rows)
    graphs = [
        (
            d.bundle.graph,
            d.bundle.owner,
            d.bundle.graph_id,
            d.deployed_at,
            len(d.bundle.workers),
        )
        for d in seen.graphs()
    ]
    print_table(
        f"Graphs on {inventory.name}",
        ("graph", "owner", "id#", "deployed at", "worker cores#"),
        graphs,
    )
    if seen.standbys:
        title, rows = crowd(
            "Standbys",
            ((f.graph, str(f), state) for f, state in seen.standbys.items()),
            lambda row: row[2] != FOLLOWING,
            everything,
        )
        print_table(title, ("graph", "standby", "state"), rows)
    if spaces := list(seen.spaces()):
        title, rows = first_rows(
            "Flow spaces",
            [
                (
                    graph,
                    nf,
                    str(space.regions[0]),
                    ", ".join(map(str, cores_of(space))),
                    f"{taken} of {MOST_SPACES}",
                )
                for graph, nf, taken, space in spaces
            ],
            everything,
        )
        print_table(title, ("graph", "NF", "flows", "run on", "taken"), rows)
    _print_workers(seen.workers, everything)


def _print_load(load: NetworkLoad, everything: bool) -> None:
    over = f"over {load.seconds:.1f} s"
    switches = [
        (
            one.name,
            f"{one.packets_per_second:,.0f}",
            "" if one.share is None else f"{one.share:.0%} of {one.most:,}",
            ", ".join(f"{port}: {pps:,.0f}" for port, pps in one.by_port.items() if pps >= 0.5),
        )
        for one in load.switches
    ]
    title, rows = first_rows(f"Switches {over}", switches, everything)
    print_table(title, ("switch", "packets/s#", "as measured#", "by port"), rows)
    cores = [
        (
            one.name,
            f"{one.frames_per_second:,.0f}",
            _share(one.busy),
            _share(one.planned),
            "" if one.fill is None else f"{one.fill:.1f}",
            _share(one.queue),
        )
        for one in load.cores
    ]
    title, rows = first_rows(f"Server cores {over}", cores, everything)
    columns = ("core", "frames/s#", "busy#", "planned#", "frames a batch#", "receive queue#")
    print_table(title, columns, rows)
    nfs = [
        (core.name, nf.graph, nf.nf, f"{nf.packets_per_second:,.0f}", nf.p50_us, nf.p99_us)
        for core in load.cores
        for nf in core.nfs
        if nf.p99_us is not None
    ]
    if nfs:
        title, rows = first_rows(f"NFs {over}", nfs, everything)
        print_table(title, ("core", "graph", "NF", "packets/s#", "p50 us#", "p99 us#"), rows)


def _share(of: float | None) -> str:
    return "" if of is None else f"{of:.0%}"


def _warn(seen: NetworkNow, everything: bool) -> None:
    """What is lacking, unfinished or owed."""
    live = seen.network
    leader = live.journal.leader()  # before the change: whoever has ended it leads no longer
    unfinished, cordoned = live.journal.intent(), live.journal.cordoned()
    lacking = shortcomings(live, seen.deployed, seen.presence)
    for line in first_lines((*lacking, *seen.presence.away.hosts.values()), everything):
        warn(line)
    if unfinished is not None:
        left = f"{leader} leads" if leader else "nobody leads: `orchestrator recover`"
        warn(
            f"a change of {unfinished.graph} that {unfinished.controller} began at "
            f"{unfinished.begun_at} is not finished; {left}"
        )
    elif leader:
        say(f"{leader} is changing the network")
    for debt in live.journal.owed():
        warn(
            f"{', '.join(debt.places)} may still have what {debt.graph} had there: "
            f"`orchestrator reconcile {live.name}` removes it"
        )
    if cordoned:
        say(f"cordoned: {', '.join(cordoned)}")


def _print_workers(workers: Mapping[str, Mapping[str, int]], everything: bool) -> None:
    """Their counters; of many workers the sums, and who does not answer."""
    title, listed = "Workers", dict(workers)
    if not everything and len(workers) > MOST:
        dead = {name: values for name, values in workers.items() if "unreachable" in values}
        sums: Counter[str] = Counter()
        for name in workers.keys() - dead.keys():
            sums.update(workers[name])
        title += f": {len(workers)}, summed (--all lists all, --device SERVER those of one)"
        listed = {f"the {len(workers) - len(dead)} that answer": sums}
        listed |= dict(list(dead.items())[:MOST])
    rows = [
        (name, counter, value)
        for name, values in listed.items()
        for counter, value in sorted(values.items())
        if value or everything
    ]
    print_table(title, ("worker", "counter", "value#"), rows)
