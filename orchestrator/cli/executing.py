"""`orchestrator net exec`: a command in a host's place in the network."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from orchestrator.cli.networks import name_of, networks_here, only
from orchestrator.cli.options import NetworkName
from orchestrator.emulation.hosts import host_argv
from orchestrator.emulation.state import load_state
from orchestrator.errors import InputError, NetworkError
from orchestrator.network.folders import list_networks


def register(net: typer.Typer) -> None:
    """Add this module's command."""
    net.command(
        "exec",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        epilog="Examples: orchestrator net exec h1 ping -c 3 198.51.100.13 --- "
        "orchestrator net exec -n leaf-spine h1 bash",
    )(execute)


def execute(
    host: Annotated[str, typer.Argument(help="A host, or a server.")],
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="What to run there.")],
    network: NetworkName = "",
) -> None:
    """Run a command in the namespace of a host that `net up` made.

    It has this terminal, its exit code is the command's, and Ctrl-C is for it.
    """
    name = name_of(network) or only(networks_here())
    if name not in list_networks():
        raise NetworkError(f"'{name}': only hosts that `net up` made on this machine run commands")
    argv = host_argv(load_state(name), host, command)
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)  # nothing of ours stands between the two
    except OSError as error:
        raise InputError(f"{argv[0]}: {error.strerror}") from error
