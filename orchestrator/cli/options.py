"""Options that say which network a command is about: one definition each."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from orchestrator.errors import InputError

_VARIABLE = "ORCHESTRATOR_NETWORK"
_HELP = "Name of a running network; the only one if left out."
NetworkName = Annotated[str, typer.Option("--network", "-n", envvar=_VARIABLE, help=_HELP)]
NetworkArgument = Annotated[
    str, typer.Argument(metavar="[NETWORK]", help="The network, as --network.", show_default=False)
]
"""Of commands that are about a network and nothing else."""
SameNetwork = Annotated[str, typer.Option("--network", "-n", help="As NETWORK.")]
"""Beside such an argument that means all networks, or must be said: the environment does not count."""
NewNetwork = Annotated[
    str,
    typer.Option(
        "--network",
        "-n",
        "--name",
        envvar=_VARIABLE,
        help="What to call the network; the topology's name if left out.",
    ),
]


def said(argument: str, option: str) -> str:
    """A network's name by NETWORK or --network; an argument goes before the environment."""
    if argument and option not in ("", argument, os.environ.get(_VARIABLE)):
        raise InputError(f"two networks: {argument} and --network {option}")
    return argument or option
