"""The states of devices by a clock that the test moves: pure, so every moment can be asked."""

from __future__ import annotations

import pytest

from orchestrator.observation.liveness import (
    DOWN,
    SUSPECT,
    UP,
    ConditionChange,
    Liveness,
    State,
    Subject,
)

WORKER = Subject("worker", "server1.1")
SPINE = Subject("switch", "spine1")
INTERVAL = 0.5


class Asked:
    """A watcher's calls in virtual time: asked every eighth of the interval, looked at as often."""

    def __init__(self) -> None:
        self.live = Liveness(INTERVAL)
        self.now = 0.0
        self.changes: list[tuple[float, str, State]] = []

    def run(self, seconds: float, answer: str | None = "", took: float = 0.001) -> None:
        """Ask for so long; `answer` None: silence, empty: well, else why not."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.live.asked(WORKER, self.now)
            if answer == "":
                self.note(self.live.answered(WORKER, self.now + took))
            elif answer is not None:
                self.note(self.live.failed(WORKER, self.now + took, answer))
            self.now += INTERVAL / 8
            self.note(*self.live.passed(self.now))

    def note(self, *changes: ConditionChange | None) -> None:
        for change in changes:
            if change is not None:
                self.changes.append((round(self.now, 3), change.subject.name, change.now.state))

    @property
    def state(self) -> State:
        return self.live.conditions()[WORKER].state

    @property
    def states(self) -> list[State]:
        return [state for _, _, state in self.changes]


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_who_answers_is_up(asked: Asked) -> None:
    asked.run(10)
    assert asked.states == [UP]


@pytest.mark.parametrize("answer", [None, "nothing listens at unix:/w"])
def test_suspect_first_and_down_after_the_interval(asked: Asked, answer: str | None) -> None:
    asked.run(1)
    died = asked.now
    asked.run(3, answer)
    assert asked.states == [UP, SUSPECT, DOWN]
    suspect, down = (at - died for at, _, _ in asked.changes[1:])
    assert suspect <= INTERVAL / 2 + INTERVAL / 8
    assert down == pytest.approx(INTERVAL, abs=INTERVAL / 8)
    assert asked.live.conditions()[WORKER].why == (answer or "no answer for 0.5 s")


def test_one_missed_answer_is_not_down(asked: Asked) -> None:
    asked.run(1)
    asked.run(INTERVAL / 4, "nothing listens")
    assert asked.state == SUSPECT
    asked.run(1)
    assert asked.states == [UP, SUSPECT, UP]


def test_one_that_comes_back_is_up_at_once(asked: Asked) -> None:
    asked.run(2, None)
    assert asked.state == DOWN
    asked.run(INTERVAL / 8)
    assert asked.states == [SUSPECT, DOWN, UP]
    assert asked.live.conditions()[WORKER].why == ""


def test_who_is_down_does_not_become_suspect_again(asked: Asked) -> None:
    asked.run(2, None)
    asked.run(2, "nothing listens")
    asked.run(2, None)
    assert asked.states == [SUSPECT, DOWN]


def test_slow_by_habit_is_waited_for(asked: Asked) -> None:
    for _ in range(50):  # answers take 0.8 s, whatever they are asked
        asked.live.asked(WORKER, asked.now)
        for _ in range(16):
            asked.now += 0.05
            asked.live.passed(asked.now)
        asked.live.answered(WORKER, asked.now)
    asked.live.asked(WORKER, asked.now)
    for _ in range(13):
        asked.now += 0.05
        asked.note(*asked.live.passed(asked.now))
    assert DOWN not in asked.states
    for _ in range(60):
        asked.now += 0.05
        asked.note(*asked.live.passed(asked.now))
    assert asked.state == DOWN


def test_time_in_which_nobody_listened_does_not_count(asked: Asked) -> None:
    asked.run(1)
    asked.live.asked(WORKER, asked.now)
    asked.now += 60
    asked.note(*asked.live.passed(asked.now))
    assert asked.states == [UP]
    asked.note(asked.live.answered(WORKER, asked.now))
    asked.run(1, None)
    assert asked.state == DOWN


def test_subjects_are_apart(asked: Asked) -> None:
    asked.live.asked(SPINE, 0.0)
    asked.live.answered(SPINE, 0.001)
    asked.run(2, None)
    assert asked.live.conditions()[SPINE].state == UP
    asked.live.forget(WORKER)
    assert set(asked.live.conditions()) == {SPINE}
