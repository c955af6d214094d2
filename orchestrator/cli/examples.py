"""How `--help` shows examples: one a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer

BETWEEN = " --- "
"""What a command's epilog has between two of them."""
_FIRST = re.compile(r"^(Examples?:) ")


def with_examples(app: typer.Typer) -> None:
    """Lay out the examples of all commands below `app`."""
    for command in _commands(app):
        if command.epilog and _FIRST.match(command.epilog):
            lines = _FIRST.sub(rf"\1{BETWEEN}", command.epilog).split(BETWEEN)
            command.epilog = "\n" + "\n  ".join(lines)  # the first line decides how deep none is


def _commands(app: typer.Typer) -> Iterator[typer.models.CommandInfo]:
    yield from app.registered_commands
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance)
