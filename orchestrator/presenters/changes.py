"""What a deployment would change (`deploy --dry-run`)."""

from __future__ import annotations

from dataclasses import asdict

from orchestrator.deployment.operations import Prepared
from orchestrator.deployment.summary import change_words


def changes_json(prepared: Prepared, verbose: bool) -> dict[str, object]:
    """The plan as JSON values."""
    summary = prepared.summary
    found: dict[str, object] = {
        "graph": summary.graph,
        "updates": prepared.old is not None,
        "changes": {k: v for k, v in summary.counts.items() if k != "provenance"},
        "in_place": bool(summary) and not summary.switched_over,
        "switched_over": list(summary.switched_over),
        "interrupts": summary.interrupts,
        "too_full": list(summary.full),
        "state_lost": list(summary.lost),
        "state_moved": list(summary.moved),
        "devices": {
            device: {table: asdict(changes) for table, changes in tables.items()}
            for device, tables in summary.devices.items()
        },
        "workers": {name: asdict(changes) for name, changes in summary.workers.items()},
        "stages": [stage.title for stage in prepared.transaction.stages],
    }
    if verbose:
        found["entries"] = list(change_words(prepared.transaction, prepared.new.bundle))
    return found
