"""Where two sequences differ, against a plain reading."""

from __future__ import annotations

from operator import ne

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.alignment import common_ends, differing, unlike

OBJECTS = [object() for _ in range(30)]
lists = st.lists(st.sampled_from(OBJECTS), max_size=40)


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[object], list[object]]:
    """A list, and what some edits made of it."""
    old = draw(lists)
    new = list(old)
    for _ in range(draw(st.integers(0, 4))):
        at, long = draw(st.integers(0, len(new))), draw(st.integers(0, 20))
        new[at : at + long] = draw(st.lists(st.sampled_from(OBJECTS), max_size=20))
    return old, new


@given(versions())
def test_between_the_runs_both_hold_the_same(pair: tuple[list[object], list[object]]) -> None:
    old, new = pair
    made: list[object] = []
    at = behind = 0
    for gone, come in unlike(old, new):
        assert gone.stop > gone.start or come.stop > come.start
        assert gone.start - at == come.start - behind >= 0
        made += old[at : gone.start] + new[come]
        at, behind = gone.stop, come.stop
    assert made + old[at:] == new


def test_edits_are_told_apart() -> None:
    old = [object() for _ in range(10_000)]
    new = [*old[:10], object(), *old[10:500], *old[503:9000], object(), *old[9001:]]
    runs = list(unlike(old, new))
    assert [(g.stop - g.start, c.stop - c.start) for g, c in runs] == [(0, 1), (3, 0), (1, 1)]
    assert list(unlike(old, list(old))) == []


@given(lists, lists)
def test_common_ends_do_not_overlap(one: list[object], other: list[object]) -> None:
    first, behind = common_ends(one, other)
    assert one[:first] == other[:first]
    assert first + behind <= min(len(one), len(other))
    if behind:
        assert one[-behind:] == other[-behind:]


def test_differing_goes_by_identity() -> None:
    one, other = [[1], [2], [3]], [[1], [2], [3]]
    assert differing(one, [one[0], other[1], one[2]]) == [1]
    assert differing(one, [one[0], other[1], [4]], by=ne) == [2]
