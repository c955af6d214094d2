"""The NF objects of a service graph."""

from __future__ import annotations

from typing import Any

from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.base import NetworkFunction, lookup


def functions_of(graph: ServiceGraph) -> dict[str, NetworkFunction[Any]]:
    """One NF object for each instance, by name, in the graph's order."""
    return {nf.name: lookup(nf.type)(nf.name, nf.config) for nf in graph.nfs.values()}
