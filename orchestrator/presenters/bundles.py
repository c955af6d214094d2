"""What `orchestrator bundle show` tells of a compiled bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from orchestrator.bundle.codec import Packed
from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import (
    NO_PORTS,
    Ports,
    action_words,
    key_texts,
    key_words,
    split_origin,
)
from orchestrator.model.bundle import Bundle
from orchestrator.presenters.compiled import arcs_of, loads_of, standbys_of, workers_of
from orchestrator.targets.pipelines import build_for, p4info


def entries_of(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Entries by device and table."""
    return {device: dict(tables) for device, tables in bundle.entries_by_table().items()}


def rows_of(bundle: Bundle, device: str, ports: Ports = NO_PORTS) -> Iterator[dict[str, Any]]:
    """The graph's entries of a device: table, keys, action, origin, and all of it in words."""
    schema = Schema.of(p4info(build_for(bundle, device)))
    program = bundle.programs[device]
    for entry in (*program.entries, *program.activation):
        table = schema.table(entry.table)
        nf, rule = split_origin(entry.origin)
        action = action_words(entry, ports)
        origin = ", ".join(part for part in (nf, rule) if part)
        yield {
            "table": entry.table,
            "match": key_texts(table, entry, ports),
            "priority": entry.priority,
            "action": action,
            "nf": nf,
            "rule": rule,
            "words": f"{entry.table} [{key_words(table, entry, ports)}] -> {action} ({origin})",
        }


def bundle_json(packed: Packed, rows: list[dict[str, Any]], workers: bool) -> dict[str, Any]:
    """All of it; `rows`: entries of a device that was asked for, `workers`: with their configs."""
    document = {"signer": packed.signer, "trusted": packed.trusted}
    document |= contents_json(packed.bundle, workers)
    return document | ({"rows": rows} if rows else {})


def contents_json(bundle: Bundle, workers: bool = False) -> dict[str, Any]:
    """What a bundle puts where, why, and how packets go between."""
    return {
        "endpoints": dict(bundle.endpoints),
        "graph": bundle.graph,
        "graph_id": bundle.graph_id,
        "owner": bundle.owner,
        "topology": bundle.topology,
        "sampling_rate": bundle.sampling_rate,
        "devices": [asdict(device) for device in bundle.devices.values()],
        "entries": entries_of(bundle),
        "workers": [asdict(w) for w in bundle.workers] if workers else workers_of(bundle),
        "stories": [asdict(story) for story in bundle.stories],
        "arcs": arcs_of(bundle),
        "standbys": standbys_of(bundle.plan),
        "hops": [asdict(hop) for hop in bundle.plan.hops],
        "latency_us": bundle.plan.latency_us,
        "core_load": loads_of(bundle.plan),
        "removed": [{"rule": rule, "why": why} for rule, why in bundle.removed],
        "notes": list(bundle.plan.notes),
        "warnings": list(bundle.warnings),
    }
