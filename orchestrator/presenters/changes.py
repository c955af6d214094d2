"""What a deployment would change (`deploy --dry-run`), and what it has changed."""

from __future__ import annotations

from dataclasses import asdict

from orchestrator.deployment.operations import Done, Prepared
from orchestrator.deployment.summary import change_words


def changes_json(prepared: Prepared, verbose: bool) -> dict[str, object]:
    """The plan as JSON values."""
    summary = prepared.summary
    document: dict[str, object] = {
        "graph": summary.graph,
        "updates": prepared.old is not None,
        "changes": {k: v for k, v in summary.counts.items() if k != "provenance"},
        "in_place": bool(summary) and not summary.switched_over,
        "switched_over": list(summary.switched_over),
        "interrupts": summary.interrupts,
        "too_full": list(summary.full),
        "state_lost": list(summary.lost),
        "state_moved": list(summary.moved),
        "standbys": list(summary.standbys),
        "devices": {
            device: {table: asdict(changes) for table, changes in tables.items()}
            for device, tables in summary.devices.items()
        },
        "workers": {name: asdict(changes) for name, changes in summary.workers.items()},
        "stages": [stage.title for stage in prepared.transaction.stages],
    }
    if verbose:
        document["entries"] = list(change_words(prepared.transaction, prepared.new.bundle))
    return document


def done_json(done: Done, network: str) -> dict[str, object]:
    """A finished deployment."""
    return {
        "graph": done.bundle.graph,
        "network": network,
        "updated": done.updated,
        "changes": {k: v for k, v in done.summary.counts.items() if k != "provenance"},
        "state_lost": list(done.state_lost),
        "state_moved": list(done.applied.moved),
        "moved": list(done.moves),
        "entries": {
            switch: dict(tables) for switch, tables in done.bundle.entries_by_table().items()
        },
    }


def delays_of(done: Done) -> dict[str, float]:
    """The seconds of its steps."""
    return {
        "synthesis_delay_s": round(done.synthesis_delay_s, 3),
        "offloading_installation_delay_s": round(done.applied.installation_delay_s, 3),
        "launch_delay_s": round(done.applied.launch_delay_s, 3),
    }
