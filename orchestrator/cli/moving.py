"""The commands `move` and `drain`: deployed NFs run elsewhere, with their state."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.changes import print_changes
from orchestrator.cli.deploying import print_state
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.working import COMPILING, Work
from orchestrator.deployment import cordoning, relocating
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import Done
from orchestrator.errors import InputError
from orchestrator.placement.running import Moving
from orchestrator.presenters.changes import changes_json


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "move",
        epilog="Examples: orchestrator move campus/edge_nat --to server2 --- "
        "orchestrator move campus/edge_nat --buckets 0-15,40 --to server1.2 --dry-run --- "
        "orchestrator move campus/fw --inside 10.0.1.16/28 --to server1.2 --- "
        "orchestrator move campus --runtime dpdk",
    )(move)
    app.command(
        "drain",
        epilog="Examples: orchestrator drain server1.1 --- orchestrator drain server1 --undo",
    )(drain)


def move(
    nf: Annotated[
        str,
        typer.Argument(
            help="A deployed NF; with --runtime, a graph: all that it has on servers.",
            metavar="GRAPH[/NF]",
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="A core, as server1.2, or a server.")] = "",
    runtime: Annotated[
        str, typer.Option("--runtime", help="Instead: a server of this runtime, as dpdk.")
    ] = "",
    buckets: Annotated[
        str,
        typer.Option("--buckets", help="Some of its buckets (to its server's cores), as 0-15,40."),
    ] = "",
    inside: Annotated[
        str,
        typer.Option("--inside", help="Only flows whose inside address is in this prefix."),
    ] = "",
    outside: Annotated[
        str,
        typer.Option("--outside", help="Only flows whose outside address is in this prefix."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; exit 1 if anything.")
    ] = False,
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Have an NF, and those that share its core, run on another core, with the state of its flows.

    Packets that come meanwhile wait there; none is lost. Flows of a prefix may be elsewhere than the
    rest of their buckets (64 such flow spaces of an NF at most, `status` shows them), until these move.
    """
    live = find_network(network)
    if bool(to) == bool(runtime):
        raise InputError("to: name a core or server (--to), or a runtime (--runtime)")
    if runtime and "/" not in nf:
        if buckets or inside or outside or dry_run:
            raise InputError(
                f"nf: '{nf}' is a graph: name one of its NFs to move a part, or to look"
            )
        _move_graph(live, nf, runtime, as_json)
        return
    graph, name = relocating.nf_named(nf)
    core = (
        relocating.core_named(live, to, graph)
        if to
        else relocating.core_of_runtime(live, runtime, graph)
    )
    wanted = Moving(name, core, _numbers(buckets), relocating.space_named(inside, outside))
    if dry_run:
        prepared = relocating.foreseen(live, graph, wanted)
        if as_json:
            print_json({"network": live.name, **changes_json(prepared, False)})
        else:
            print_changes(prepared, live.name, False)
        raise typer.Exit(1 if prepared.summary else 0)
    with Work(COMPILING, silent=as_json):
        done = relocating.move(live, graph, wanted, note=warn)
    _print(live.name, {graph: done}, as_json)


def _move_graph(live: LiveNetwork, graph: str, runtime: str, as_json: bool) -> None:
    """One group of NFs after the other."""
    done: dict[str, Done] = {}
    for name in relocating.on_other_runtimes(live, graph, runtime):
        moving = Moving(name, relocating.core_of_runtime(live, runtime, graph))
        with Work(COMPILING, silent=as_json):
            done[f"{graph}/{name}"] = relocating.move(live, graph, moving, note=warn)
    _print(live.name, done, as_json)


def drain(
    names: Annotated[
        list[str],
        typer.Argument(help="Switches, servers or cores (server1.1).", metavar="DEVICE|CORE..."),
    ],
    undo: Annotated[
        bool, typer.Option("--undo", help="Let placement use them again; nothing moves back.")
    ] = False,
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Keep placement off devices or cores, and have what runs there run elsewhere, with its state."""
    live = find_network(network)
    if undo:
        left = cordoning.uncordon(live, names)
        if as_json:
            print_json({"network": live.name, "cordoned": left})
        else:
            say(f"cordoned on {live.name}: {', '.join(left) or 'nothing'}")
        return
    with Work(COMPILING, silent=as_json):
        done = dict(relocating.drain(live, names, note=warn))
    _print(live.name, done, as_json)


def _print(network: str, moved: dict[str, Done], as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "network": network,
                "graphs": {
                    graph: {
                        "changes": dict(done.summary.counts),
                        "state_moved": list(done.applied.moved),
                        "state_lost": list(done.state_lost),
                    }
                    for graph, done in moved.items()
                },
            }
        )
        return
    if not moved:
        say(f"nothing is to move on {network}")
    for graph, done in moved.items():
        say(f"{graph} on {network}: {done.summary.words()}")
        print_state(done)


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers of a list of ranges: "0-3,7"."""
    numbers: dict[int, None] = {}
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()) or int(high or low) > 1 << 16:
            raise InputError(f"buckets: '{part}' is no number and no range, as 3 or 0-15")
        if high and int(high) < int(low):
            raise InputError(f"buckets: '{part}' is empty; did you mean {high}-{low}?")
        numbers |= dict.fromkeys(range(int(low), int(high or low) + 1))
    return tuple(numbers)
