"""Changes of a network that end as the new state or the old one, whoever is killed in between.

A change is carried out by a leader, who writes ahead what it intends. Its failure is undone at once. One
whose controller ended, or that could not be undone because a device was away, is finished or undone by
whoever leads next: before its own first change, or by `orchestrator recover`. Finished: once the new
version is in force on all switches, what is left is cleaning up. Undone: before.

Both run the very stages of the change again, or their inverses, from the one that was begun last; each
step looks at what is there first, so it does not matter how far that stage had come, nor how often
recovery itself is interrupted. Devices that have died meanwhile, as whoever watches them knows, are left
out from then on, and owed what the change may have left there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from orchestrator.bundle.codec import serialised
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.execution import Executed, Executor, Progress
from orchestrator.deployment.journal import Deployed, Intent, Lead
from orchestrator.deployment.planning import OPEN, SWITCH_OVER, Version, plan
from orchestrator.deployment.store import LEAD_WAIT_S
from orchestrator.deployment.transaction import Transaction
from orchestrator.errors import DeploymentError, ReportedError
from orchestrator.model.away import Away

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recovered:
    """How an unfinished change ended; `amiss` are devices that are gone, and what was on them."""

    graph: str
    outcome: Literal["finished", "undone"]
    begun_at: str
    controller: str
    amiss: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.graph}: the change that {self.controller} began at {self.begun_at} was "
            f"{self.outcome}"
        )


@contextmanager
def changing(
    network: ManagedNetwork, *, wait_s: float = LEAD_WAIT_S, note: Note | None = None
) -> Generator[Lead]:
    """Lead, with nothing left unfinished by others; `note` hears of what was."""
    with network.leading(wait_s) as lead:
        recovered = recover(network, lead)
        if recovered is not None and note is not None:
            note(str(recovered))
        yield lead


def carry_out(
    network: ManagedNetwork,
    lead: Lead,
    graph: str,
    new: Deployed | None,
    *,
    interrupting: bool = False,
    forgiving: bool = False,
    progress: Progress | None = None,
    away: Away | None = None,
    transaction: Transaction | None = None,
) -> Executed:
    """Make a graph what `new` says (None: not there), or leave it as it was: DeploymentError.

    Devices that are `away` are left as they are; what a removed graph has there is owed. `transaction`
    is what was planned from the same under this lead, where that was done already.
    """
    deployed = network.journal.deployed()
    for version in (deployed.get(graph), new):
        if version is not None:
            network.access.check_owner({graph: version.bundle.owner})
    transaction = transaction or _transaction(deployed, graph, new, interrupting)
    entries = {} if new is None else serialised(new.bundle)  # once, for journal and switches
    lead.intend(graph, new, interrupting=interrupting, entries=entries, away=away)
    executor = Executor(
        network, progress=progress, recorder=lead, forgiving=forgiving, ready=entries, away=away
    )
    try:
        return _run(executor, transaction, lead, 0)
    except ReportedError as error:
        if executor.undone:
            raise
        return _second_try(network, lead, executor, error)


def _second_try(
    network: ManagedNetwork, lead: Lead, executor: Executor, error: ReportedError
) -> Executed:
    """With new sessions: what cut a call short may be over."""
    try:
        recovered = recover(network, lead)
    except ReportedError as again:
        raise DeploymentError(f"{error}; and then: {again}") from error
    if recovered is not None and recovered.outcome == "finished":
        return executor.done
    raise DeploymentError(
        f"{error}; in a second try it was undone: the network is as before"
    ) from error


def recover(
    network: ManagedNetwork,
    lead: Lead,
    *,
    expected: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> Recovered | None:
    """Finish or undo what another controller, or this one, left unfinished; None: there was nothing.

    `expected` hears how many changes `progress` will come to.
    """
    intent = network.journal.intent()
    if intent is None:
        return None
    deployed = network.journal.deployed()
    transaction = _transaction(deployed, intent.graph, intent.new, intent.interrupting)
    dead = network.dead()
    if dead.without(intent.away):
        lead.leave_out(dead.without(intent.away))
    away = intent.away.joined(dead)
    executor = Executor(network, progress=progress, recorder=lead, careful=True, away=away)
    executor.undone = False
    last = len(transaction.stages) - 1
    finishing = _in_force(transaction, intent) and not intent.undoing
    if expected is not None:
        left = (
            range(intent.reached, last + 1) if finishing else range(min(intent.reached, last) + 1)
        )
        expected(transaction.changes(left))
    if finishing:
        _run(executor, transaction, lead, intent.reached)
        return _recovered(intent, "finished", executor)
    reached = min(intent.reached, last)
    if reached >= 0 and (failures := executor.undo(transaction, reached)):
        raise DeploymentError(
            f"{intent.graph}: the change that {intent.controller} began at {intent.begun_at} cannot be "
            f"undone yet: {'; '.join(failures)}; try `orchestrator recover` again"
        )
    lead.undone()
    return _recovered(intent, "undone", executor)


def _transaction(
    deployed: dict[str, Deployed], graph: str, new: Deployed | None, interrupting: bool
) -> Transaction:
    """The same as often as it is made: a leader's journal changes by this very transaction only."""
    old = deployed.get(graph)
    alone = not deployed.keys() - {graph}
    versions = [
        None if version is None else Version(version.bundle, version.manifest, alone)
        for version in (old, new)
    ]
    return plan(*versions, interrupting=interrupting)


def _in_force(transaction: Transaction, intent: Intent) -> bool:
    """Whether the stage that puts the new version in force had ended, on all switches."""
    titles = [stage.title for stage in transaction.stages]
    last = max((i for i, title in enumerate(titles) if title in (SWITCH_OVER, OPEN)), default=None)
    return intent.reached > (len(titles) - 1 if last is None else last)


def _run(executor: Executor, transaction: Transaction, lead: Lead, first: int) -> Executed:
    try:
        done = executor.run(transaction, first=first)
    except BaseException:
        if executor.undone:
            lead.undone()
        raise
    lead.finished()
    return done


def _recovered(
    intent: Intent, outcome: Literal["finished", "undone"], executor: Executor
) -> Recovered:
    amiss = tuple(executor.done.amiss)
    return Recovered(intent.graph, outcome, intent.begun_at, intent.controller, amiss)
