"""`orchestrator tables`: what is in a switch, in words, from which rule, and what it did."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName, takes
from orchestrator.cli.output import Json, console, print_json, print_table, say, table_of
from orchestrator.cli.reading import Address, DeviceId, live_of, target_of
from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import action_words, key_words, segment_of
from orchestrator.errors import InputError
from orchestrator.observation.matching import parse_matches
from orchestrator.observation.rows import (
    Filter,
    Row,
    chosen_tables,
    compare,
    counts,
    difference_json,
    sort_rows,
    with_rates,
)
from orchestrator.observation.sessions import read_rows
from orchestrator.observation.views import should_be
from orchestrator.presenters.tables import (
    TablesSource,
    coverage_json,
    not_installed,
    rows_json,
    rows_of,
    schema_of,
)

_EXAMPLES = (
    "Examples: orchestrator tables leaf1 acl.ipv4 --hit --- "
    "orchestrator tables leaf1 --nf edge_acl --match dst=198.51.100.13 --match dst_port=23 --- "
    "orchestrator tables all --coverage --- orchestrator tables s1 --address 127.0.0.1:9559"
)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("tables", epilog=_EXAMPLES)(tables)


@dataclass(frozen=True, slots=True)
class TablesOptions:
    """What `tables` was asked for."""

    switch: Annotated[str, typer.Argument(help="Name of a switch; 'all' for those of the network.")]
    table: Annotated[str, typer.Argument(help="A table; all that have entries if left out.")] = ""
    network: NetworkName = ""
    address: Address = ""
    device_id: DeviceId = 1
    nf: Annotated[str, typer.Option("--nf", help="Only entries of this NF.")] = ""
    graph: Annotated[str, typer.Option("--graph", help="Only entries of this graph.")] = ""
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            help="FIELD=VALUE, may be repeated: only entries that a packet with it could hit "
            "(dst=10.0.0.5), or that overlap it (dst=10.0.0.0/8, dst_port=80-90).",
        ),
    ] = None
    hit: Annotated[bool, typer.Option("--hit", help="Only entries that packets have hit.")] = False
    unhit: Annotated[bool, typer.Option("--unhit", help="Only entries never hit.")] = False
    sort: Annotated[
        str,
        typer.Option(
            help="packets, bytes, rate, priority, rule, match or action; packets if left out, with "
            "--match priority."
        ),
    ] = ""
    limit: Annotated[
        int, typer.Option(help="Show at most so many entries a table; 0: all.", min=0)
    ] = 20
    watch: Annotated[
        bool, typer.Option("--watch", help="Read again and again, with packets per second.")
    ] = False
    interval: Annotated[float, typer.Option(help="With --watch: seconds between.", min=0.1)] = 1.0
    count: Annotated[
        int, typer.Option(help="With --watch: stop after so many readings; 0: Ctrl-C.", min=0)
    ] = 0
    diff: Annotated[
        bool,
        typer.Option(
            "--diff",
            help="Compare with what the journal says is deployed; exit code 1 if it differs.",
        ),
    ] = False
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Rules of NFs that no packet ever hit.")
    ] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False
    as_json: Json = False


@takes(TablesOptions)
def tables(options: TablesOptions) -> None:
    """Show a switch's entries in words, with provenance and counters, read over P4Runtime.

    Only reads: a running controller stays the switch's primary. Works on every P4Runtime switch.
    """
    if sum((options.watch, options.diff, options.coverage)) > 1:
        raise InputError("--watch, --diff and --coverage do not go together")
    if options.as_csv and (options.as_json or options.watch or options.diff):
        raise InputError("--csv does not go with --json, --watch or --diff")
    sort = options.sort or ("priority" if options.match else "packets")
    sort_rows([], sort)
    with ExitStack() as stack:
        targets = _targets(options.switch, options.network, options.address, options.device_id)
        for target in targets:
            stack.enter_context(target.client)
        schemas = {target.name: schema_of(target) for target in targets}
        first = schemas[targets[0].name]
        names = chosen_tables(first, [options.table] if options.table else [])
        chosen = Filter(
            options.nf,
            options.graph,
            parse_matches(options.match or (), first),
            options.hit,
            options.unhit,
        )
        if options.diff:
            _diff(targets, schemas, set(names), options.as_json)
            return
        if options.watch:
            _watch(options, targets, schemas, names, chosen, sort)
            return
        rows = rows_of(targets, schemas, names, chosen)
    if options.coverage:
        _coverage(
            rows,
            not_installed(targets[0].live, rows),
            options.limit,
            options.as_json,
            options.as_csv,
        )
    elif options.as_json:
        print_json(rows_json(targets, schemas, sort_rows(rows, sort)))
    elif options.as_csv:
        _print_csv(targets, schemas, sort_rows(rows, sort))
    else:
        console.print(
            _view(targets, schemas, names, rows, sort, options.limit, bool(options.table))
        )
        if not rows:
            say("no entry is to be shown")


def _targets(switch: str, network: str, address: str, device_id: int) -> list[TablesSource]:
    if switch != "all" or address:
        return [target_of(switch, network, address, device_id)]

    live = find_network(network)
    return [target_of(name, live.name, "", 0) for name in live.topology.switches]


def _view(
    targets: Sequence[TablesSource],
    schemas: dict[str, Schema],
    names: Sequence[str],
    rows: Sequence[Row],
    sort: str,
    limit: int,
    empty_too: bool,
) -> Group:
    parts: list[object] = []
    rated = any(row.rate is not None for row in rows)
    for target in targets:
        schema = schemas[target.name]
        for name in names:
            here = [r for r in rows if r.device == target.name and r.entry.table == name]
            if (not here and not empty_too) or name not in schema.tables:
                continue
            shown = sort_rows(here, sort)[: limit or None]
            segments = any(segment_of(row.entry) for row in shown)
            columns = (
                *(("segment",) if segments else ()),
                *("match", "action", "prio#", "graph", "NF", "rule", "packets#"),
                *(("per second#",) if rated else ()),
            )
            cells = [
                (
                    *((segment_of(row.entry),) if segments else ()),
                    key_words(schema.tables[name], row.entry, target.ports),
                    action_words(row.entry, target.ports),
                    row.entry.priority or "",
                    row.installed.graph,
                    row.nf,
                    row.rule,
                    "" if row.installed.packets is None else row.installed.packets,
                    *(("" if row.rate is None else f"{row.rate:.1f}",) if rated else ()),
                )
                for row in shown
            ]
            title = f"{target.name} {name}: {len(here)} entries of {schema.tables[name].size}"
            if len(shown) < len(here):
                title += f", {len(shown)} shown"
            parts.append(table_of(title, columns, cells))
    return Group(*parts)  # type: ignore[arg-type]


def _print_csv(
    targets: Sequence[TablesSource], schemas: dict[str, Schema], rows: Iterable[Row]
) -> None:
    columns = (
        *("device", "table", "segment", "match", "action", "priority"),
        *("graph", "nf", "rule", "packets", "bytes"),
    )

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for item in rows_json(targets, schemas, rows):
        writer.writerow("" if item[c] is None else item[c] for c in columns)


def _watch(
    options: TablesOptions,
    targets: Sequence[TablesSource],
    schemas: dict[str, Schema],
    names: list[str],
    chosen: Filter,
    sort: str,
) -> None:
    before: dict[str, dict[object, int]] = {}
    read_at = 0.0

    def reading() -> list[Row]:
        nonlocal read_at
        rows = rows_of(targets, schemas, names, chosen)
        now = time.monotonic()
        rated: list[Row] = []
        for target in targets:
            mine = [row for row in rows if row.device == target.name]
            rated += with_rates(mine, before.get(target.name, {}), now - read_at)
            before[target.name] = counts(mine)
        read_at = now
        return rated

    done = 0
    with ExitStack() as stack:
        live = None
        if not options.as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        while True:
            rows = reading()
            done += 1
            if live is None:
                shown = rows_json(targets, schemas, sort_rows(rows, sort))
                sys.stdout.write(json.dumps({"at": time.time(), "entries": shown}) + "\n")
                sys.stdout.flush()
            else:
                live.update(
                    _view(targets, schemas, names, rows, sort, options.limit, False), refresh=True
                )
            if options.count and done >= options.count:
                return
            time.sleep(options.interval)


def _diff(
    targets: Sequence[TablesSource], schemas: dict[str, Schema], names: set[str], as_json: bool
) -> None:
    deployed = live_of(targets[0], "--diff").journal.deployed()
    differences: list[dict[str, object]] = []
    for target in targets:
        schema = schemas[target.name]
        wanted = [e for e in should_be(deployed, target.name) if e[1].table in names]
        rows = read_rows(target.client, sorted(names & schema.tables.keys()), target.placing)
        there = [(row.installed.graph, row.entry) for row in rows]
        differences += [
            {"device": target.name, **difference_json(schema, item)}
            for item in compare(schema, wanted, there)
        ]
    if as_json:
        print_json({"graphs": list(deployed), "differences": differences})
    else:
        signs = {"missing": "-", "extra": "+", "changed": "~"}
        print_table(
            f"{len(differences)} differences from the journal (graphs: {', '.join(deployed) or 'none'})",
            ("", "device", "table", "match", "prio#", "should be", "is"),
            (
                (
                    signs[str(item["kind"])],
                    item["device"],
                    item["table"],
                    item["match"],
                    item["priority"] or "",
                    _side(item["expected"]),
                    _side(item["found"]),
                )
                for item in differences
            ),
        )
    if differences:
        raise typer.Exit(1)


def _side(value: object) -> str:
    if not isinstance(value, dict):
        return "(nothing)"
    return "{action}, {origin} ({graph})".format(**value)


def _coverage(
    rows: Sequence[Row],
    absent: Sequence[dict[str, str]],
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    covered: dict[str, Any] = coverage_json(rows, absent)
    if as_json:
        print_json(covered)
        return
    if as_csv:
        columns = ("graph", "nf", "rule", "entries", "packets")
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([rule[c] for c in columns] for rule in covered["rules"])
        return
    print_table(
        "Coverage of rules",
        ("graph", "NF", "rules#", "hit#", "never hit#"),
        (
            (s["graph"], s["nf"], s["rules"], s["rules"] - s["never_hit"], s["never_hit"])
            for s in covered["nfs"]
        ),
    )
    never = covered["never_hit"]
    print_table(
        f"{len(never)} rules never hit"
        + (f", {limit} shown" if limit and limit < len(never) else ""),
        ("graph", "NF", "rule"),
        ((r["graph"], r["nf"], r["rule"]) for r in never[: limit or None]),
    )
    if absent:
        print_table(
            f"{len(absent)} rules that no switch was given",
            ("graph", "NF", "rule", "why"),
            ((a["graph"], a["nf"], a["rule"], a["why"]) for a in absent[: limit or None]),
        )
