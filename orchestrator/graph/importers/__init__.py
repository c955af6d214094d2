"""Rule sets, routing tables and service chains of other projects, as our files."""

from __future__ import annotations

from orchestrator.graph.importers.metron import Imported, import_metron
from orchestrator.graph.importers.snort import SnortImport, ids_graph, import_snort
from orchestrator.graph.importers.tables import acl_graph, import_classbench, import_rib
from orchestrator.graph.importers.topologies import ImportedTopology, import_topology

__all__ = [
    "Imported",
    "ImportedTopology",
    "SnortImport",
    "acl_graph",
    "ids_graph",
    "import_classbench",
    "import_metron",
    "import_rib",
    "import_snort",
    "import_topology",
]
