"""`orchestrator ui`: a page to look at a network, or at a bundle."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, note, print_json, say
from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.ui.live import LiveSource
from orchestrator.ui.saved import BundleSource
from orchestrator.ui.server import place, serve

_NEEDED = ("starlette", "uvicorn")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        "ui",
        epilog="Examples: orchestrator ui -n leaf-spine --graph graph.json --- "
        "orchestrator ui --bundle my.bundle --- orchestrator ui -n leaf-spine --listen 0.0.0.0:8423 "
        "--certificate server.pem --key server.key",
    )(page)


def page(
    network: NetworkName = "",
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Look at a saved bundle (compile -o); nothing need run."),
    ] = None,
    topology: Annotated[
        str,
        typer.Option("--topology", "-t", help="With --bundle: another topology than its own."),
    ] = "",
    graph: Annotated[
        list[Path] | None,
        typer.Option(
            "--graph",
            help="A service graph that may be planned and placed there; may be repeated.",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT; port 0 is any that is free.")
    ] = "127.0.0.1:8423",
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", help="Serve over TLS: the certificate (PEM); a must elsewhere."
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key (PEM).")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="It may also deploy --graph files and send packets.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve a page that shows a network, its graphs, tables, packets and what-ifs, until Ctrl-C.

    The address that is printed has a token: whoever has it sees all that the page shows. Without
    --write the page only looks.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise EnvironmentMissing(
            f"{' and '.join(missing)} not installed; pip install 'p4-offload-orchestrator[ui]'"
        )

    if bundle is not None and (network or write):
        raise InputError(
            f"--bundle {bundle}: {'--network' if network else '--write'} goes not with it"
        )
    if topology and bundle is None:
        raise InputError("--topology goes with --bundle")
    where = place(listen, certificate, key)
    files = tuple(graph or ())
    for file in files:
        if not file.is_file():
            raise InputError(f"--graph {file}: there is no such file")
    if bundle is not None:
        source = BundleSource(bundle, topology, files)
    else:
        source = LiveSource(lambda: find_network(network), files)

    def told(address: str) -> None:
        if as_json:
            print_json({"kind": source.kind, "name": source.name, "address": address})
        else:
            say(escape(address))
            note(f"the page of {source.name}; Ctrl-C ends it")
        sys.stdout.flush()  # whoever started it by a pipe waits for the address

    serve(source, where, writes=write, told=told)
