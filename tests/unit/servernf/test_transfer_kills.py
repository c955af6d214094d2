"""A worker that dies, or whose answer is lost, at every part of a transfer: one owner with its state.

Oracle: a worker that nothing leaves. Who dies is heard of no more, and neither is what it had not sent.
Blind spot: the controller (tests/unit/deployment/test_killed_in_moves.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_servernf_state import KEY, Case
from test_transfer import BEGIN, DIVIDED, FINISH, STATUS, Play, site_of

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arriving import SILENT_US
from servernf.python.runtime.errors import Unreachable
from servernf.wire.errors import ServerError

pytestmark = pytest.mark.slow

SAMPLE = ("napt", "ids")
Answer = vnf.PushStateResponse


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


def cases() -> list[Any]:
    """A few kinds, and all in the exhaustive run."""
    found: list[Any] = []
    for case in DIVIDED:
        is_sample = case.nf in SAMPLE and case.nf not in {c.values[0].nf for c in found}
        marks = () if is_sample else pytest.mark.exhaustive
        found.append(pytest.param(case, id=str(case), marks=marks))
    return found


class Killed(BaseException):
    """The source is no more: it does not even clean up."""


class Moving:
    """Two buckets on their way; `strikes` is called with every part, which `treats` has it treated."""

    def __init__(self, case: Case, strikes: Callable[[int, Callable[[], Answer]], Answer]) -> None:
        self.site = site_of(case)
        self.play = Play(case, self.site, 3)
        self.play.run(120)
        self.parts = 0
        real, destination = self.site.workers["b"].push_state, self.site.workers["b"]

        def push(request: vnf.PushStateRequest) -> Answer:
            self.parts += 1
            return strikes(self.parts, lambda: real(request))

        destination.push_state = push  # type: ignore[method-assign, assignment]

    def run(self) -> str:
        """How the transfer ends; empty: as it should."""
        try:
            for phase in (BEGIN, FINISH):
                self.site.transfer(phase, 0, 1)
        except (ServerError, Killed) as error:
            return str(error) or "killed"
        return ""

    def owned_once(self) -> None:
        """Each record is in one place, and all are there."""
        for name, records in self.site.of_flows("c").items():
            here, there = (self.site.of_flows(worker)[name] for worker in "ab")
            assert here | there == records
            assert not here.keys() & there.keys()


def parts_of(case: Case) -> int:
    """How many parts a transfer of it has."""
    moving = Moving(case, lambda _, treats: treats())
    assert not moving.run()
    moving.owned_once()
    return moving.parts


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("treated", [False, True], ids=["before", "after"])
def test_a_destination_that_dies_leaves_all_with_the_source(case: Case, treated: bool) -> None:
    for at in range(1, parts_of(case) + 1):

        def strikes(part: int, treats: Callable[[], Answer], at: int = at) -> Answer:
            if part < at:
                return treats()
            if part == at and treated:
                treats()
            raise Unreachable("worker b does not answer")

        moving = Moving(case, strikes)
        assert "does not answer" in moving.run()
        site = moving.site
        assert site.of_flows("a") == site.of_flows("c"), at
        assert site.transfer(STATUS).state in ("aborted", "none")
        moving.play.run(20)
        assert site.of_flows("a") == site.of_flows("c"), at


@pytest.mark.parametrize("case", cases())
def test_a_source_that_is_killed_leaves_what_it_had_sent(case: Case) -> None:
    count, most = parts_of(case), 0
    for at in range(2, count + 1):

        def strikes(part: int, treats: Callable[[], Answer], at: int = at) -> Answer:
            if part >= at:
                raise Killed
            return treats()

        moving = Moving(case, strikes)
        assert moving.run() == "killed"
        site = moving.site
        there, before = site.of_flows("b"), site.of_flows("c")
        for name, records in there.items():
            assert records.items() <= before[name].items()
        sent = sum(map(len, there.values()))
        assert sent >= most, "nothing of it is lost again"
        most = sent
        assert site.workers["b"].holds_back
        site.now_us += SILENT_US + 1
        port, frame = next(
            (p, f) for p, f, _ in moving.play.talk.frames(500) if site.bucket(p, f) < 2
        )
        site.send("b", port, frame)
        assert not site.workers["b"].holds_back, "it goes on as the owner"
    assert most > 0


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("lost", [1, 2])
def test_answers_that_are_lost_make_no_second_owner(case: Case, lost: int) -> None:
    """What is lost is the answer that the destination owns the buckets, once and once more."""
    count = parts_of(case)

    def strikes(part: int, treats: Callable[[], Answer]) -> Answer:
        answer = treats()
        if count <= part < count + lost:
            raise Unreachable("worker b does not answer")
        return answer

    moving = Moving(case, strikes)
    assert not moving.run()
    moving.owned_once()
    moving.play.flip(0, 1)
    moving.play.run(20)
