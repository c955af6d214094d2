"""What `orchestrator top` tells of a reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import NamedTuple

from orchestrator.model.topology import Topology
from orchestrator.observation.health import CoreReading, Reading
from orchestrator.observation.link_load import link_loads
from orchestrator.observation.load import core_loads, switch_loads
from orchestrator.observation.slo import traffic_states
from orchestrator.presenters.conditions import conditions_json
from servernf.wire.instances import base_name

_DENY = "deny"
"""The action of entries that drop, in whichever block."""


class TableFullness(NamedTuple):
    """How full a device's table is."""

    share: float
    device: str
    table: str
    entries: int
    size: int


class Dropped(NamedTuple):
    """Packets that a graph's NF has dropped in a switch or a worker, whatever for."""

    packets: int
    graph: str
    nf: str
    where: str


def top_json(
    network: str, topology: Topology, now: Reading, before: Reading | None
) -> dict[str, object]:
    """One reading, all of it."""
    frames = frames_of(now, before)
    busy = {load.name: load for load in core_loads(now, before)} if before else {}
    passed = {s.name: s for s in switch_loads(topology, now, before)} if before else {}
    states = traffic_states(now, before)
    bundles = [graph.bundle for graph in now.deployed.values()]
    return {
        "network": network,
        "at": now.at,
        "traffic": [asdict(state) for state in states],
        "devices": [
            {
                "name": s.name,
                "kind": s.kind,
                "target": s.target,
                "problem": s.problem,
                "entries": sum(use.entries for use in s.tables.values()),
                "drops": s.drops,
                "load": {**asdict(load), "share": load.share}
                if (load := passed.get(s.name))
                else None,
            }
            for s in now.devices
        ],
        "conditions": conditions_json(now.conditions),
        "tables": [
            {
                "device": use.device,
                "table": use.table,
                "entries": use.entries,
                "size": use.size,
                "share": use.share,
            }
            for use in fullest(now)
        ],
        "cores": [
            {
                "name": c.name,
                "graphs": c.graphs,
                "problem": c.problem,
                "planned_load": c.planned,
                "frames_in": c.metrics.get("frames_in", 0),
                "frames_per_second": frames.get(c.name),
                "drops": drops_of(c),
                "load": asdict(busy[c.name]) if c.name in busy else None,
            }
            for c in now.cores
        ],
        "dropped": [drops._asdict() for drops in dropped_by_nfs(now)],
        "links": [asdict(load) for load in link_loads(topology, bundles, states)],
    }


def fullest(reading: Reading) -> list[TableFullness]:
    """Tables that have entries, the fullest first."""
    uses = [
        TableFullness(use.entries / use.size, device.name, table, use.entries, use.size)
        for device in reading.devices
        for table, use in device.tables.items()
        if use.size and use.entries
    ]
    return sorted(uses, reverse=True)


def dropped_by_nfs(reading: Reading) -> list[Dropped]:
    """By NF and device, most packets first."""
    drops: Counter[tuple[str, str, str]] = Counter()
    for device in reading.devices:
        for (graph, nf, action), (packets, _) in device.nfs.items():
            if action == _DENY:
                drops[graph, nf, device.name] += packets
    for core in reading.cores:
        for name, value in core.metrics.items():
            graph, slash, rest = name.partition("/")
            nf, _, what = rest.partition(".")
            if slash and what == "drops":
                # Configurations of one NF beside each other share their counters.
                at = graph, base_name(nf), core.name
                drops[at] = max(drops[at], value)
    return sorted((Dropped(n, *at) for at, n in drops.items() if n), key=lambda d: (-d[0], d[1:]))


def frames_of(now: Reading, before: Reading | None) -> Mapping[str, float]:
    """Frames a second that cores have received since the reading before, by core."""
    if before is None or now.at <= before.at:
        return {}
    old = {core.name: core for core in before.cores}
    return dict(_grown(now, old, now.at - before.at))


def _grown(
    now: Reading, old: Mapping[str, CoreReading], seconds: float
) -> Iterator[tuple[str, float]]:
    for core in now.cores:
        if core.name in old:
            before = old[core.name].metrics.get("frames_in", 0)
            yield core.name, max(0, core.metrics.get("frames_in", 0) - before) / seconds


def drops_of(core: CoreReading) -> int:
    """Frames dropped by the worker or its NFs."""
    return sum(
        value
        for name, value in core.metrics.items()
        if name.startswith("drop.") or name.endswith(".drops")
    )
