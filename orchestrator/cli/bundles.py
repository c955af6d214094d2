"""`orchestrator bundle`: what a compiled bundle holds, in words, and what is deployed as a bundle."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestrator.bundle.codec import Packed, dump, read
from orchestrator.cli.access import with_trust
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, print_json, print_table, say
from orchestrator.cli.stories import print_entries
from orchestrator.clients.words import NO_PORTS
from orchestrator.errors import InputError, unknown
from orchestrator.files import write_whole
from orchestrator.model.plan import Core
from orchestrator.observation.ports import port_names
from orchestrator.presenters.bundles import bundle_json, entries_of, rows_of

bundle_app = typer.Typer(
    help="Look into compiled bundles, and save deployed ones.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(help="A bundle (compile -o).")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    with_trust(bundle_app, "show")
    bundle_app.command(
        "save",
        epilog="Example: orchestrator bundle save campus -o campus-2.bundle --network leaf-spine",
    )(save)
    app.add_typer(bundle_app, name="bundle")


@bundle_app.command(
    "show", epilog="Example: orchestrator bundle show campus.bundle --entries leaf1 | less"
)
def show(
    file: File,
    entries: Annotated[
        str, typer.Option("--entries", metavar="DEVICE", help="Every entry of a device, in words.")
    ] = "",
    workers: Annotated[
        bool, typer.Option("--workers", help="The NF configs and chains of the workers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What a bundle would put where: the manifest, the plan, and on demand entries with provenance.

    Reading checks the digests of all parts.
    """
    packed = read(file)
    bundle = packed.bundle
    if entries and entries not in bundle.programs:
        raise InputError(
            f"{file}: {unknown('device with a pipeline', entries, tuple(bundle.programs))}"
        )
    ports = port_names(packed.topology, entries) if entries and packed.topology else NO_PORTS
    rows = list(rows_of(bundle, entries, ports)) if entries else []
    if as_json:
        print_json(bundle_json(packed, rows, workers))
        return
    if entries:
        for row in rows:
            say(escape(row["words"]))
        return
    rate = f", sampling rate {bundle.sampling_rate}" if bundle.sampling_rate else ""
    owner = f"owner {bundle.owner}" if bundle.owner else "no owner"
    about = f"{bundle.graph}: graph id {bundle.graph_id}, {owner}, topology {bundle.topology}{rate}"
    say(escape(about))
    say(_signed(packed))
    hosts = ((name, ", ".join(names)) for name, names in bundle.endpoints.items())
    print_table("Endpoints", ("endpoint", "hosts"), hosts)
    devices = ((d.name, d.kind, d.target or d.runtime, d.pipeline) for d in bundle.devices.values())
    print_table("Devices", ("device", "kind", "target or runtime", "pipeline"), devices)
    print_entries(entries_of(bundle))
    print_table(
        "Workers",
        ("core", "NFs", "chains#"),
        ((str(Core(w.server, w.core)), ", ".join(w.nfs), len(w.chains)) for w in bundle.workers),
    )
    if workers:
        print_json([asdict(worker) for worker in bundle.workers])
    print_table(
        "The cut",
        ("element", "runs on", "block", "entries#", "why"),
        ((s.unit, s.device, s.slot or "NF", s.entries or "", s.why) for s in bundle.stories),
    )


def save(
    graph: Annotated[str, typer.Argument(help="A deployed graph.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Write what is deployed of a graph as a bundle, with its numbers: after an update or a move, too.

    It is what `verify check` and `verify cle archive` need of each version.
    """
    live = find_network(network)
    deployed = live.journal.deployed()
    if graph not in deployed:
        raise InputError(unknown("deployed graph", graph, tuple(deployed)))
    data = dump(deployed[graph].bundle, topology=live.topology)
    write_whole(output, data)
    digest = hashlib.sha256(data).hexdigest()
    if as_json:
        print_json({"graph": graph, "bundle": str(output), "sha256": digest})
    else:
        say(f"{output}: {graph} as deployed at {deployed[graph].deployed_at}, SHA-256 {digest}")


def _signed(packed: Packed) -> str:
    if not packed.signer:
        return "nobody signed it"
    return f"signed by {packed.signer}" + (", who is trusted" if packed.trusted else "")
