"""Printing: tables for people, one JSON document for programs, errors on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.errors import visible

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""
_PIPE_WIDTH = 160
"""Columns of tables that go to a file or another program, unless $COLUMNS says otherwise."""

_is_terminal = sys.stdout.isatty()
console = Console(
    highlight=False,
    soft_wrap=not _is_terminal,
    width=None if _is_terminal or "COLUMNS" in os.environ else _PIPE_WIDTH,
)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str) -> None:
    """An error message, on standard error."""
    errors.print(f"[bold red]error:[/] {_plain(message)}")


def warn(message: str) -> None:
    """A warning, on standard error."""
    errors.print(f"[yellow]warning:[/] {_plain(message)}")


def note(message: str) -> None:
    """Progress in words, on standard error, so that standard output stays the result."""
    errors.print(_plain(message), style="dim")


def say(message: str) -> None:
    """A line of the result."""
    console.print(visible(message))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; columns whose name ends in '#' are numbers, aligned right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column.endswith("#")
        table.add_column(column.rstrip("#"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(str(cell)) for cell in row))
    return table


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print such a table."""
    console.print(table_of(title, columns, rows))


def clock_words(us: int) -> str:
    """Time since start for switches, wall clock for workers."""
    if us < 10**15:
        return f"+{us / 1e6:.6f} s"
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%H:%M:%S.%f")


def rate(bits_per_second: float) -> str:
    """`1.5 Gbit/s`."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_second >= size:
            return f"{bits_per_second / size:g} {unit}"
    return f"{bits_per_second:g} bit/s"


def _plain(text: str) -> str:
    return visible(text).replace("[", "\\[")
