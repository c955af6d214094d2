"""The one entry by which a switch knows which version of a graph is in force."""

from __future__ import annotations

from orchestrator.model.entries import Exact, TableEntry
from orchestrator.targets.block import EPOCH_TABLE

EPOCHS = 4


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
