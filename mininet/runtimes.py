"""A shipped topology whose servers' workers are of another runtime, as a file of one's own."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.resources import shipped
from orchestrator.runtimes import DEFAULT


def topology_of(name: str, runtime: str, folder: Path) -> str:
    """What `net up` is to be given."""
    if runtime == DEFAULT:
        return name
    written = json.loads((shipped("topologies") / f"{name}.json").read_text())
    for server in written["servers"].values():
        server["runtime"] = runtime
    path = folder / f"{name}-{runtime}.json"
    path.write_text(json.dumps(written, indent=2))
    return str(path)
