"""Who is told how far a transaction is."""

from __future__ import annotations

from typing import Protocol


class TransactionRecorder(Protocol):
    """Who is told how far a transaction is: a write-ahead journal."""

    def begin(self, stage: int) -> None:
        """Stage `stage` is about to run."""
        ...

    def undo(self, stage: int) -> None:
        """Stage `stage` is about to be undone, those after it have been: no way but back now."""
        ...

    def end(self, stage: int) -> None:
        """It has run to its end."""
        ...

    def replaced(self, device: str, saved: bytes) -> None:
        """A device's pipeline is about to be replaced; `saved` is what `savepoint` made of it."""
        ...

    def saved(self, device: str) -> bytes | None:
        """What was replaced on a device; None: nothing was."""
        ...


class NoRecorder:
    """Nobody is told; replaced pipelines are kept in this process."""

    def __init__(self) -> None:
        self._saved: dict[str, bytes] = {}

    def begin(self, stage: int) -> None:
        """Nothing."""

    def undo(self, stage: int) -> None:
        """Nothing."""

    def end(self, stage: int) -> None:
        """Nothing."""

    def replaced(self, device: str, saved: bytes) -> None:
        """Keep it."""
        self._saved[device] = saved

    def saved(self, device: str) -> bytes | None:
        """What was kept."""
        return self._saved.get(device)
