"""Service graphs and topologies from files: read, checked as a whole, and made frozen data."""

from orchestrator.graph.functions import functions_of
from orchestrator.graph.hosts import check_hosts
from orchestrator.graph.load import LoadedGraph, load_graph
from orchestrator.graph.schema import graph_json_schema
from orchestrator.graph.topology import check_topology, load_topology
from orchestrator.graph.topology_file import topology_json_schema

__all__ = [
    "LoadedGraph",
    "check_hosts",
    "check_topology",
    "functions_of",
    "graph_json_schema",
    "load_graph",
    "load_topology",
    "topology_json_schema",
]
