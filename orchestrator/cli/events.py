"""`orchestrator events`: what the NFs on servers have to say: alerts, dropped packets, mappings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import note, say, warn
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError, unknown
from orchestrator.observation.eve import EVENT_TYPES
from orchestrator.observation.events import EventStream, EventsWanted, kept_events

_EXAMPLES = (
    "Examples: orchestrator events --type alert --- orchestrator events --follow --graph campus --- "
    "orchestrator events --follow --output eve.json"
)

OfGraphs = Annotated[
    list[str] | None,
    typer.Option("--graph", help="Only of this graph (repeatable); all that you own if left out."),
]
OfTypes = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only alert, drop, nat or suppressed (repeatable)."),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="What comes from now on, until Ctrl-C.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Append records to this file, one a line, as --json."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print EVE records, one JSON object a line.")]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("events", epilog=_EXAMPLES)(events)


def events(
    network: NetworkName = "",
    graph: OfGraphs = None,
    type_: OfTypes = None,
    follow: Follow = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Show alerts, dropped packets and NAPT mappings of NFs on servers, as records of Suricata's EVE.

    Without --follow those that the workers keep, the last 8,192 of each. An NF tells at most 100 alerts
    and 100 drops a second and 1,000 mappings; how many more there were is told as 'suppressed'.
    """
    for name in type_ or ():
        if name not in EVENT_TYPES:
            raise InputError(f"--type: {unknown('type of event', name, EVENT_TYPES)}")
    live = find_network(network)
    wanted = EventsWanted(tuple(graph or ()), frozenset(type_ or ()))
    with _written(output) as file:

        def put(record: dict[str, Any]) -> None:
            if file is not None:
                file.write(json.dumps(record) + "\n")
            elif as_json:
                sys.stdout.write(json.dumps(record) + "\n")
            else:
                say(words(record))

        if follow:
            _follow(live, wanted, put, file)
        else:
            _print_kept(live, wanted, put)


def _print_kept(live: LiveNetwork, wanted: EventsWanted, put: Any) -> None:
    kept = kept_events(live, wanted)
    for problem in kept.silent.values():
        warn(problem)
    for record in kept.records:
        put(record)
    if not kept.records:
        note("no events are kept")


def _follow(live: LiveNetwork, wanted: EventsWanted, put: Any, file: IO[str] | None) -> None:
    following = EventStream(live, wanted)
    try:
        for record in following.records():
            while not following.problems.empty():
                warn(following.problems.get())
            if record is not None:
                put(record)
            (file or sys.stdout).flush()
    finally:
        following.stop()


@contextmanager
def _written(path: Path | None) -> Generator[IO[str] | None]:
    """A file to append to, readable by its owner only: it says who talked to whom."""
    if path is None:
        yield None
        return
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}") from None
    with os.fdopen(number, "w", encoding="utf-8") as file:
        yield file


def words(record: dict[str, Any]) -> str:
    """A record as a line for people."""
    nf = record.get("nf", {})
    where = f"{nf['graph']}/{nf['name']}" if nf else "all NFs"
    parts = [
        record["timestamp"][11:26],
        f"{record['event_type']:10}",
        f"{where} ({record['host']})",
    ]
    if "src_ip" in record:
        ends = [_end(record, "src")]
        if "dest_ip" in record:
            ends += ["->", _end(record, "dest")]
        parts += [record["proto"], *ends]
    elif "ether_type" in record:
        parts.append(f"EtherType {record['ether_type']:#06x}")
    parts.append(_what(record))
    if rule := nf.get("rule"):
        parts.append(f"by {rule}")
    return "  ".join(parts)


def _end(record: dict[str, Any], side: str) -> str:
    address, port = record[f"{side}_ip"], record.get(f"{side}_port")
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _what(record: dict[str, Any]) -> str:
    match record["event_type"]:
        case "alert":
            told = record["alert"]
            text = f"{told['action']}: [{told['signature_id']}] {told['signature']}".rstrip()
            if "http" in record:
                text += f" {record['http']['hostname']}{record['http']['url']}"
            if "dns" in record:
                text += f" {record['dns']['query'][0]['rrname']}"
            return text
        case "drop":
            return f"dropped: {record['drop']['reason']}"
        case "nat":
            told = record["nat"]
            outside = told.get("post_src_ip")
            if outside is None:
                return told["event"]
            number = told.get("post_src_port", told.get("post_src_id"))
            return f"{told['event']} as {outside}:{number}"
        case _:
            told = record["suppressed"]
            why = (
                "too many at once" if told["why"] == "rate" else "overwritten before they were read"
            )
            return f"{told['count']} events ({told['kind']}) were not told: {why}"
