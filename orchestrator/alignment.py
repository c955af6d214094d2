"""Where two sequences differ, found at the speed of C: most of two versions is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress, count, islice, product
from operator import is_not
from typing import Any, TypeVar

_ItemT = TypeVar("_ItemT")
_AnswerT = TypeVar("_AnswerT")

_STEPS = sorted(product(range(16), repeat=2), key=sum)[1:]
"""How far to look in both for objects that are the same again: the nearest first."""


def common_ends(
    one: Sequence[Any], other: Sequence[Any], by: Callable[[Any, Any], bool] = is_not
) -> tuple[int, int]:
    """How many objects two sequences share at their beginning, and how many more at their end; which
    ones differ `by` says."""
    most = min(len(one), len(other))
    first = next(compress(count(), map(by, one, other)), most)
    rest = most - first
    ends = islice(map(by, reversed(one), reversed(other)), rest)
    return first, next(compress(count(), ends), rest)


def unlike(one: Sequence[Any], other: Sequence[Any]) -> Iterator[tuple[slice, slice]]:
    """Runs in which two sequences hold different objects; between them the same, in order.

    Short runs are told apart, as edits leave them; from a longer one on all is one run.
    """
    first, behind = common_ends(one, other)
    ends = len(one) - behind, len(other) - behind
    a = b = first
    while a < ends[0] and b < ends[1]:
        for x, y in _STEPS:
            if a + x < ends[0] and b + y < ends[1] and one[a + x] is other[b + y]:
                yield slice(a, a + x), slice(b, b + y)
                a, b = a + x, b + y
                break
        else:
            break
        rest = map(is_not, one[a : ends[0]], other[b : ends[1]])
        same = next(compress(count(), rest), min(ends[0] - a, ends[1] - b))
        a, b = a + same, b + same
    if (a, b) != ends:
        yield slice(a, ends[0]), slice(b, ends[1])


def answers_beside(
    answered: tuple[Sequence[_ItemT], Sequence[_AnswerT]],
    items: Sequence[_ItemT],
    answer: Callable[[_ItemT], _AnswerT],
) -> list[_AnswerT]:
    """`answer` of every item; of objects that an earlier list has in their place, its answers."""
    before, answers = answered
    beside: list[_AnswerT] = []
    at = 0
    for gone, come in unlike(before, items):
        beside += answers[at : gone.start]
        beside += map(answer, items[come])
        at = gone.stop
    beside += answers[at:]
    return beside


def differing(
    one: Sequence[Any], other: Sequence[Any], by: Callable[[Any, Any], bool] = is_not
) -> list[int]:
    """Where two sequences of one length differ; in their objects, or as `by` says."""
    return list(compress(count(), map(by, one, other)))
