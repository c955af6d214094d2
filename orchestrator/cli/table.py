"""All commands, and which module has each.

A module is imported when its command is to run, and imports all that it needs at its top: so a command
starts as fast as what it does allows, and this table alone is lazy. Help is in the manual, without any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli import manual
from orchestrator.cli.access import with_access, with_files, with_trust
from orchestrator.cli.examples import with_examples


class CommandGroup(NamedTuple):
    """A group of commands that several modules have."""

    summary: str
    table: Mapping[str, str]


Table: TypeAlias = Mapping[str, "str | CommandGroup"]

NET: Mapping[str, str] = {
    "up": "starting",
    "down": "starting",
    "restart": "starting",
    "status": "network_status",
    "attach": "attaching",
    "detach": "attaching",
    "exec": "executing",
}

COMMANDS: Table = {
    "compile": "compiling",
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
    "net": CommandGroup(
        "Networks: run a topology (Mininet), or attach one that runs already.", NET
    ),
    "verify": "verification",
}
"""In the order of `--help`; of each the module of this package that has it."""


class _Commands(Mapping[str, Any]):
    def __init__(self, table: Table) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Any:
        entry = self._table[name]
        if isinstance(entry, str):
            return _module(entry).commands[name]
        return LazyGroup(
            name=name,
            help=entry.summary,
            table=entry.table,
            pages=manual.pages().get(name, {}).get("commands", {}),
            no_args_is_help=True,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class LazyGroup(TyperGroup):
    """The commands of a table; one is made when it is looked up, and help is shown of its page.

    A command that has no page yet is made for its help, too.
    """

    def __init__(
        self,
        *,
        table: Table = COMMANDS,
        pages: Mapping[str, manual.Page] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(table)  # type: ignore[assignment]
        self._pages = manual.pages() if pages is None else pages

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """With what the pages say."""
        commands = self.commands
        self.commands = {
            name: TyperCommand(name, help=self._pages[name]["help"])
            if name in self._pages
            else commands[name]
            for name in commands
        }
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = commands

    def resolve_command(self, ctx: Any, args: Sequence[str]) -> Any:
        """For help, one that can show it."""
        name, *rest = args
        page = self._pages.get(name)
        if page is not None and (ctx.resilient_parsing or manual.is_asked(page, rest)):
            return name, manual.shown(name, page), rest
        return super().resolve_command(ctx, list(args))


@cache
def app_of(module: str) -> typer.Typer:
    """The commands of a module, with the options that several share."""
    app = typer.Typer(rich_markup_mode="rich")
    app.callback()(_no_options)  # a group, though there may be one command only
    import_module(f"orchestrator.cli.{module}").register(app)
    with_files(app, "compile_command", "deploy", "page", "place_command", "whatif")
    with_trust(app, "deploy", "page")
    is_of_networks = module in NET.values()
    with_access(app, *(("topology", "name") if is_of_networks else ("network", "live")))
    with_examples(app)
    return app


@cache
def _module(name: str) -> TyperGroup:
    return typer.main.get_group(app_of(name))


def _no_options() -> None:
    """Nothing is asked before the command."""
