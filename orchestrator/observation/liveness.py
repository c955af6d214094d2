"""Whether devices live, from when they were asked and when they answered. Pure: time is told.

A device that leaves a question unanswered is suspect: nothing listens there, or half of the
detection interval has passed. It is down when the interval has passed since the first question that
it has not answered, and up with the next answer. Who answers slowly by habit is waited for as long
as TCP would (RFC 6298, 2): a busy device must not be taken for a dead one. Nor does time count in
which nobody listened: a starved watcher would take everything for dead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["up", "suspect", "down"]
UP: State = "up"
SUSPECT: State = "suspect"
DOWN: State = "down"
Kind = Literal["switch", "nic", "worker", "agent", "link"]

_SMOOTHED, _VARIATION, _VARIATIONS = 1 / 8, 1 / 4, 4
"""Alpha, beta and K of RFC 6298."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What is watched: workers by their names (`server1.1`), links by their ends (`a-b`)."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of a subject, since when (seconds, by the clock that was told), and why it is not up."""

    state: State
    since: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class ConditionChange:
    """A subject has come to be in another condition; `before` is None when nothing was known of it."""

    subject: Subject
    before: State | None
    now: Condition

    def __str__(self) -> str:
        why = f" ({self.now.why})" if self.now.why else ""
        return f"{self.subject} is {self.now.state}{why}"


@dataclass(slots=True)
class _Known:
    """What is known of one subject; times in seconds."""

    condition: Condition | None = None
    asked: float | None = None
    """When the question was asked that is still open."""
    unanswered: float | None = None
    """When the first question was asked that it has not answered."""
    why: str = ""
    smoothed: float = 0.0
    variation: float = 0.0

    @property
    def state(self) -> State | None:
        return None if self.condition is None else self.condition.state

    def learn(self, took: float) -> None:
        if not self.smoothed:
            self.smoothed, self.variation = took, took / 2
            return
        self.variation += _VARIATION * (abs(self.smoothed - took) - self.variation)
        self.smoothed += _SMOOTHED * (took - self.smoothed)

    def habit(self) -> float:
        """How long an answer may take, by those so far."""
        return self.smoothed + _VARIATIONS * self.variation


class Liveness:
    """The conditions of all subjects. Calls tell what happened when, and return what that changes."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._known: dict[Subject, _Known] = {}
        self._listened: float | None = None

    def conditions(self) -> Mapping[Subject, Condition]:
        """All subjects of which something is known."""
        return {s: k.condition for s, k in self._known.items() if k.condition is not None}

    def forget(self, subject: Subject) -> None:
        """It is watched no longer."""
        self._known.pop(subject, None)

    def asked(self, subject: Subject, at: float) -> None:
        """A question was sent."""
        record = self._known.setdefault(subject, _Known())
        record.asked = at
        if record.unanswered is None:
            record.unanswered = at

    def answered(self, subject: Subject, at: float) -> ConditionChange | None:
        """The open question was answered."""
        record = self._known[subject]
        if record.asked is not None:
            record.learn(max(0.0, at - record.asked))
        record.asked = record.unanswered = None
        record.why = ""
        return _become(subject, record, UP, at, "")

    def failed(self, subject: Subject, at: float, why: str) -> ConditionChange | None:
        """The open question will not be answered."""
        record = self._known[subject]
        record.asked, record.why = None, why
        return None if record.state == DOWN else _become(subject, record, SUSPECT, at, why)

    def withdrawn(self, subject: Subject) -> None:
        """The open question is taken back: it cannot be known now whether there was an answer."""
        if (record := self._known.get(subject)) is not None:
            record.asked = record.unanswered = None

    def passed(self, at: float) -> tuple[ConditionChange, ...]:
        """Time has passed until `at`, and all answers that came until then have been told."""
        gap = 0.0 if self._listened is None else at - self._listened
        self._listened = at
        if gap > self.interval_s / 2:
            self._discount(gap)
        return tuple(self._late(at))

    def _discount(self, gap: float) -> None:
        for record in self._known.values():
            if record.asked is not None:
                record.asked += gap
            if record.unanswered is not None:
                record.unanswered += gap

    def _late(self, at: float) -> Iterator[ConditionChange]:
        for subject, record in self._known.items():
            if record.unanswered is None:
                continue
            silent = at - record.unanswered
            patience = max(self.interval_s, record.habit())
            nothing = "no frame has arrived" if subject.kind == "link" else "no answer"
            why = record.why or f"{nothing} for {silent:.1f} s"
            change = None
            if silent >= patience:
                change = _become(subject, record, DOWN, at, why)
            elif silent >= patience / 2 and record.state != DOWN:
                change = _become(subject, record, SUSPECT, at, why)
            if change is not None:
                yield change


def _become(
    subject: Subject, record: _Known, state: State, at: float, why: str
) -> ConditionChange | None:
    before = record.state
    if before == state:
        return None
    record.condition = Condition(state, at, why)
    return ConditionChange(subject, before, record.condition)
