"""What `orchestrator compile` and `orchestrator place` tell of a compiled graph."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

from orchestrator.compile import Compiled
from orchestrator.compiler.story import ClassStory
from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import SERVER
from orchestrator.model.plan import Core, Plan


def compiled_json(result: Compiled) -> dict[str, object]:
    """Where everything runs, how much of what it needs, and what synthesis did."""
    bundle = result.bundle
    return {
        "graph": bundle.graph,
        "topology": bundle.topology,
        "entries": {switch: dict(tables) for switch, tables in bundle.entries_by_table().items()},
        "workers": workers_of(bundle),
        "stories": [asdict(story) for story in bundle.stories],
        "arcs": arcs_of(bundle),
        "standbys": standbys_of(bundle.plan),
        "synthesis": list(result.cuts.changes),
        "removed": [{"rule": rule, "why": why} for rule, why in bundle.removed],
        "notes": list(bundle.plan.notes),
        "warnings": list(bundle.warnings),
    }


def workers_of(bundle: Bundle) -> list[dict[str, object]]:
    """Which NFs run on which core."""
    return [
        {"server": w.server, "core": str(Core(w.server, w.core)), "nfs": list(w.nfs)}
        for w in bundle.workers
    ]


def arcs_of(bundle: Bundle) -> list[dict[str, str]]:
    """Which elements send packets to which; the hosts at an ingress switch are `@leaf1`."""
    home = {
        unit.unit.partition("@")[0]: unit.unit
        for unit in bundle.stories
        if unit.kind == SERVER and not unit.unit.endswith("~")
    }
    within = (
        (home[f"{here.nf}.{here.port}"], home[f"{there.nf}.{there.port}"])
        for worker in bundle.workers
        for chain in worker.chains
        for here, there in pairwise(chain.hops)
        if f"{here.nf}.{here.port}" in home and f"{there.nf}.{there.port}" in home
    )
    units = {unit.unit for unit in bundle.stories}  # not the hosts behind a delivery
    arcs = dict.fromkeys((*bundle.plan.tree_of, *within))
    return [{"source": a, "target": b} for a, b in arcs if b in units]


def standbys_of(plan: Plan) -> list[dict[str, object]]:
    """Which core has the state of which NF, too, and how."""
    return [
        {"nf": s.nf, "variant": s.variant, "server": s.core.server, "core": str(s.core)}
        for s in plan.standbys
    ]


def loads_of(plan: Plan) -> dict[str, float]:
    """The share of its cycles that each core is planned to spend."""
    return {str(core): load for core, load in plan.core_load.items()}


def plan_json(result: Compiled) -> dict[str, object]:
    """The plan as JSON values."""
    plan = result.plan
    return {
        "graph": result.bundle.graph,
        "topology": result.bundle.topology,
        "status": plan.status,
        "device_of": plan.device_of,
        "cores_of": [[str(core) for core in cores] for cores in plan.cores_of],
        "standbys": standbys_of(plan),
        "hops": [asdict(hop) for hop in plan.hops],
        "latency_us": plan.latency_us,
        "core_load": loads_of(plan),
        "notes": list(plan.notes),
    }


def class_json(story: ClassStory) -> dict[str, Any]:
    """A story as JSON values."""
    return asdict(story)
