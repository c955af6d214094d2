"""`orchestrator metrics` and `orchestrator top`."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.crowds import All, crowd
from orchestrator.cli.networks import NetworkName, find_network
from orchestrator.cli.output import Json, console, note, print_json, rate, table_of
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from rich.console import Group

    from orchestrator.model.plan import Core
    from orchestrator.observation.health import CoreReading, Reading

_FULL = 0.8
_SHOWN_TABLES = 12


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "metrics",
        epilog="Examples: orchestrator metrics --listen 127.0.0.1:9500 --- "
        "orchestrator metrics --dashboard > dashboard.json",
    )(metrics)
    app.command("top", epilog="Example: orchestrator top --interval 2")(top)


def metrics(
    network: NetworkName = "",
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
    takes its count with it.
    """
    if dashboard:
        text = resources.files("orchestrator.observation") / "grafana_dashboard.json"
        sys.stdout.write(text.read_text(encoding="utf-8"))
        return
    from orchestrator.deployment.journal import state_directory
    from orchestrator.observation.health import read_network
    from orchestrator.observation.metrics import NetworkCollector, exposition, serve

    live = find_network(network)
    before: Reading | None = None

    def read() -> Reading:
        nonlocal before
        before = read_network(live, before=before)
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
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.2)] = 1.0,
    count: Annotated[int, typer.Option(help="Stop after so many readings; 0: Ctrl-C.", min=0)] = 0,
    everything: All = False,
    as_json: Json = False,
) -> None:
    """Watch a network: graphs and their traffic, switches and full tables, server cores.

    With --json one object a reading, on one line each.
    """
    import json

    from rich.live import Live

    from orchestrator.observation.health import read_network

    live = find_network(network)
    before: Reading | None = None
    cursors: dict[Core, int] = {}
    done = 0
    if as_json:
        while True:
            now = read_network(live, cursors, before)
            sys.stdout.write(json.dumps(_top_json(live.name, now, before), default=str) + "\n")
            sys.stdout.flush()
            before, done = now, done + 1
            if count and done >= count:
                return
            time.sleep(interval)
    with Live(
        console=console, auto_refresh=False, screen=console.is_terminal and not count
    ) as screen:
        while True:
            now = read_network(live, cursors, before)
            screen.update(_screen(live.name, now, before, everything), refresh=True)
            before, done = now, done + 1
            if count and done >= count:
                return
            time.sleep(interval)


def _frames(core: CoreReading, now: Reading, before: Reading | None) -> float | None:
    if before is None:
        return None
    old = next((c for c in before.cores if c.name == core.name), None)
    if old is None or now.at <= before.at:
        return None
    grown = core.metrics.get("frames_in", 0) - old.metrics.get("frames_in", 0)
    return max(0, grown) / (now.at - before.at)


def _drops(core: CoreReading) -> int:
    """Frames dropped by the worker or its NFs."""
    return sum(
        value
        for name, value in core.metrics.items()
        if name.startswith("drop.") or name.endswith(".drops")
    )


def _fullest(reading: Reading) -> list[tuple[float, str, str, int, int]]:
    """(share, switch, table, entries, size), the fullest first."""
    found = [
        (use.entries / use.size, switch.name, table, use.entries, use.size)
        for switch in reading.devices
        for table, use in switch.tables.items()
        if use.size and use.entries
    ]
    return sorted(found, reverse=True)


def _top_json(network: str, now: Reading, before: Reading | None) -> dict[str, object]:
    from orchestrator.cli.conditions import conditions_json
    from orchestrator.observation.slo import traffic_states

    return {
        "network": network,
        "at": now.at,
        "traffic": [asdict(row) for row in traffic_states(now, before)],
        "devices": [
            {
                "name": s.name,
                "kind": s.kind,
                "target": s.target,
                "problem": s.problem,
                "entries": sum(use.entries for use in s.tables.values()),
                "drops": s.drops,
            }
            for s in now.devices
        ],
        "conditions": conditions_json(now.conditions),
        "tables": [
            {"device": device, "table": table, "entries": entries, "size": size, "share": share}
            for share, device, table, entries, size in _fullest(now)
        ],
        "cores": [
            {
                "name": c.name,
                "graphs": c.graphs,
                "problem": c.problem,
                "planned_load": c.planned,
                "frames_in": c.metrics.get("frames_in", 0),
                "frames_per_second": _frames(c, now, before),
                "drops": _drops(c),
            }
            for c in now.cores
        ],
    }


_MET = {None: "", True: "met", False: "MISSED"}


def _us(value: int | None) -> str:
    return "" if value is None else f"{value} us"


def _screen(network: str, now: Reading, before: Reading | None, everything: bool) -> Group:
    from rich.console import Group

    from orchestrator.cli.conditions import condition_words, links_amiss
    from orchestrator.network.names import worker_name
    from orchestrator.observation.slo import traffic_states

    states = {(s.kind, s.name): condition_words(c) for s, c in now.conditions.items()}
    links = links_amiss(now.conditions)
    clock = time.strftime("%H:%M:%S", time.localtime(now.at))
    graphs = [
        (
            row.graph,
            row.owner,
            row.traffic,
            "" if row.bits_per_second is None else rate(round(row.bits_per_second)),
            "" if row.min_rate is None else f">= {rate(row.min_rate)}",
            _MET[row.rate_met],
            _us(row.server_latency_us),
            _us(row.planned_latency_us),
            "" if row.max_latency_us is None else f"<= {row.max_latency_us} us",
            _MET[row.latency_met],
        )
        for row in traffic_states(now, before)
    ]
    devices = [
        (
            s.name,
            s.kind,
            s.target,
            s.problem if s.problem and s.answers else states.get((s.kind, s.name), ""),
            sum(use.entries for use in s.tables.values()),
            sum(s.drops.values()) or "",
            f"{s.seconds * 1000:.0f} ms",
        )
        for s in now.devices
    ]
    tables = [
        (
            switch,
            table,
            f"{entries} of {size}",
            f"{share:.1%}",
            "#" * round(share * 20) + ("  FULL SOON" if share >= _FULL else ""),
        )
        for share, switch, table, entries, size in _fullest(now)[:_SHOWN_TABLES]
    ]
    cores = [
        (
            c.name,
            ", ".join(c.graphs),
            states.get(("worker", worker_name(c.server, c.core)), ""),
            "" if c.planned is None else f"{c.planned:.0%}",
            "" if (speed := _frames(c, now, before)) is None else f"{speed:.1f}",
            _drops(c) or "",
        )
        for c in now.cores
    ]
    devices_title, devices = crowd("Devices", devices, lambda row: row[3] == "up", everything)
    cores_title, cores = crowd("Server cores", cores, lambda row: row[2] == "up", everything)
    return Group(
        table_of(
            f"{network} at {clock}: graphs",
            (
                *("graph", "owner", "traffic", "admitted now#", "target#", ""),
                *("in servers (p99)#", "latency planned#", "target#", ""),
            ),
            graphs,
        ),
        table_of(
            devices_title,
            ("device", "kind", "target", "state", "entries#", "drops#", "read in#"),
            devices,
        ),
        table_of("Fullest tables", ("device", "table", "entries#", "share#", ""), tables),
        table_of(
            cores_title,
            ("core", "graphs", "state", "planned load#", "frames/s#", "drops#"),
            cores,
        ),
        *([table_of("Links", ("link", "state"), links)] if links else []),
    )
