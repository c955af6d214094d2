"""Which module has which command. A module is imported when its command is asked for, or is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from orchestrator.cli.access import with_access, with_files, with_trust
from orchestrator.cli.examples import with_examples

COMMANDS = {
    "compile": "graphs",
    "deploy": "deploying",
    "undeploy": "deploying",
    "status": "status",
    "recover": "recovery",
    "place": "placement",
    "profile": "profiling",
    "whatif": "whatif",
    "tables": "tables",
    "explain": "explain",
    "trace": "trace",
    "shell": "tools",
    "capture": "tools",
    "metrics": "monitoring",
    "top": "monitoring",
    "bottleneck": "monitoring",
    "samples": "inspection",
    "doctor": "inspection",
    "events": "events",
    "reconcile": "reconcile",
    "cordon": "cordoning",
    "uncordon": "cordoning",
    "ui": "page",
    "move": "moving",
    "drain": "moving",
    "graph": "graphs",
    "bundle": "bundles",
    "import": "importing",
    "net": "net",
    "verify": "verification",
}
"""In the order of `--help`: a command or group of commands, and the module of this package."""


class _Commands(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        return _group(COMMANDS[name]).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """All commands; one is made when it is looked up."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]


@cache
def _group(module: str) -> TyperGroup:
    """The commands of a module, with the options that several share."""
    app = typer.Typer(rich_markup_mode="rich")
    app.callback()(_no_options)  # a group, though there may be one command only
    import_module(f"orchestrator.cli.{module}").register(app)
    with_files(app, "compile_command", "deploy", "page", "place_command", "whatif")
    with_trust(app, "deploy", "page")
    with_access(app, "network", "live")
    with_examples(app)
    return typer.main.get_group(app)


def _no_options() -> None:
    """Nothing is asked before the command."""
