"""`orchestrator reconcile`: what has drifted from the journal, and its repair; once or for ever."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from orchestrator import units
from orchestrator.attachment.restarting import restarter_of
from orchestrator.cli.crowds import MOST, first_lines, first_rows
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkArgument, NetworkName, said
from orchestrator.cli.output import Json, note, print_json, print_table, say, warn
from orchestrator.clients.words import Ports, entity_words
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import shortcomings
from orchestrator.deployment.presence import check_known, look
from orchestrator.deployment.reconcile import DeviceDrift, Drift
from orchestrator.deployment.reconciling import inspect
from orchestrator.deployment.reconciling import reconcile as repair
from orchestrator.emulation.facilities import facilities_of
from orchestrator.errors import DeploymentError, InputError, SwitchError
from orchestrator.model.topology import Topology
from orchestrator.observation.ports import ports_of_all
from orchestrator.observation.telemetry import log
from orchestrator.upkeep.events import Event, Repaired
from orchestrator.upkeep.keeper import NetworkKeeper

_KINDS = ("inserted", "modified", "deleted")
_SIGNS = {"add": "+", "change": "~", "delete": "-", "foreign": "?"}

_EXAMPLES = (
    "Examples: orchestrator reconcile --dry-run --- orchestrator reconcile leaf-spine --watch "
    "--interval 500ms --json --- orchestrator reconcile --prune --dry-run"
)
_SHORTEST_S, _LONGEST_S = 0.1, 3600.0


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("reconcile", epilog=_EXAMPLES)(reconcile)


def reconcile(
    name: NetworkArgument = "",
    network: NetworkName = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what would be done; exit code 1 if anything."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on until Ctrl-C: notice devices that die or come back, and repair."
        ),
    ] = False,
    interval: Annotated[
        str,
        typer.Option(
            help="With --watch: what has not answered for so long is down; entries are compared every "
            "ten of them."
        ),
    ] = "500ms",
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove what belongs to no deployed graph, too."),
    ] = False,
    limit: Annotated[
        int,
        typer.Option(
            help="Show at most so many changes a switch; of many switches how many each has. 0: all.",
            min=0,
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """Make the devices what the journal says: after a restart, or after changes behind our back.

    A switch without our pipeline is loaded anew; entries, groups and sessions of deployed graphs are
    added, changed, deleted; workers that lost their NFs and chains get them again. What belongs to
    no deployed graph is only shown.

    With --watch dead workers are started again where that can be done from here, and graphs are placed
    anew around what is lost, as `whatif --live NETWORK --fail` shows; a JSON line tells each event.
    """
    if watch and dry_run:
        raise InputError("--watch and --dry-run do not go together")
    interval_s = units.seconds(interval, "--interval", _SHORTEST_S, _LONGEST_S)
    live = find_network(said(name, network))
    if watch:
        _keep(live, interval_s, limit, prune=prune, as_json=as_json)
        return
    started = time.monotonic()
    drift = inspect(live, prune=prune) if dry_run else repair(live, prune=prune, note=note)
    presence, deployed = look(live), live.journal.deployed()
    lacking = shortcomings(live, deployed, presence)
    seconds = time.monotonic() - started
    if as_json:
        document = {**_as_json(drift, live.topology), "lacking": lacking}
        print_json({"network": live.name, "dry_run": dry_run, "seconds": seconds, **document})
    else:
        _show(drift, live.topology, limit, "to be repaired" if dry_run else "repaired")
    check_known(live, presence, deployed)
    if not as_json and not drift and not lacking:
        say(f"{live.name} is as its journal says ({seconds:.2f} s)")
    if drift.unreachable and not dry_run:
        raise SwitchError("not reconciled: " + "; ".join(drift.unreachable))
    if lacking and not dry_run:
        raise DeploymentError("; ".join(lacking))
    if not as_json:
        for line in (*lacking, *presence.away.hosts.values()):
            warn(line)
    if (drift or lacking) and dry_run:
        raise typer.Exit(1)


def _keep(live: LiveNetwork, interval_s: float, limit: int, *, prune: bool, as_json: bool) -> None:
    """Until Ctrl-C."""
    note(
        f"watching {live.name}; what has not answered for {interval_s:g} s is down; Ctrl-C ends it"
    )
    facilities = facilities_of(live.name)
    keeper = NetworkKeeper(
        lambda: find_network(live.name),
        facilities or restarter_of(live.name),
        interval_s,
        prune=prune,
        probes_links=facilities is None,
    )
    for event in keeper.run():
        topology = keeper.network.topology
        fields = _event_json(event, topology)
        log(
            str(fields["event"]),
            network=live.name,
            **{k: fields[k] for k in fields if k != "event"},
        )
        if as_json:
            sys.stdout.write(json.dumps({"at": time.time(), **fields}) + "\n")
            sys.stdout.flush()
        elif isinstance(event, Repaired):
            _show(event.drift, topology, limit, "repaired")
        else:
            say(f"{time.strftime('%H:%M:%S')} {event}")


def _event_json(event: Event, topology: Topology) -> dict[str, object]:
    if isinstance(event, Repaired):
        return {"event": "repair", **_as_json(event.drift, topology)}
    return event.fields()


def _show(drift: Drift, topology: Topology, limit: int, done: str) -> None:
    for line in first_lines((d.unreachable for d in drift.devices if d.unreachable), limit == 0):
        warn(line)
    drifted = [d for d in drift.devices if not d.unreachable and (d or d.foreign)]
    if len(drifted) > MOST and limit:
        _show_crowd(drifted, done)
    else:
        _show_devices(drifted, topology, limit, done)
    for line in drift.waiting:
        warn(f"{line} (what a removed graph may have left there is removed once it answers)")
    for worker in drift.workers:
        if worker.unreachable:
            warn(worker.unreachable)
        elif worker:
            print_table(f"{worker.core}: {done}", ("change",), ((line,) for line in worker.words()))
        for graph in worker.foreign:
            say(f"{worker.core}: graph {graph} is not in the journal; left alone")


def _show_crowd(drifted: Sequence[DeviceDrift], done: str) -> None:
    """How much has changed on each of many devices, most first."""
    total = sum(len(device.difference) for device in drifted)
    rows = [
        (
            device.device,
            device.lost and f"it ran {device.lost}",
            *(len(getattr(device.difference, kind)) or "" for kind in _KINDS),
            len(device.foreign) or "",
        )
        for device in sorted(drifted, key=lambda device: -len(device.difference))
    ]
    title = f"{len(drifted)} devices: {total} changes {done} (--limit 0 shows each)"
    title, rows = first_rows(title, rows, everything=False)
    columns = ("device", "", "added#", "changed#", "deleted#", "of others, left alone#")
    print_table(title, columns, rows)


def _show_devices(
    drifted: Sequence[DeviceDrift], topology: Topology, limit: int, done: str
) -> None:
    ports = ports_of_all(topology)
    for device in drifted:
        changes = list(_changes(device, ports[device.device], limit))
        if not changes and not device.lost:
            continue
        left = f", {len(device.foreign)} of others left alone" if device.foreign else ""
        lost = f" (it ran {device.lost})" if device.lost else ""
        print_table(
            f"{device.device}{lost}: {len(device.difference)} changes {done}{left}",
            ("", "table", "match", "prio#", "action", "was", "graph", "NF", "rule"),
            (
                (
                    _SIGNS[str(c["kind"])],
                    *(c[name] for name in ("table", "match")),
                    c["priority"] or "",
                    *(c[name] for name in ("action", "before", "graph", "nf", "rule")),
                )
                for c in changes
            ),
        )


def _changes(device: DeviceDrift, ports: Ports, limit: int) -> list[dict[str, object]]:
    if device.schema is None:
        return []
    shown: list[dict[str, object]] = []
    for change in islice(
        device.difference.words(device.schema, ports, device.placing), limit or None
    ):
        before = change.before.action if change.before else ""
        shown.append({"kind": change.kind, **asdict(change.entity), "before": before})
    for entity in islice(device.foreign, limit or None):
        words = entity_words(device.schema, entity, ports, device.placing)
        shown.append({"kind": "foreign", **asdict(words), "before": ""})
    return shown


def _as_json(drift: Drift, topology: Topology) -> dict[str, object]:
    ports = ports_of_all(topology)
    return {
        "drifted": bool(drift),
        "devices": [
            {
                "device": device.device,
                "lost": device.lost,
                "unreachable": device.unreachable,
                "added": len(device.difference.inserted),
                "changed": len(device.difference.modified),
                "deleted": len(device.difference.deleted),
                "foreign": len(device.foreign),
                "changes": _changes(device, ports[device.device], 0),
            }
            for device in drift.devices
        ],
        "waiting": drift.waiting,
        "workers": [
            {
                "server": worker.core.server,
                "core": str(worker.core),
                "unreachable": worker.unreachable,
                "changes": worker.words(),
                "foreign": worker.foreign,
            }
            for worker in drift.workers
        ],
    }
