"""Options that several commands share: in whose name, with which certificates, from which files."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

_Options = dict[str, tuple[str, str, str]]
"""By parameter: the option, the environment variable that it becomes, and its help."""

_ACCESS: _Options = {
    "owner": (
        "--owner",
        "ORCHESTRATOR_OWNER",
        "The tenant that acts; graphs of others are left alone. Left out: the network's operator.",
    ),
    "store": (
        "--store",
        "ORCHESTRATOR_STORE",
        "Where journal and leadership are: etcd://HOST:PORT[,HOST:PORT]\\[/PREFIX][?ca=FILE&"
        "certificate=FILE&key=FILE&secret=FILE]. Left out: a file of this user's.",
    ),
    "tls_ca": ("--tls-ca", "ORCHESTRATOR_TLS_CA", "CA of the devices' certificates (PEM file)."),
    "tls_certificate": (
        "--tls-certificate",
        "ORCHESTRATOR_TLS_CERTIFICATE",
        "Your certificate (PEM file); its CN is your owner name.",
    ),
    "tls_key": ("--tls-key", "ORCHESTRATOR_TLS_KEY", "Its private key (PEM file)."),
}
_FILES: _Options = {
    "allow_files": (
        "--allow-files",
        "ORCHESTRATOR_ALLOW_FILES",
        "Folders (as in $PATH) outside of the graph's own in which files that it names may be, too; "
        "/ is anywhere.",
    ),
}
_TRUST: _Options = {
    "trust": (
        "--trust",
        "ORCHESTRATOR_TRUST",
        "Files (as in $PATH) with Ed25519 public keys (PEM): only bundles that one of them signed.",
    ),
}


def with_access(app: typer.Typer, *marks: str) -> None:
    """Give the options to the commands of `app` that have one of the parameters `marks`."""
    for command in app.registered_commands:
        if command.callback is not None and set(marks) & set(_parameters(command.callback)):
            command.callback = _extended(command.callback, _ACCESS, "Access")


def with_files(app: typer.Typer, *names: str) -> None:
    """Give the option to commands that read a graph's files, by the names of their functions."""
    _give(app, names, _FILES)


def with_trust(app: typer.Typer, *names: str) -> None:
    """Give the option to commands that take a bundle, by the names of their functions."""
    _give(app, names, _TRUST)


def _give(app: typer.Typer, names: Collection[str], options: _Options) -> None:
    for command in app.registered_commands:
        if command.callback is not None and command.callback.__name__ in names:
            command.callback = _extended(command.callback, options, "Input")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _extended(function: Callable[..., Any], options: _Options, panel: str) -> Callable[..., Any]:
    """The command with the options added, which become environment variables for all below."""
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default="",
            annotation=Annotated[
                str,
                typer.Option(flag, envvar=variable, help=told, rich_help_panel=panel),
            ],
        )
        for name, (flag, variable, told) in options.items()
    ]

    @wraps(function)
    def command(**given: Any) -> Any:
        for name, (_, variable, _) in options.items():
            if value := given.pop(name):
                os.environ[variable] = value
        return function(**given)

    hints = get_type_hints(function, include_extras=True)
    mine = [
        p.replace(annotation=hints.get(p.name, p.annotation), kind=inspect.Parameter.KEYWORD_ONLY)
        for p in _parameters(function).values()
    ]
    command.__annotations__ = {p.name: p.annotation for p in (*mine, *added)}
    command.__signature__ = inspect.Signature([*mine, *added])  # type: ignore[attr-defined]
    return command
