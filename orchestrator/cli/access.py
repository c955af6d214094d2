"""Options that every command on a network has: in whose name, with which certificates."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

_PANEL = "Access"
_OPTIONS: dict[str, tuple[str, str, str]] = {
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


def with_access(app: typer.Typer, *marks: str) -> None:
    """Give the options to the commands of `app` that have one of the parameters `marks`."""
    for command in app.registered_commands:
        if command.callback is not None and set(marks) & set(_parameters(command.callback)):
            command.callback = _extended(command.callback)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _extended(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options added, which become environment variables for all below."""
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default="",
            annotation=Annotated[
                str,
                typer.Option(flag, envvar=variable, help=told, rich_help_panel=_PANEL),
            ],
        )
        for name, (flag, variable, told) in _OPTIONS.items()
    ]

    @wraps(function)
    def command(**given: Any) -> Any:
        for name, (_, variable, _) in _OPTIONS.items():
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
