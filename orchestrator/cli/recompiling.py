"""`orchestrator compile --watch`: what each saved file would change."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from orchestrator.bundle.codec import dump
from orchestrator.cli.output import note, say, warn
from orchestrator.compile import MOST_CLASSES
from orchestrator.deployment.recompile import Recompiled, Recompiler
from orchestrator.errors import ReportedError
from orchestrator.files import write_whole
from orchestrator.placement.topologies import resolve_topology

INTERVAL_S = 0.2


def follow(
    graph: Path, topology: str, output: Path | None, max_classes: int | None, as_json: bool
) -> None:
    """Compile, and again whenever a file changes, until Ctrl-C."""
    compiler = Recompiler(
        graph, resolve_topology(topology), max_classes=max_classes or MOST_CLASSES
    )
    note(f"watching {graph} and its files; Ctrl-C ends it")
    for recompiled in compiler.watch(INTERVAL_S):
        if isinstance(recompiled, ReportedError):
            if as_json:
                _line({"error": str(recompiled)})
            else:
                warn(str(recompiled))
            continue
        if output is not None:
            write_whole(output, dump(recompiled.bundle))
        if as_json:
            _line(_document(recompiled))
        else:
            for text in recompiled.bundle.warnings:
                warn(text)
            say(
                f"{time.strftime('%H:%M:%S')} {recompiled.summary.words()} ({recompiled.seconds:.2f} s)"
            )


def _document(recompiled: Recompiled) -> dict[str, object]:
    summary = recompiled.summary
    return {
        "graph": summary.graph,
        "seconds": round(recompiled.seconds, 3),
        "changes": dict(summary.counts),
        "devices": {
            device: {table: asdict(changes) for table, changes in tables.items()}
            for device, tables in summary.devices.items()
        },
        "state_lost": list(summary.lost),
        "warnings": list(recompiled.bundle.warnings),
    }


def _line(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"at": time.time(), **document}) + "\n")
    sys.stdout.flush()
