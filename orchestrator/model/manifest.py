"""An operator's manifest: sampling hash keys and sampling rate of a graph's deployment."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.model.entries import Exact, TableEntry

MANIFESTS = "trajectory_sample.manifests"
EPOCHS, COLLECTORS = "witness.epochs", "record.collectors"
"""What a witness's CLE writes into a switch, and nobody else: key epochs, and whom records go to."""
WITNESS_TABLES = frozenset({EPOCHS, COLLECTORS})
_SPACE = 1 << 32


@dataclass(frozen=True, slots=True)
class SamplingSecret:
    """A graph's sampling secret: labels with PRF(key, label) < threshold are watched.

    The keys are not in `repr`, so they stay out of logs.
    """

    graph_id: int
    threshold: int
    key0: int = field(repr=False)
    key1: int = field(repr=False)


def new_manifest(graph_id: int, sampling_rate: float) -> SamplingSecret | None:
    """A manifest with fresh keys; None when nothing is to be sampled."""
    if sampling_rate <= 0:
        return None
    threshold = min(round(sampling_rate * _SPACE), _SPACE - 1)
    return SamplingSecret(graph_id, threshold, secrets.randbits(32), secrets.randbits(32))


def manifest_entries(manifest: SamplingSecret) -> Iterator[TableEntry]:
    """What every switch needs to decide for itself whether a label is watched."""
    yield TableEntry(
        MANIFESTS,
        (("graph", Exact(manifest.graph_id)),),
        "trajectory_sample.watch",
        (("key0", manifest.key0), ("key1", manifest.key1), ("below", manifest.threshold)),
        0,
        "verification manifest",
    )
