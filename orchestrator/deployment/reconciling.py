"""Reconciling a live network once: what has drifted from its journal, and its repair."""

from __future__ import annotations

from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.interrupts import held_interrupts
from orchestrator.deployment.reconcile import Drift, find_drift, repair
from orchestrator.deployment.recovery import Note, changing
from orchestrator.model.away import Away


def inspect(network: ManagedNetwork, *, prune: bool = False, away: Away | None = None) -> Drift:
    """What `reconcile` would do; changes nothing and pushes nobody aside."""
    journal = network.journal
    return find_drift(
        network.reading(), journal.deployed(), prune=prune, owed=journal.owed(), away=away
    )


def reconcile(
    network: ManagedNetwork,
    *,
    prune: bool = False,
    note: Note | None = None,
    away: Away | None = None,
) -> Drift:
    """Repair what drifted, as the network's leader; Ctrl-C waits for its end.

    A change that another controller left unfinished is finished or undone first: `note` hears of it.
    Devices that are `away` are not asked.
    """
    with changing(network, note=note) as lead, held_interrupts():
        owed = network.journal.owed()
        drift = repair(network, network.journal.deployed(), prune=prune, owed=owed, away=away)
        for debt in owed:
            left = debt.without(drift.reached_devices, drift.reached_cores)
            if left != debt:
                lead.paid(debt, left)
        return drift
