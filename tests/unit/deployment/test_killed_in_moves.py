"""A controller that is killed in a move, at every call: one owner a bucket, with all state.

Oracle: by hand: every flow goes on with its outside port, and each mapping is in one place. Killed is a
controller that can call nobody any more, not even to undo; another one knows what the journal says.
Blind spot: calls whose answer is lost (tests/recovery/test_faulty_calls.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from test_state_across_updates import Site, napt
from test_state_moves import answered, instances, mapped, on
from update_support import update

from orchestrator.deployment.execution import Executor, NoRecorder
from orchestrator.deployment.transaction import Transaction
from orchestrator.errors import DeploymentError
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving, running_of

pytestmark = pytest.mark.slow

SAMPLE = 3
MOST_CALLS = 200


class Killed(Exception):
    """The controller is no more."""


class Progress(NoRecorder):
    """What a journal says: how far it was, and whether on its way back."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = -1

    def begin(self, stage: int) -> None:
        self.stage = stage


def killed_at(site: Site, transaction: Transaction, call: int) -> int | None:
    """The stage in which the controller was killed, behind a call; None: it was done before."""
    calls, journal = 0, Progress()

    def strike() -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise Killed

    site.network.after = strike
    try:
        Executor(site.network, recorder=journal).run(transaction)  # type: ignore[arg-type]
        return None
    except (Killed, DeploymentError):
        return journal.stage
    finally:
        site.network.after = lambda: None


def taken_up(site: Site, transaction: Transaction, stage: int, *, forward: bool) -> None:
    """Another controller finishes it, or takes it back."""
    executor = Executor(site.network, careful=True)  # type: ignore[arg-type]
    if forward:
        executor.run(transaction, first=stage)
    else:
        assert executor.undo(transaction, stage) == ()


def kills(count: int | None) -> Iterator[tuple[Site, dict[str, int]]]:
    """A move between two servers that another controller has taken up, after a kill at every call, or at
    so many."""
    numbers = range(1, MOST_CALLS)
    chosen = numbers if count is None else sorted(random.Random(4).sample(range(1, 25), count))
    for call in chosen:
        for forward in (True, False):
            site = Site(nat=on(napt(), 1))
            ports = mapped(site)
            (core,) = running_of(site.running).cores_of["nat"]
            other = Core({"server1": "server2", "server2": "server1"}[core.server], 1)
            new = site.next(nat=on(napt(), 1), moving=Moving("nat", other))
            transaction = update(site.running, new)
            stage = killed_at(site, transaction, call)
            if stage is None:
                assert call > 20
                return
            assert call < MOST_CALLS - 1, "it comes to no end"
            taken_up(site, transaction, stage, forward=forward)
            site.running = new if forward else site.running
            yield site, ports


def is_whole(site: Site, ports: dict[str, int]) -> None:
    answered(site, ports)
    assert mapped(site) == ports
    records = [len(d.table.records) for i in instances(site) for d in i.nf.state.tables.values()]
    assert sum(records) == len(ports)


def test_another_controller_takes_a_move_up() -> None:
    for site, ports in kills(SAMPLE):
        is_whole(site, ports)


@pytest.mark.exhaustive
def test_another_controller_takes_a_move_up_wherever_it_was() -> None:
    for site, ports in kills(None):
        is_whole(site, ports)
