"""The NF objects of a service graph."""

from __future__ import annotations

from typing import Any

from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.base import NetworkFunction, NfConfig, lookup


def functions_of(graph: ServiceGraph) -> dict[str, NetworkFunction[Any]]:
    """One NF object for each instance, by name, in the graph's order."""
    return {nf.name: function_of(nf.config, nf.type, nf.name) for nf in graph.nfs.values()}


def function_of(config: NfConfig, type_name: str, name: str) -> NetworkFunction[Any]:
    """The NF object of an instance."""
    return lookup(type_name)(name, config)
