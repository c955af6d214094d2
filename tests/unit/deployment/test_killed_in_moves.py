"""A controller, or the worker that state leaves, is killed in a move, at every call.

Oracle: by hand: every flow goes on with its outside port, and each mapping is in one place: all of
them, or, of a source, those that had come to the target. A killed controller can call nobody any more,
not even to undo; another one knows what the journal says.
Blind spot: calls whose answer is lost (tests/recovery/test_faulty_calls.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
from test_state_across_updates import Site, napt
from test_state_moves import answered, instances, mapped, on
from update_support import update

from orchestrator.deployment.execution import Executor
from orchestrator.deployment.recording import NoRecorder
from orchestrator.deployment.transaction import Transaction
from orchestrator.errors import DeploymentError, ServerGone
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


def bereft(call: int, *, anew: bool) -> tuple[list[int], dict[str, int], Site] | None:
    """A move whose source ends behind a call, and is started `anew` at once, or not: how many mappings
    each worker has then, the outside ports, and what the controller left; None: it was done before."""
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    (core,) = running_of(site.running).cores_of["nat"]
    other = Core({"server1": "server2", "server2": "server1"}[core.server], 1)
    new = site.next(nat=on(napt(), 1), moving=Moving("nat", other))
    network, worker, calls, left = site.network, site.network.worker, 0, None

    def gone(asked: Core) -> AbstractContextManager[Any]:
        if asked == core:
            raise ServerGone(f"worker {core} does not answer")
        return worker(asked)

    def strike() -> None:
        nonlocal calls, left
        calls += 1
        if calls == call:
            network.memory.renew_worker(core)
            if not anew:
                network.worker = gone  # type: ignore[method-assign]
            left = records(site)

    network.after = strike
    with suppress(DeploymentError):
        network.run(update(site.running, new))
    network.after = lambda: None
    network.pause(11)  # so long a target waits for who has become silent
    return None if left is None else (left, ports, site)


def records(site: Site) -> list[int]:
    return [len(d.table.records) for i in instances(site) for d in i.nf.state.tables.values()]


def ends(calls: Iterable[int], *, anew: bool = False) -> int:
    """What is there when a source ends behind each of these calls is there afterwards, and nothing waits
    for the rest; how often that was all."""
    whole = 0
    for call in calls:
        outcome = bereft(call, anew=anew)
        if outcome is None:
            assert call > 40
            break
        left, ports, site = outcome
        assert sum(records(site)) == sum(left), call
        assert not site.network.holds_back, call
        if sum(left) == len(ports):
            whole += 1
            answered(site, ports)
    return whole


def test_what_has_come_of_a_source_that_ends_is_not_given_up() -> None:
    assert ends((60, 90)) == 2
    # Before it is asked to hand over, and between the question how far it is and that.
    assert ends((55, 61, 63), anew=True) == 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("anew", [False, True])
def test_it_is_not_given_up_wherever_the_source_ends(anew: bool) -> None:
    assert ends(range(1, MOST_CALLS), anew=anew) > 40
