"""Says to points which packets are watched: the manifest's key epochs, as they come and go.

Every point is told again at every step, what it has been told already being no change: so one that was
started anew knows within a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from orchestrator.errors import ReportedError
from orchestrator.verification.manifest import VerificationManifest
from servernf.wire.witness import Witness

MOST_STEP_S = 5.0


class EpochTaker(Protocol):
    """What takes epochs (`WorkerClient`)."""

    def set_witness(self, graph: str, witness: Witness | None) -> None: ...


def step_seconds(manifest: VerificationManifest) -> float:
    """How often points are told: each knows of an epoch well within half an overlap."""
    return min(MOST_STEP_S, manifest.epochs.overlap_seconds / 8)


def tell(
    manifest: VerificationManifest,
    key: bytes,
    points: Mapping[str, Callable[[], AbstractContextManager[EpochTaker]]],
    at: datetime,
) -> dict[str, str]:
    """Tell every point the epochs of a time; what went wrong, by point."""
    witness = manifest.witness(key, at)
    failed: dict[str, str] = {}
    for name, connect in points.items():
        try:
            with connect() as point:
                point.set_witness(manifest.graph, witness)
        except ReportedError as error:
            failed[name] = str(error)
    return failed
