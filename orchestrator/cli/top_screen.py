"""What `top` shows of a reading on a screen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Group
from rich.table import Table

from orchestrator.cli.crowds import MOST, crowd, first_rows
from orchestrator.cli.output import rate, table_of
from orchestrator.model.topology import Topology
from orchestrator.observation.health import DeviceReading, Reading
from orchestrator.observation.liveness import Condition
from orchestrator.observation.load import CoreLoad, core_loads, switch_loads
from orchestrator.observation.slo import TrafficState, traffic_states
from orchestrator.presenters.conditions import badness, condition_words, links_amiss
from orchestrator.presenters.top import TableFullness, dropped_by_nfs, drops_of, frames_of, fullest

_FULL = 0.8
_SHOWN_TABLES = 12
_MET = {None: "", True: "met", False: "MISSED"}
_IDLE = "no traffic"


def screen_of(
    network: str, topology: Topology, now: Reading, before: Reading | None, everything: bool
) -> Group:
    """The tables; `everything`: also of hundreds of devices each one."""
    clock = time.strftime("%H:%M:%S", time.localtime(now.at))
    tables = [
        _graphs(f"{network} at {clock}: graphs", traffic_states(now, before), everything),
        _devices(topology, now, before, everything),
        _tables(now, everything),
        _cores(now, before, everything),
    ]
    if before is not None and (nfs := _nfs(now, before)):
        title, shown = first_rows("NFs on cores", nfs, everything)
        columns = ("core", "graph", "NF", "packets/s#", "in it (p50)#", "(p99)#")
        tables.append(table_of(title, columns, shown))
    if dropped := dropped_by_nfs(now):
        rows = [(d.graph, d.nf, d.where, d.packets) for d in dropped]
        title, shown = first_rows("Dropped by NFs", rows, everything)
        tables.append(table_of(title, ("graph", "NF", "where", "packets#"), shown))
    if links := links_amiss(now.conditions):
        title, rows = first_rows("Links", links, everything)
        tables.append(table_of(title, ("link", "state"), rows))
    return Group(*tables)


def _graphs(title: str, states: Iterable[TrafficState], everything: bool) -> Table:
    rows = [
        (
            row.graph,
            row.owner,
            row.traffic,
            "" if row.bits_per_second is None else rate(round(row.bits_per_second)),
            "" if row.min_rate is None else f">= {rate(row.min_rate)}",
            _met(row, row.min_rate, row.rate_met),
            _us(row.server_latency_us),
            _us(row.planned_latency_us),
            "" if row.max_latency_us is None else f"<= {row.max_latency_us} us",
            _met(row, row.max_latency_us, row.latency_met),
        )
        for row in states
    ]
    title, shown = crowd(title, rows, lambda row: row.count(_MET[False]), everything)
    columns = (
        *("graph", "owner", "traffic", "admitted now#", "target#", ""),
        *("in servers (p99)#", "latency planned#", "target#", ""),
    )
    return table_of(title, columns, shown)


def _met(row: TrafficState, asked: int | None, met: bool | None) -> str:
    return _IDLE if row.idle and asked is not None else _MET[met]


def _devices(topology: Topology, now: Reading, before: Reading | None, everything: bool) -> Table:
    """A device that drops frames, or answers without a pipeline, is not well either."""
    states: dict[tuple[str, str], Condition] = {
        (s.kind, s.name): c for s, c in now.conditions.items()
    }
    drops = {s.name: sum(s.drops.values()) for s in now.devices}
    wrong = {
        s.name: _severity(badness(states.get((s.kind, s.name))) or bool(s.problem), drops[s.name])
        for s in now.devices
    }

    def state(of: DeviceReading) -> str:
        condition = states.get((of.kind, of.name))
        return of.problem if of.problem and of.answers else condition_words(condition)

    loads = {s.name: s for s in switch_loads(topology, now, before)} if before else {}

    def load(name: str) -> tuple[str, str]:
        busy = loads.get(name)
        if busy is None:
            return "", ""
        most = "" if busy.share is None else f"{busy.share:.0%} of {busy.most:,}"
        return f"{busy.packets_per_second:,.0f}", most

    entries = {s.name: sum(use.entries for use in s.tables.values()) for s in now.devices}
    rows = [
        (
            s.name,
            s.kind,
            s.target,
            state(s),
            entries[s.name],
            *load(s.name),
            drops[s.name] or "",
            f"{s.seconds * 1000:.0f} ms",
        )
        for s in now.devices
    ]
    title = "Devices"
    if len(rows) > MOST:
        title = f"Devices ({sum(entries.values())} entries, {sum(drops.values())} drops)"
    title, shown = crowd(title, rows, lambda row: wrong[str(row[0])], everything)
    columns = (
        *("device", "kind", "target", "state", "entries#"),
        *("packets/s#", "as measured#", "drops#", "read in#"),
    )
    return table_of(title, columns, shown)


def _severity(bad: float, drops: int) -> float:
    """Who is not up comes before whoever drops frames, whatever their number."""
    return bad + drops / (drops + 1)


def _tables(now: Reading, everything: bool) -> Table:
    """The fullest tables; of a crowd of devices, of which many have the same, each table once."""
    uses, columns = fullest(now), ("device", "table", "entries#", "share#", "")
    if len(now.devices) <= MOST or everything:
        rows = [_use_row(use) for use in uses[:_SHOWN_TABLES]]
        return table_of("Fullest tables", columns, rows)
    devices = Counter(use.table for use in uses)
    first: dict[str, TableFullness] = {}
    for use in uses:
        first.setdefault(use.table, use)
    rows = [(*_use_row(use), devices[use.table]) for use in first.values()]
    title = "Fullest tables, the fullest of each"
    return table_of(title, (*columns, "devices that use it#"), rows[:_SHOWN_TABLES])


def _use_row(use: TableFullness) -> tuple[str, str, str, str, str]:
    bar = "#" * round(use.share * 20) + ("  FULL SOON" if use.share >= _FULL else "")
    return use.device, use.table, f"{use.entries} of {use.size}", f"{use.share:.1%}", bar


def _cores(now: Reading, before: Reading | None, everything: bool) -> Table:
    conditions = {s.name: c for s, c in now.conditions.items() if s.kind == "worker"}
    frames = frames_of(now, before)
    loads = {load.name: load for load in core_loads(now, before)} if before else {}
    cores = [(c, conditions.get(c.name)) for c in now.cores]
    wrong = {c.name: badness(condition) for c, condition in cores}
    rows = [
        (
            c.name,
            ", ".join(c.graphs),
            "" if condition is None else condition_words(condition),
            *_busy(loads.get(c.name)),
            "" if c.planned is None else f"{c.planned:.0%}",
            "" if (speed := frames.get(c.name)) is None else f"{speed:.1f}",
            drops_of(c) or "",
        )
        for c, condition in cores
    ]
    title, shown = crowd("Server cores", rows, lambda row: wrong[str(row[0])], everything)
    columns = (
        *("core", "graphs", "state", "busy#", "batch#", "queue#"),
        *("planned load#", "frames/s#", "drops#"),
    )
    return table_of(title, columns, shown)


def _busy(load: CoreLoad | None) -> tuple[str, str, str]:
    """How busy, how many frames a batch has, how full the receive queue is."""
    if load is None:
        return "", "", ""
    return (
        "" if load.busy is None else f"{load.busy:.0%}",
        "" if load.fill is None else f"{load.fill:.1f}",
        "" if load.queue is None else f"{load.queue:.0%}",
    )


def _nfs(now: Reading, before: Reading) -> list[tuple[str, ...]]:
    """Those with packets, the slowest first."""
    loads = [(nf, core) for core in core_loads(now, before) for nf in core.nfs if nf.p99_us]
    loads.sort(key=lambda one: -(one[0].p99_us or 0.0))
    return [
        (
            core.name,
            nf.graph,
            nf.nf,
            f"{nf.packets_per_second:.1f}",
            f"{nf.p50_us:.1f} us",
            f"{nf.p99_us:.1f} us",
        )
        for nf, core in loads
    ]


def _us(value: int | None) -> str:
    return "" if value is None else f"{value} us"
