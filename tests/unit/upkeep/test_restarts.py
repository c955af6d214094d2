"""Restarts in virtual time: not too often, and waited for only while something may come of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

from support import eventually

from orchestrator.errors import NetworkError
from orchestrator.upkeep.restarts import Restarts

WORKER = "server1.1"


class Starter:
    """Restarts when it is let, well or not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = threading.Event()
        self.fails = False

    def restart(self, worker: str) -> None:
        self.asked.append(worker)
        self.let.wait()
        if self.fails:
            raise NetworkError("no such interface")


def ended(restarts: Restarts) -> list[tuple[str, str]]:
    restarted: Callable[[], list[tuple[str, str]]] = lambda: list(restarts.ended())  # noqa: E731
    return eventually(restarted, what="the end of a restart")


def test_one_under_way_is_waited_for_but_not_for_ever() -> None:
    starter = Starter()
    restarts = Restarts(starter, 10.0)
    restarts.begin(WORKER, 0.0)
    restarts.begin(WORKER, 5.0)
    assert restarts.under_way
    assert restarts.promises(WORKER, 9.9)
    assert not restarts.promises(WORKER, 10.0)
    assert not restarts.promises("server1.2", 0.0)
    starter.let.set()
    assert ended(restarts) == [(WORKER, "")]
    assert starter.asked == [WORKER]
    assert not restarts.under_way


def test_what_is_promised_is_kept_once_it_answers() -> None:
    starter = Starter()
    starter.let.set()
    restarts = Restarts(starter, 10.0)
    restarts.begin(WORKER, 0.0)
    ended(restarts)
    assert restarts.promises(WORKER, 1.0), "it has not answered yet"
    restarts.lives(WORKER)
    assert not restarts.promises(WORKER, 1.0), "should it die now, that is another death"


def test_one_that_does_not_start_is_not_waited_for_and_tried_ever_later() -> None:
    starter = Starter()
    starter.let.set()
    starter.fails = True
    restarts = Restarts(starter, 10.0)
    at, tries = 0.0, []
    while at < 300:
        before = len(starter.asked)
        restarts.begin(WORKER, at)
        if restarts.under_way:
            assert ended(restarts) == [(WORKER, "no such interface")]
            assert not restarts.promises(WORKER, at)
        if len(starter.asked) > before:
            tries.append(at)
        at += 1
    gaps = [b - a for a, b in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[:4] == [2, 4, 8, 16]
    assert max(gaps) == 120


def test_without_anybody_who_can_nothing_is_promised() -> None:
    restarts = Restarts(None, 10.0)
    restarts.begin(WORKER, 0.0)
    assert not restarts.promises(WORKER, 0.0)
    assert not restarts.under_way
