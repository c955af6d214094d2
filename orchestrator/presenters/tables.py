"""What `orchestrator tables` tells of switches' entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.words import Placing, Ports, origins_of
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.places import places_in
from orchestrator.errors import SwitchError
from orchestrator.observation.ports import port_names
from orchestrator.observation.rows import Filter, Row, coverage, row_json
from orchestrator.observation.sessions import read_rows, reader


@dataclass(frozen=True, slots=True)
class TablesSource:
    """A switch to read; `live` is None for one that is reached by its address. `placing` knows the
    places of its entries' rules."""

    name: str
    client: SwitchClient
    ports: Ports
    live: LiveNetwork | None
    placing: Placing


def target_in(live: LiveNetwork, switch: str) -> TablesSource:
    """A switch of a network; NetworkError, by name, where there is none."""
    client = reader(live, switch)
    ports = port_names(live.topology, switch)
    return TablesSource(switch, client, ports, live, places_in(live.journal, switch))


def schema_of(target: TablesSource) -> Schema:
    """The names of an open target's program; SwitchError where none is loaded."""
    target.client.pipeline_cookie()
    if target.client.schema is None:
        raise SwitchError(f"{target.name}: no pipeline is loaded; deploy a graph first")
    return target.client.schema


def rows_of(
    targets: Sequence[TablesSource],
    schemas: Mapping[str, Schema],
    names: Sequence[str],
    chosen: Filter,
) -> list[Row]:
    """The entries in the tables of these names that pass the filter."""
    return [
        row
        for target in targets
        for row in read_rows(
            target.client, [n for n in names if n in schemas[target.name].tables], target.placing
        )
        if chosen.passes(schemas[target.name], row)
    ]


def rows_json(
    targets: Sequence[TablesSource], schemas: Mapping[str, Schema], rows: Iterable[Row]
) -> list[dict[str, object]]:
    """One object an entry, in words."""
    ports = {target.name: target.ports for target in targets}
    return [row_json(schemas[row.device], row, ports[row.device]) for row in rows]


def not_installed(live: LiveNetwork | None, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Rules of deployed graphs that no device was given, with why; only a network's journal knows."""
    if live is None:
        return []
    there = {
        (row.installed.graph, *origin) for row in rows for origin in origins_of(row.entry.origin)
    }
    return [
        {"graph": graph, "nf": nf, "rule": rule, "why": why}
        for graph, deployed in live.journal.deployed().items()
        for origin, why in deployed.bundle.removed
        for nf, rule in origins_of(origin)
        if (graph, nf, rule) not in there
    ]


def coverage_json(rows: Sequence[Row], absent: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """What packets hit of NFs' rules: sums by NF, all rules, those never hit, and the `absent` ones."""
    rules = coverage(rows)
    never = [rule for rule in rules if not rule.packets]
    nfs = list(dict.fromkeys((rule.graph, rule.nf) for rule in rules))
    return {
        "nfs": [
            {
                "graph": graph,
                "nf": nf,
                "rules": sum((r.graph, r.nf) == (graph, nf) for r in rules),
                "never_hit": sum((r.graph, r.nf) == (graph, nf) for r in never),
            }
            for graph, nf in nfs
        ],
        "rules": [asdict(rule) for rule in rules],
        "never_hit": [asdict(rule) for rule in never],
        "not_installed": list(absent),
    }
