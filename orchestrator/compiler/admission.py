"""Which frames of a host-facing port enter a graph, and where (block `classify`).

Three steps, so that ONE entry a switch puts a version of a graph in force: admission (port and match
-> graph), the epoch (graph -> number of the version in force), and that version's first segments.
A frame that is admitted for the sake of another version finds no first segment and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.layout import EXIT_PREFIX, Layout, Step
from orchestrator.compiler.wiring import Wiring
from orchestrator.model.entries import Exact, Key, TableEntry
from orchestrator.model.versions import versions_of
from orchestrator.targets.footprints import VERSION_TABLE

ADMISSION_TABLES = frozenset(f"classify.{name}" for name in VERSION_TABLE.values())
EPOCH_TABLE = "classify.epoch"
FIRST_TABLES = frozenset(f"classify.first_{name}" for name in VERSION_TABLE.values())
EPOCHS = 4
_PRIORITY = 1


def admission_entries(
    wiring: Wiring, layout: Layout, segment_of: Callable[[Step], int]
) -> Iterator[TableEntry]:
    """Admission and first segments of epoch 0 at one switch.

    All that admits says the same, so its priority is always the same: other traffics come and go.
    """
    admitted: set[tuple[str, tuple[tuple[str, Key], ...]]] = set()
    graph = ("graph", Exact(wiring.graph_id))
    for entry in wiring.cuts.entries:
        if entry.switch != layout.switch:
            continue
        here = entry.target in layout.steps
        first = segment_of(layout.steps[entry.target if here else EXIT_PREFIX + entry.target])
        ports = [
            wiring.fabric.attachments[host].port
            for host in wiring.graph.endpoints[entry.endpoint].hosts
            if wiring.fabric.attachments[host].switch == layout.switch
        ]
        wanted = [t for t in wiring.graph.traffic if t.ingress == entry.endpoint]
        for rank, traffic in enumerate(wanted):
            for version in sorted(versions_of(traffic.match)):
                for port in ports:
                    keys = (("ingress_port", Exact(port)), *match_keys(traffic.match, version))
                    name, origin = VERSION_TABLE[version], f"traffic {traffic.name}"
                    if (name, keys) not in admitted:
                        admitted.add((name, keys))
                        yield TableEntry(
                            f"classify.{name}",
                            keys,
                            "classify.admit",
                            (("graph", wiring.graph_id),),
                            _PRIORITY,
                            origin,
                        )
                    yield TableEntry(
                        f"classify.first_{name}",
                        (graph, ("epoch", Exact(0)), *keys),
                        "classify.enter",
                        (("segment", first),),
                        len(wanted) - rank + _PRIORITY,
                        origin,
                    )


def epoch_entry(graph_id: int, epoch: int) -> TableEntry:
    """The entry that puts a version in force."""
    return TableEntry(
        EPOCH_TABLE,
        (("graph", Exact(graph_id)),),
        "classify.run",
        (("epoch", epoch),),
        0,
        "version in force",
    )
