"""A controller is killed (-9) at every step of a deployment and of an update, and of recovering itself.

Oracle: what real switch and worker processes have afterwards, read back: exactly the old state or the
new one, and the journal says which. Blind spot: BMv2 and packets (tests/emulated), power failure
(SQLite's own promise).
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from recovery_controller import Job, do, run
from recovery_site import Site

FEW = 4
"""Kills in the default run; the slow one takes every step."""
CHANGES = [("", "old"), ("old", "new"), ("old", "")]
NAMES = ["deployment", "update", "removal"]


def steps_of(site: Site, before: str, after: str) -> int:
    site.go(before)
    steps = run(site.job(after))
    assert steps is not None
    assert site.now == after
    return steps


def kill(site: Site, before: str, after: str, at: Iterable[int]) -> set[str]:
    """Kill a controller at each of these steps and recover; the versions that came of it."""
    outcomes: set[str] = set()
    now = site.now
    for step in at:
        if now != before:
            do(site.job(before))
        assert run(site.job(after), kill_at=step) is None, f"step {step} was not reached"
        do(Job(site.network))
        now = site.now
        assert now in (before, after), f"step {step}"
        outcomes.add(now)
    return outcomes


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=NAMES)
def test_some_steps(site: Site, before: str, after: str) -> None:
    steps = steps_of(site, before, after)
    middle = random.Random(7).sample(range(3, steps - 2), FEW - 2)
    assert kill(site, before, after, (2, *sorted(middle), steps - 1)) == {before, after}


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("before", "after"), CHANGES, ids=NAMES)
def test_every_step(site: Site, before: str, after: str) -> None:
    steps = steps_of(site, before, after)
    assert kill(site, before, after, range(1, steps + 1)) == {before, after}


def test_recovery_is_killed_too(site: Site) -> None:
    """Again and again, a step later each time; the last one is let through."""
    steps = steps_of(site, "old", "new")
    site.go("old")
    assert run(site.job("new"), kill_at=steps // 2) is None
    killed = 0
    while run(Job(site.network), kill_at=2 + 3 * killed) is None:
        killed += 1
    assert killed > 3
    assert site.now in ("old", "new")


def test_the_next_change_recovers_first(site: Site) -> None:
    steps = steps_of(site, "", "old")
    site.go("")
    assert run(site.job("old"), kill_at=steps // 2) is None
    do(site.job("old"))
    assert site.now == "old"
