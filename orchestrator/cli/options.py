"""Options as data: a command's are one dataclass; those that say which network it is about."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from orchestrator.errors import InputError

_OptionsT = TypeVar("_OptionsT")

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


def takes(
    kind: type[_OptionsT],
) -> Callable[[Callable[[_OptionsT], None]], Callable[..., None]]:
    """Make a command of a function of its options: a dataclass whose fields are annotated as typer has
    a command's parameters."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)  # type: ignore[arg-type]
    ]

    def command_of(function: Callable[[_OptionsT], None]) -> Callable[..., None]:
        @wraps(function)
        def command(**given: Any) -> None:
            function(kind(**given))

        command.__annotations__ = hints
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return command_of
