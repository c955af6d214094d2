"""Reconciling a live network: once, or again and again, at once when a switch's stream breaks."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.interrupts import held_interrupts
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.reconcile import Drift, find_drift, repair
from orchestrator.deployment.recovery import Note, changing
from orchestrator.errors import ReportedError

_CONNECT_S = 1.0
_RETRY_S = 0.5
"""How soon a switch that does not answer is asked again."""


def inspect(network: ManagedNetwork, *, prune: bool = False) -> Drift:
    """What `reconcile` would do; changes nothing and pushes nobody aside."""
    journal = network.journal
    return find_drift(network.reading(), journal.deployed(), prune=prune, owed=journal.owed())


def reconcile(network: ManagedNetwork, *, prune: bool = False, note: Note | None = None) -> Drift:
    """Repair what drifted, as the network's leader; Ctrl-C waits for its end.

    A change that another controller left unfinished is finished or undone first: `note` hears of it.
    """
    with changing(network, note=note) as lead, held_interrupts():
        owed = network.journal.owed()
        drift = repair(network, network.journal.deployed(), prune=prune, owed=owed)
        for debt in owed:
            left = debt.without(drift.reached_devices, drift.reached_cores)
            if left != debt:
                lead.paid(debt, left)
        return drift


def watch(network: LiveNetwork, interval_s: float, *, prune: bool = False) -> Iterator[Drift]:
    """Reconcile for ever; yields what was found and repaired whenever something was.

    A look does not take the lead: only who has something to repair asks for it.
    """
    broken = threading.Event()
    with ExitStack() as stack:
        streams = stack.enter_context(Streams(network, broken))
        last: Drift | None = None
        while True:
            streams.keep_open()
            broken.clear()
            drift = inspect(network, prune=prune) if not network.journal.intent() else None
            if drift:
                if any(d and not d.unreachable for d in (*drift.devices, *drift.workers)):
                    drift = reconcile(network, prune=prune)
                if drift and drift != last:
                    yield drift
                last = drift
            else:
                last = None
            unanswered = drift is not None and bool(drift.unreachable)
            broken.wait(min(_RETRY_S, interval_s) if unanswered else interval_s)


class Streams:
    """A stream to each switch, as a backup that wants nothing: its end says that the switch ended."""

    def __init__(self, network: LiveNetwork, broken: threading.Event) -> None:
        self._network = network
        self._broken = broken
        self._open: dict[str, SwitchClient] = {}
        self._election_id = secrets.randbelow(1 << 31) + 1

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._open.values():
            session.on_break = None
            session.close()

    def keep_open(self) -> None:
        """Open those that are not open; a switch that does not answer is asked again next time."""
        for name in self._network.inventory.pipelines:
            if name in self._open and not self._open[name].is_broken:
                while self._open[name].packet_in(0):
                    pass  # with no other controller, samples come to this one
                continue
            if old := self._open.pop(name, None):
                old.close()
            session = self._network.device(name).standing_by(self._election_id)
            session.connect_seconds = _CONNECT_S
            session.on_break = self._broken.set
            with suppress(ReportedError):
                session.open()
                self._open[name] = session
