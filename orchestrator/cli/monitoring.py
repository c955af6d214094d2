"""`orchestrator metrics`, `top` and `bottleneck`."""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib import resources
from typing import Annotated

import typer
from rich.live import Live

from orchestrator.cli.crowds import All, Only, chosen
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, console, note, print_json, say
from orchestrator.cli.top_screen import screen_of
from orchestrator.deployment.journal import state_directory
from orchestrator.errors import InputError
from orchestrator.model.plan import Core
from orchestrator.observation.health import Reading, read_network
from orchestrator.observation.metrics import NetworkCollector, exposition, serve
from orchestrator.presenters.bottleneck import bottleneck_json, found_now
from orchestrator.presenters.top import top_json


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "metrics",
        epilog="Examples: orchestrator metrics --listen 127.0.0.1:9500 --- "
        "orchestrator metrics --dashboard > dashboard.json",
    )(metrics)
    app.command(
        "top",
        epilog="Examples: orchestrator top --interval 2 --- orchestrator top --device leaf1",
    )(top)
    app.command(
        "bottleneck",
        epilog="Examples: orchestrator bottleneck --- orchestrator bottleneck --interval 5 --json",
    )(bottleneck)


def metrics(
    network: NetworkName = "",
    device: Only = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", help="Serve http://HOST:PORT/metrics until Ctrl-C (:PORT on 127.0.0.1)."
        ),
    ] = "",
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Print the Grafana dashboard (JSON).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a network's series for Prometheus, or serve them; every scrape reads anew.

    Reading takes no primacy. Counters are those of the entries that are there: an entry that goes
    takes its count with it, and a table without entries has no series. Several processes may each
    serve some devices of a large network.
    """
    if dashboard:
        text = resources.files("orchestrator.observation") / "grafana_dashboard.json"
        sys.stdout.write(text.read_text(encoding="utf-8"))
        return

    live = find_network(network)
    wanted = chosen(device, live.inventory.devices)
    before: Reading | None = None

    def read() -> Reading:
        nonlocal before
        before = read_network(live, before=before, only=wanted)
        return before

    collector = NetworkCollector(live.name, read, state_directory())
    if not listen:
        if as_json:
            print_json(
                [
                    {"name": sample.name, "labels": sample.labels, "value": sample.value}
                    for family in collector.collect()
                    for sample in family.samples
                ]
            )
        else:
            sys.stdout.write(exposition(collector))
        return
    if as_json:
        raise InputError("--json does not go with --listen")
    address, server = serve(collector, listen)
    note(f"serving http://{address}/metrics of network {live.name}; Ctrl-C ends it")
    try:
        threading.Event().wait()
    finally:
        server.shutdown()


def top(
    network: NetworkName = "",
    device: Only = None,
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.2)] = 1.0,
    count: Annotated[int, typer.Option(help="Stop after so many readings; 0: Ctrl-C.", min=0)] = 0,
    everything: All = False,
    as_json: Json = False,
) -> None:
    """Watch a network: graphs and their traffic, switches and full tables, server cores.

    Of a crowd it shows what is not well, the worst first. --device reads those devices only, so traffic
    is what they admit. With --json one object a reading, on one line each.
    """
    live = find_network(network)
    wanted = chosen(device, live.inventory.devices)
    everything = everything or bool(wanted)
    before: Reading | None = None
    cursors: dict[Core, int] = {}
    done = 0
    if as_json:
        while True:
            now = read_network(live, cursors, before, wanted)
            reading = top_json(live.name, live.topology, now, before)
            sys.stdout.write(json.dumps(reading, default=str) + "\n")
            sys.stdout.flush()
            before, done = now, done + 1
            if count and done >= count:
                return
            time.sleep(interval)
    with Live(
        console=console, auto_refresh=False, screen=console.is_terminal and not count
    ) as screen:
        while True:
            now = read_network(live, cursors, before, wanted)
            screen.update(
                screen_of(live.name, live.topology, now, before, everything), refresh=True
            )
            before, done = now, done + 1
            if count and done >= count:
                return
            time.sleep(interval)


def bottleneck(
    network: NetworkName = "",
    interval: Annotated[float, typer.Option(help="Seconds between two readings.", min=0.1)] = 2.0,
    as_json: Json = False,
) -> None:
    """Name what limits each traffic now: an NF, a core, a switch or a link, with what says so.

    That is where packets wait: a receive queue that is never emptied and grows, or loses frames; a
    switch or a link that carries all that it can.
    """
    live = find_network(network)
    bottlenecks = found_now(live, interval)
    if as_json:
        print_json(bottleneck_json(live.name, bottlenecks))
        return
    if not bottlenecks:
        say(f"{live.name}: packets wait nowhere")
    for one in bottlenecks:
        say(f"{one.kind} {one.name} limits {', '.join(one.graphs) or 'nobody'}:")
        for line in one.evidence:
            say(f"  {line}")
