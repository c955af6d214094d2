"""All commands: what each is for, and which module has it.

`--help` needs nothing else. A module is imported when its command is asked for, and imports all that it
needs at its top: so a command starts as fast as what it does allows, and this table alone is lazy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.access import with_access, with_files, with_trust
from orchestrator.cli.examples import with_examples


class NamedCommand(NamedTuple):
    """A command, or a group of one module's: the module of this package, and what it is for."""

    module: str
    summary: str


class CommandGroup(NamedTuple):
    """A group of commands that several modules have."""

    summary: str
    commands: Mapping[str, NamedCommand]


Entry: TypeAlias = NamedCommand | CommandGroup


NET: Mapping[str, NamedCommand] = {
    "up": NamedCommand(
        "starting",
        "Start a network in the background; leftovers of a crashed one of that name are removed.",
    ),
    "down": NamedCommand("starting", "Stop a network and remove all that it made."),
    "restart": NamedCommand(
        "starting",
        "Start a switch or worker again, empty; `orchestrator reconcile` gives it what it had.",
    ),
    "status": NamedCommand(
        "network_status",
        "Show networks: processes and links of those started here, addresses of attached ones.",
    ),
    "attach": NamedCommand(
        "attaching",
        "Take a network that runs already: check all of it, start its workers, and know it by a name.",
    ),
    "detach": NamedCommand(
        "attaching",
        "Let go of an attached network: its inventory and journal are removed, and its "
        "traffic flows on.",
    ),
    "exec": NamedCommand(
        "executing", "Run a command in the namespace of a host that `net up` made."
    ),
}

COMMANDS: Mapping[str, Entry] = {
    "compile": NamedCommand(
        "compiling", "Split a graph, place it on a topology, and emit the bundle."
    ),
    "deploy": NamedCommand(
        "deploying", "Compile a graph for a running network and put it there, or on one in memory."
    ),
    "undeploy": NamedCommand(
        "deploying", "Take a graph off its network: every switch and server is as it was before it."
    ),
    "status": NamedCommand(
        "status",
        "Show the devices, the deployed graphs, and the counters of their workers that have counted.",
    ),
    "recover": NamedCommand(
        "recovery", "Finish or undo a change whose controller was killed or lost a device."
    ),
    "place": NamedCommand(
        "placement",
        "Show where a graph would run, what that costs, and how good it is known to be.",
    ),
    "profile": NamedCommand(
        "profiling", "Measure what NFs and switches cost on this machine (root, two CPUs)."
    ),
    "whatif": NamedCommand(
        "whatif", "Compare placements: as it is now, and with each change. Nothing live is touched."
    ),
    "tables": NamedCommand(
        "tables",
        "Show a switch's entries in words, with provenance and counters, read over P4Runtime.",
    ),
    "explain": NamedCommand(
        "explain",
        "Run a packet through a copy of the network in this process and say what happens "
        "to it, and why.",
    ),
    "trace": NamedCommand(
        "trace",
        "Send one real packet that all trusted points report, and compare with what "
        "`explain` predicts.",
    ),
    "shell": NamedCommand(
        "tools", "Open p4runtime-shell on a switch; it only reads, unless --write."
    ),
    "capture": NamedCommand(
        "tools", "Capture frames with their NSH tags as pcapng, which Wireshark and tshark read."
    ),
    "metrics": NamedCommand(
        "monitoring",
        "Print a network's series for Prometheus, or serve them; every scrape reads anew.",
    ),
    "top": NamedCommand(
        "monitoring",
        "Watch a network: graphs and their traffic, switches and full tables, server cores.",
    ),
    "bottleneck": NamedCommand(
        "monitoring",
        "Name what limits each traffic now: an NF, a core, a switch or a link, with what says so.",
    ),
    "samples": NamedCommand(
        "inspection",
        "Listen at every switch and worker for sampled packets and print their trajectories.",
    ),
    "doctor": NamedCommand(
        "inspection",
        "Say what this machine has and lacks, what each part is for, and how to get it.",
    ),
    "events": NamedCommand(
        "events",
        "Show alerts, dropped packets and NAPT mappings of NFs on servers, as records of "
        "Suricata's EVE.",
    ),
    "reconcile": NamedCommand(
        "reconcile",
        "Make the devices what the journal says: after a restart, or after changes behind our back.",
    ),
    "cordon": NamedCommand("cordoning", "Keep placement off devices or cores, until `uncordon`."),
    "uncordon": NamedCommand("cordoning", "Let placement use devices or cores again."),
    "ui": NamedCommand(
        "page",
        "Serve a page that shows a network, its graphs, tables, packets and what-ifs, until Ctrl-C.",
    ),
    "move": NamedCommand(
        "moving",
        "Have an NF, and those that share its core, run on another core, with the state of its flows.",
    ),
    "drain": NamedCommand(
        "moving",
        "Keep placement off devices or cores, and have what runs there run elsewhere, with its state.",
    ),
    "graph": NamedCommand("graphs", "Check service graphs, print their JSON Schema."),
    "bundle": NamedCommand("bundles", "Look into compiled bundles, and save deployed ones."),
    "import": NamedCommand("importing", "Turn files of other projects into ours."),
    "net": CommandGroup(
        "Networks: run a topology (Mininet), or attach one that runs already.", NET
    ),
    "verify": NamedCommand("verification", "Show that the network does what was agreed."),
}
"""In the order of `--help`."""


_OF_NET = {entry.module for entry in NET.values()}


class _Commands(Mapping[str, Any]):
    def __init__(self, table: Mapping[str, Entry]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Any:
        entry = self._table[name]
        if isinstance(entry, CommandGroup):
            return LazyGroup(
                name=name, help=entry.summary, table=entry.commands, no_args_is_help=True
            )
        return _module(entry.module).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class LazyGroup(TyperGroup):
    """The commands of a table; one is made when it is looked up."""

    def __init__(self, *, table: Mapping[str, Entry] = COMMANDS, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table
        self.commands = _Commands(table)  # type: ignore[assignment]
        self._summaries: dict[str, Any] = {
            name: TyperCommand(name, help=entry.summary) for name, entry in table.items()
        }

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """From the table alone: nothing is imported."""
        commands, self.commands = self.commands, self._summaries
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = commands


@cache
def _module(name: str) -> TyperGroup:
    """The commands of a module, with the options that several share."""
    app = typer.Typer(rich_markup_mode="rich")
    app.callback()(_no_options)  # a group, though there may be one command only
    import_module(f"orchestrator.cli.{name}").register(app)
    with_files(app, "compile_command", "deploy", "page", "place_command", "whatif")
    with_trust(app, "deploy", "page")
    with_access(app, *(("topology", "name") if name in _OF_NET else ("network", "live")))
    with_examples(app)
    return typer.main.get_group(app)


def _no_options() -> None:
    """Nothing is asked before the command."""
