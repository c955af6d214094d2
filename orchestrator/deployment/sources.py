"""What can be deployed: a service graph or a bundle, from a file."""

from __future__ import annotations

from pathlib import Path

from orchestrator.bundle.codec import Packed, is_bundle, read
from orchestrator.deployment.journal import memo
from orchestrator.graph import load_graph
from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.files import Readings


def to_deploy(file: Path) -> tuple[ServiceGraph | Packed, tuple[str, ...]]:
    """What a file holds, told by its content, and its warnings."""
    if is_bundle(file):
        packed = read(file)
        return packed, packed.bundle.warnings
    loaded = load_graph(file, Readings(memo()))
    return loaded.graph, tuple(loaded.warnings)
