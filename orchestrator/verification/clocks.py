"""How long packets took between points, by clocks that nobody sets alike: intervals, never an offset.

Two quantities need no offset: what one clock says of one point, and a **sandwich**, two sightings of a
point around what a packet did elsewhere: the time between them, less the time that it was there, is what
both ways took together.

For one way alone, how far a clock is ahead of another lies in an **envelope**: no packet came before it
left, so none of those one way lets the offset be above what it took by both clocks, and none of those
back lets it be below. Clocks run apart by `DRIFT` at most, so a packet says less of a time farther away.
A boot has a clock of its own. Where nothing satisfies all packets, a clock was set, or lies: no
interval. A constant difference between the two ways cannot be told from an offset; it lies within.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from orchestrator.verification.trajectories import Trajectory
from servernf.wire.records import Record

DRIFT = 200e-6
"""How much faster one clock may run than another: 100 ppm each (crystals: 50)."""
_ROUNDED_US = 1
"""By how much a difference of two times in whole us is uncertain, either way."""

Clock = tuple[int, int]
"""A point and its boot."""


class Span(NamedTuple):
    """A time (us) between two bounds; `most` None: no packet bounds it."""

    least: int
    most: int | None

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least} us or more"
        return f"{self.least} us" if self.least == self.most else f"{self.least} to {self.most} us"


class Sandwich(NamedTuple):
    """What a packet's ways to a point and back from it took together, by the clock of the one before."""

    point: int
    ways: Span


class Clocks:
    """What packets say of the offsets between points."""

    def __init__(self, trajectories: Iterable[Trajectory]) -> None:
        legs: dict[tuple[Clock, Clock], list[tuple[int, int]]] = defaultdict(list)
        for trajectory in trajectories:
            for before, after in pairwise(_single(trajectory)):
                if _clock(before) != _clock(after):
                    leg = before.wall_us, after.wall_us - before.wall_us
                    legs[_clock(before), _clock(after)].append(leg)
        self._least = {clocks: _Envelope(some) for clocks, some in legs.items()}

    def between(self, before: Record, after: Record) -> Span | None:
        """How long after one record of a packet the next was; None: the clocks contradict each other."""
        one, other, took = _clock(before), _clock(after), after.wall_us - before.wall_us
        if one == other:
            return Span(max(0, took - _ROUNDED_US), took + _ROUNDED_US) if took >= 0 else None
        there, back = self._least.get((one, other)), self._least.get((other, one))
        # The offset is at most what packets one way took, and at least less what those back took.
        highest = math.inf if there is None else there.at(before.wall_us)
        lowest = -math.inf if back is None else -back.at(after.wall_us)
        if lowest > highest + 2 * _ROUNDED_US:
            return None
        least = max(0, math.floor(took - highest) - _ROUNDED_US) if highest < math.inf else 0
        if lowest == -math.inf:
            return Span(least, None)
        return Span(least, max(least, math.ceil(took - lowest) + _ROUNDED_US))


class _Envelope:
    """The least that any packet took from one clock to another, seen from any time of the first."""

    def __init__(self, legs: Sequence[tuple[int, int]]) -> None:
        legs = sorted(legs)
        self._from = legs[0][0]
        self._times = [at - self._from for at, _ in legs]
        earlier = [took - DRIFT * at for at, (_, took) in zip(self._times, legs, strict=True)]
        later = [took + DRIFT * at for at, (_, took) in zip(self._times, legs, strict=True)]
        self._earlier = [math.inf, *accumulate(earlier, min)]
        self._later = [math.inf, *accumulate(reversed(later), min)][::-1]

    def at(self, at_us: int) -> float:
        """Of packets before and after a time, each with the drift until then."""
        at = at_us - self._from
        place = bisect_left(self._times, at)
        return min(self._earlier[place] + DRIFT * at, self._later[place] - DRIFT * at)


def sandwiches(trajectory: Trajectory) -> list[Sandwich]:
    """Of every point from which a packet came back to the point before it; no offset matters to them."""
    stays = [list(stay) for _, stay in groupby(_single(trajectory), _clock)]
    pairs: list[Sandwich] = []
    for before, there, after in zip(stays, stays[1:], stays[2:], strict=False):
        if _clock(before[0]) == _clock(after[0]):
            around = after[0].wall_us - before[-1].wall_us
            inside = there[-1].wall_us - there[0].wall_us
            unsure = 2 * _ROUNDED_US + math.ceil(DRIFT * inside)
            least = max(0, around - inside - unsure)
            pairs.append(Sandwich(there[0].point, Span(least, around - inside + unsure)))
    return [some for some in pairs if some.ways.most is not None and some.ways.most >= 0]


def steps(trajectory: Trajectory, clocks: Clocks) -> list[Span | None]:
    """How long after the one before each record was; None of the first, and where nobody knows."""
    single = {(r.point, r.boot, r.sequence) for r in _single(trajectory)}
    spans: list[Span | None] = [None]
    for pair in pairwise(trajectory.records):
        countable = all((r.point, r.boot, r.sequence) in single for r in pair)
        spans.append(clocks.between(*pair) if countable else None)
    return spans[: len(trajectory.records)]


def _single(trajectory: Trajectory) -> tuple[Record, ...]:
    """The packet's own records: one behind the other, which copies of it are not."""
    if trajectory.entries > 1:
        return ()
    return tuple(record for record in trajectory.records if not record.branch)


def _clock(record: Record) -> Clock:
    return record.point, record.boot
