"""What happens while a network is kept: for people one line each, for programs one object each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.deployment.reconcile import Drift
from orchestrator.observation.liveness import ConditionChange


@dataclass(frozen=True, slots=True)
class SubjectChanged:
    """A device or link has come to be up, suspect or down."""

    change: ConditionChange

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        change = self.change
        return {
            "event": "condition",
            "kind": change.subject.kind,
            "name": change.subject.name,
            "before": change.before,
            "state": change.now.state,
            "since": change.now.since,
            "why": change.now.why,
        }

    def __str__(self) -> str:
        return str(self.change)


@dataclass(frozen=True, slots=True)
class Restarted:
    """A worker was started again, or could not be: then `problem` says why."""

    worker: str
    problem: str = ""

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {"event": "restart", "worker": self.worker, "problem": self.problem}

    def __str__(self) -> str:
        if self.problem:
            return f"{self.worker} could not be started again: {self.problem}"
        return f"{self.worker} was started again"


@dataclass(frozen=True, slots=True)
class PlacedAnew:
    """A graph was placed around what is away, or takes in again what is back."""

    graph: str
    moves: tuple[str, ...]
    summary: str
    seconds: float

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "event": "placement",
            "graph": self.graph,
            "moves": self.moves,
            "changes": self.summary,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        moves = "".join(f"; {move}" for move in self.moves)
        return f"{self.graph} was placed anew in {self.seconds:.2f} s: {self.summary}{moves}"


@dataclass(frozen=True, slots=True)
class Repaired:
    """Devices had drifted from the journal, and were made what it says."""

    drift: Drift


@dataclass(frozen=True, slots=True)
class RepairProblem:
    """What of a graph or network could not be repaired, and why; it is tried again."""

    what: str
    text: str

    def fields(self) -> dict[str, Any]:
        """As JSON values."""
        return {"event": "problem", "what": self.what, "text": self.text}

    def __str__(self) -> str:
        return self.text


Event = SubjectChanged | Restarted | PlacedAnew | Repaired | RepairProblem
