"""All entries compared with the journal in a thread: a device that dies meanwhile holds nobody up."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.reconcile import Drift
from orchestrator.deployment.reconciling import inspect
from orchestrator.errors import ReportedError
from orchestrator.model.away import Away


class Comparison:
    """One comparison at a time."""

    def __init__(self) -> None:
        self.under_way = False
        self._outcome: SimpleQueue[Drift | Exception] = SimpleQueue()

    def begin(self, network: LiveNetwork, away: Away, *, prune: bool) -> None:
        """Compare devices that are not away, unless that is being done."""
        if self.under_way:
            return
        self.under_way = True

        def compare() -> None:
            try:
                self._outcome.put(inspect(network, prune=prune, away=away))
            except Exception as error:  # whoever asks for the outcome raises it
                self._outcome.put(error)

        threading.Thread(target=compare, name="comparison", daemon=True).start()

    def outcome(self) -> Drift | None:
        """What was found since the last call; None: nothing yet. ReportedError: it could not be."""
        try:
            outcome = self._outcome.get_nowait()
        except Empty:
            return None
        self.under_way = False
        if isinstance(outcome, ReportedError):
            raise outcome
        if isinstance(outcome, Exception):
            raise RuntimeError("comparing failed") from outcome
        return outcome
