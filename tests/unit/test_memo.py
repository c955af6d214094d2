"""What a memo answers, and what it forgets (that it changes no result: deployment/test_recompile.py)."""

from __future__ import annotations

import gc
import weakref
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_alignment import versions

from orchestrator.memo import Memo


class Thing:
    """Something that can be watched."""


class Asked(list[object]):
    """Whom was asked about; the answer to an object is a tuple of it."""

    def answer(self, item: object) -> tuple[object]:
        self.append(item)
        return (item,)


@given(st.lists(versions(), min_size=1, max_size=5))
def test_lists_are_answered_for_each_object_and_asked_about_once(
    rounds: list[tuple[list[object], list[object]]],
) -> None:
    memo, asked = Memo(), Asked()
    for pair in rounds:
        with memo.round():
            for items in pair:
                before = len(asked)
                assert [answer for (answer,) in memo.each("it", items, asked.answer)] == items
                assert len(asked[before:]) == len(set(asked[before:]))
            before = len(asked)
            memo.each("it", pair[0], asked.answer)
            assert len(asked) == before


def test_an_object_is_asked_about_once_a_question_as_long_as_rounds_ask() -> None:
    memo, asked, it, like = Memo(), Asked(), [1], [1]
    for _ in range(3):
        with memo.round():
            assert memo.of("it", it, asked.answer) == (it,)
            assert memo.of("it", it, asked.answer) == (it,)
    assert asked == [it]
    memo.of("something else", it, asked.answer)
    memo.of("it", like, asked.answer)  # equal, but not the same
    assert len(asked) == 3
    with memo.round():
        pass
    with memo.round():
        pass
    memo.of("it", it, asked.answer)
    assert len(asked) == 4


def test_what_a_round_does_not_ask_for_is_let_go() -> None:
    memo, thing = Memo(), Thing()
    with memo.round():
        memo.of("it", thing, id)
        memo.each("them", [thing], id)
        memo.keep("place", thing)
    watched = weakref.ref(thing)
    del thing
    assert watched() is not None
    for _ in range(2):
        with memo.round():
            pass
    gc.collect()
    assert watched() is None
    assert memo.last("place") is None


def test_a_round_that_fails_forgets_nothing() -> None:
    memo, asked = Memo(), Asked()
    items = [(n,) for n in range(10)]

    def compiled() -> None:
        memo.of("it", items, asked.answer)
        memo.each("them", items, asked.answer)
        memo.keep("place", items)

    with memo.round():
        compiled()
    count = len(asked)

    def failed() -> None:
        with memo.round():
            memo.each("them", items[:3], asked.answer)
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        failed()
    assert memo.last("place") is items
    with memo.round():
        compiled()
    assert len(asked) == count


def test_a_memo_knows_nothing_where_objects_are_others() -> None:
    memo = Memo()
    memo.keep("place", lambda: None)
    memo.of("it", memo, lambda memo: lambda: None)
    sent = deepcopy(memo)
    assert sent.last("place") is None
    assert sent.of("it", sent, lambda memo: 1) == 1


def test_equal_values_of_one_place_are_one_object() -> None:
    memo = Memo()
    with memo.round():
        first = memo.same("place", [1, 2])
    with memo.round():
        assert memo.same("place", [1, 2]) is first
        assert memo.same("another place", [1, 2]) is not first
    assert memo.same("place", [1, 3]) == [1, 3]
