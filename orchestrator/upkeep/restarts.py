"""Restarts of workers, one after another in a thread: whoever keeps a network waits for none of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from orchestrator.errors import ReportedError
from orchestrator.network.facilities import Restarter

_FIRST_S, _LONGEST_S = 2.0, 120.0
"""Until the next attempt: twice as long each time, so that what dies at once is not started for ever."""
_CALM_S = 60.0
"""Who has lived for so long begins anew with the first."""


@dataclass(slots=True)
class _Tried:
    """What was tried for a worker; times in seconds of the caller's clock."""

    begun: float
    next_at: float
    wait: float
    running: bool = True
    open: bool = True
    """Whether something may still come of it."""


class Restarts:
    """Restarts under way and those that were; nobody restarts without a `restarter`."""

    def __init__(self, restarter: Restarter | None, patience_s: float) -> None:
        self._restarter = restarter
        self._patience_s = patience_s
        self._tried: dict[str, _Tried] = {}
        self._todo: SimpleQueue[str] = SimpleQueue()
        self._done: SimpleQueue[tuple[str, str]] = SimpleQueue()
        if restarter is not None:
            threading.Thread(target=self._run, args=(restarter,), daemon=True).start()

    def begin(self, worker: str, at: float) -> None:
        """Start a worker again, unless that is under way or was tried a short while ago."""
        if self._restarter is None:
            return
        last = self._tried.get(worker)
        if last is not None and (last.running or at < last.next_at):
            return
        wait = _FIRST_S
        if last is not None and at - last.next_at < _CALM_S:
            wait = min(2 * last.wait, _LONGEST_S)
        self._tried[worker] = _Tried(at, at + wait, wait)
        self._todo.put(worker)

    def promises(self, worker: str, at: float) -> bool:
        """Whether a restart is under way, or has just ended well, so that it is worth waiting."""
        tried = self._tried.get(worker)
        return tried is not None and tried.open and at - tried.begun < self._patience_s

    def lives(self, worker: str) -> None:
        """It answers: what was promised is kept."""
        if worker in self._tried:
            self._tried[worker].open = False

    @property
    def under_way(self) -> bool:
        """Whether some are."""
        return any(tried.running for tried in self._tried.values())

    def ended(self) -> Iterator[tuple[str, str]]:
        """(worker, why it did not start or nothing) of those that have ended since the last call."""
        while True:
            try:
                worker, problem = self._done.get_nowait()
            except Empty:
                return
            tried = self._tried[worker]
            tried.running, tried.open = False, tried.open and not problem
            yield worker, problem

    def _run(self, restarter: Restarter) -> None:
        while True:
            worker = self._todo.get()
            try:
                restarter.restart(worker)
            except ReportedError as error:
                self._done.put((worker, str(error)))
            except Exception as error:  # it is no reason to restart nothing any more
                self._done.put((worker, f"{type(error).__name__}: {error}"))
            else:
                self._done.put((worker, ""))
