"""What `orchestrator compile` and `orchestrator place` tell of a compiled graph."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.compile import Compiled
from orchestrator.compiler.story import ClassStory
from orchestrator.model.plan import Plan


def compiled_json(result: Compiled) -> dict[str, object]:
    """Where everything runs, how much of what it needs, and what synthesis did."""
    bundle = result.bundle
    return {
        "graph": bundle.graph,
        "topology": bundle.topology,
        "entries": {switch: dict(tables) for switch, tables in bundle.entries_by_table().items()},
        "workers": [
            {"server": w.server, "core": w.core + 1, "nfs": list(w.nfs)} for w in bundle.workers
        ],
        "stories": [asdict(story) for story in bundle.stories],
        "arcs": arcs_of(bundle.plan),
        "synthesis": list(result.cuts.changes),
        "removed": [{"rule": rule, "why": why} for rule, why in bundle.removed],
        "notes": list(bundle.plan.notes),
        "warnings": list(bundle.warnings),
    }


def arcs_of(plan: Plan) -> list[dict[str, str]]:
    """Which elements send packets to which; of an ingress switch: `@leaf1`."""
    return [{"source": source, "target": target} for source, target in plan.tree_of]


def plan_json(result: Compiled) -> dict[str, object]:
    """The plan as JSON values."""
    plan = result.plan
    return {
        "graph": result.bundle.graph,
        "topology": result.bundle.topology,
        "status": plan.status,
        "device_of": plan.device_of,
        "cores_of": [[f"{c.server}.{c.index + 1}" for c in cores] for cores in plan.cores_of],
        "hops": [asdict(hop) for hop in plan.hops],
        "latency_us": plan.latency_us,
        "core_load": plan.core_load,
        "notes": list(plan.notes),
    }


def class_json(story: ClassStory) -> dict[str, Any]:
    """A story as JSON values."""
    return asdict(story)
