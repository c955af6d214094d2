"""A worker that dies, is silent, or whose answer is lost, at every part of a transfer: one owner.

Oracle: a worker that nothing leaves. Who dies is heard of no more, and neither is what it had not sent.
Blind spot: the controller (tests/unit/deployment/test_killed_in_moves.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from test_servernf_state import KEY, Case
from test_transfer import ABORT, ADOPT, BEGIN, DIVIDED, FINISH, STATUS, Play, site_of

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.errors import Gone, NotPermitted, Unreachable
from servernf.wire.errors import ServerError

pytestmark = pytest.mark.slow

SAMPLE = ("napt", "ids")
Answer = vnf.PushStateResponse


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


def cases() -> list[Any]:
    """A few kinds, and all in the exhaustive run."""
    params: list[Any] = []
    for case in DIVIDED:
        is_sample = case.nf in SAMPLE and case.nf not in {c.values[0].nf for c in params}
        marks = () if is_sample else pytest.mark.exhaustive
        params.append(pytest.param(case, id=str(case), marks=marks))
    return params


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

    def a_packet(self) -> tuple[str, bytes]:
        """Of the buckets that move: port and frame."""
        talk = self.play.talk.frames(500)
        return next((p, f) for p, f, _ in talk if self.site.bucket(p, f) < 2)

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
            raise Gone("worker b does not answer")

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
        port, frame = moving.a_packet()
        site.send("b", port, frame)
        assert site.workers["b"].holds_back, "a silent source may be alive"
        assert site.workers["b"].transfer(site.request(ADOPT, 0, 1)).state == "done"
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


class Silence(Moving):
    """A destination that does not answer from a part on; once it wakes it treats all that was sent."""

    def __init__(self, case: Case, since: int) -> None:
        self.asleep: list[Callable[[], Answer]] = []
        self.is_silent = True

        def strikes(part: int, treats: Callable[[], Answer]) -> Answer:
            if part < since or not self.is_silent:
                return treats()
            self.asleep.append(treats)
            raise Unreachable("worker b does not answer")

        super().__init__(case, strikes)

    def wakes(self) -> None:
        self.is_silent = False
        for treats in self.asleep:
            with suppress(ServerError):
                treats()


@pytest.mark.parametrize("case", cases())
def test_a_destination_that_is_only_silent_never_owns_beside_the_source(case: Case) -> None:
    """Asleep, or cut off, at any part; it wakes and treats all that was sent to it meanwhile."""
    count = parts_of(case)
    for since in range(2, count + 1):
        moving = Silence(case, since)
        assert "does not answer" in moving.run()
        source = moving.site.workers["a"]
        in_doubt = source.transfer(moving.site.request(STATUS, 0, 1)).state == "in doubt"
        assert in_doubt == (since == count), "only while it may have been told to go on"
        if in_doubt:
            with pytest.raises(Unreachable, match="may own the state"):
                moving.site.transfer(ABORT, 0, 1)
            port, frame = moving.a_packet()
            assert not moving.site.send("a", port, frame), "nobody goes on"
            moving.site.send("c", port, frame)
        moving.wakes()
        state = moving.site.transfer(STATUS, 0, 1).state
        assert state == "done" if in_doubt else state in ("aborted", "none")
        if not in_doubt:
            moving.play.run(20)
            assert moving.site.of_flows("a") == moving.site.of_flows("c"), since
        moving.site.idle("b")
        moving.owned_once()


@pytest.mark.parametrize("case", cases())
def test_a_destination_that_ends_in_doubt_owns_nothing(case: Case) -> None:
    """Whether it was told to go on or not; another process may be in its place."""
    count = parts_of(case)
    for end in (Gone("worker b does not answer"), NotPermitted("no controller has announced it")):
        moving = Silence(case, count)
        assert "does not answer" in moving.run()

        def ended(_: vnf.PushStateRequest, end: ServerError = end) -> Answer:
            raise end

        moving.site.workers["b"].push_state = ended  # type: ignore[method-assign]
        assert moving.site.transfer(STATUS, 0, 1).state == "aborted"
        moving.play.run(20)
        assert moving.site.of_flows("a") == moving.site.of_flows("c")


@pytest.mark.parametrize("case", cases())
def test_a_source_that_was_taken_for_dead_wakes_and_owns_nothing(case: Case) -> None:
    moving = Moving(case, lambda _, treats: treats())
    site = moving.site
    site.transfer(BEGIN, 0, 1)
    assert site.workers["b"].transfer(site.request(ADOPT, 0, 1)).state == "done"
    assert site.transfer(STATUS, 0, 1).state == "done"
    moving.owned_once()
