"""What a process that compiles again and again remembers: answers about the very objects asked about.

Stages are functions from frozen data to frozen data, so what was found out about a value stays true. A
value is known again by identity: to compare half a million routes costs more than most questions about
them. Nothing in here changes a result, and without a `Recall` every question is answered anew.

An answer is kept as long as each round (a compilation) asks for it again: two generations, of which the
older one goes when a round ends, as in a copying collector. Answers about long lists would be copied too
often; of them a list goes when no round asks for it, and single ones when half of its answers are idle.
A list is laid beside the one that was asked about in its place in the last round: only where the two
hold different objects is anything looked up.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from itertools import chain
from typing import Any, Concatenate, ParamSpec, TypeVar

from orchestrator.alignment import unlike

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")
SubjectT = TypeVar("SubjectT")
P = ParamSpec("P")


class Same:
    """An object by identity, for use in a question: equal to nothing but itself, whatever it holds."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value


_Table = dict[int, tuple[Any, Any]]
"""id -> (object, answer): the object is kept, so its id is nobody else's."""
_Asked = tuple[list[Any], list[Any]]
"""A list and its answers."""


class Recall:
    """The answers of the last rounds. Not for several threads at once."""

    def __init__(self) -> None:
        self._young: dict[Hashable, _Table] = defaultdict(dict)
        self._old: dict[Hashable, _Table] = {}
        self._lists: dict[Hashable, _Table] = {}
        self._asked: dict[Hashable, list[_Asked]] = defaultdict(list)
        self._before: dict[Hashable, list[_Asked]] = {}
        self._latest: dict[Hashable, Any] = {}
        self._open = 0

    @contextmanager
    def round(self) -> Generator[Recall]:
        """Questions of this context are answered from here; rounds may be nested."""
        token = _current.set(self)
        self._open += 1
        try:
            yield self
        finally:
            _current.reset(token)
            self._open -= 1
            if not self._open:
                self._old, self._young = self._young, defaultdict(dict)
                self._sweep()

    def _sweep(self) -> None:
        """Of the answers about lists, keep those that this round asked for, and some idle ones."""
        kept: dict[Hashable, _Table] = {}
        for what, asked in self._asked.items():
            table = kept[what] = self._lists[what]
            if len(table) > 2 * sum(len(items) for items, _ in asked):
                pairs = (zip(*one, strict=True) for one in asked)
                kept[what] = {id(item): (item, found) for item, found in chain.from_iterable(pairs)}
        self._lists = kept
        self._before, self._asked = self._asked, defaultdict(list)

    def each(
        self,
        what: Hashable,
        items: Iterable[ItemT],
        answer: Callable[[ItemT], AnswerT],
    ) -> list[AnswerT]:
        """`answer` of every item; `what` tells the question from others."""
        asked, table = list(items), self._lists.setdefault(what, {})
        place, before = len(self._asked[what]), self._before.get(what, ())
        known, unknown = _laid_beside(before[place] if place < len(before) else ([], []), asked)
        for at in unknown:
            item = asked[at]
            entry = table.get(id(item))
            if entry is None:
                entry = table[id(item)] = item, answer(item)
            known[at] = entry[1]
        self._asked[what].append((asked, known))
        return list(known)

    def asking(
        self, what: Hashable, answer: Callable[[ItemT], AnswerT]
    ) -> Callable[[ItemT], AnswerT]:
        """`answer`, asked once of an item: for items that come one by one."""
        young, old = self._young[what], self._old.get(what, {})

        def asked(item: ItemT) -> AnswerT:
            key = id(item)
            known = young.get(key)
            if known is None:
                known = young[key] = old.get(key) or (item, answer(item))
            return known[1]

        return asked

    def latest(self, what: Hashable) -> Any:
        """What was noted last under a name; None: nothing."""
        return self._latest.get(what)

    def note(self, what: Hashable, value: object) -> None:
        """Keep a value until another one is noted under its name."""
        self._latest[what] = value


def _laid_beside(before: _Asked, asked: list[Any]) -> tuple[list[Any], list[int]]:
    """Answers to a list by those of an earlier one, and where they are still to be found."""
    items, answers = before
    known: list[Any] = []
    unknown: list[int] = []
    at = 0
    for gone, come in unlike(items, asked):
        known += answers[at : gone.start]
        known += [None] * (come.stop - come.start)
        unknown += range(come.start, come.stop)
        at = gone.stop
    return known + answers[at:], unknown


_current: ContextVar[Recall | None] = ContextVar("recall", default=None)


def current() -> Recall:
    """The recall of this round; outside of rounds one that nobody asks again."""
    return _current.get() or Recall()


@contextmanager
def recalling() -> Generator[Recall]:
    """The round that is under way, or one of its own: questions asked twice are answered once."""
    with (_current.get() or Recall()).round() as recall:
        yield recall


def recalled(
    function: Callable[Concatenate[SubjectT, P], AnswerT],
) -> Callable[Concatenate[SubjectT, P], AnswerT]:
    """A pure function whose answers are kept: the first argument by identity, the others by value."""

    @wraps(function)
    def asked(subject: SubjectT, /, *args: P.args, **kwargs: P.kwargs) -> AnswerT:
        recall = _current.get()
        if recall is None:
            return function(subject, *args, **kwargs)
        what = (function, *args, *kwargs.items())

        def answer(one: SubjectT) -> AnswerT:
            return function(one, *args, **kwargs)

        return recall.asking(what, answer)(subject)

    return asked


@contextmanager
def large_frozen_data() -> Generator[None]:
    """Without Python's cycle collector: there are no cycles in millions of tuples, and it would walk
    them again and again (half of a large compilation's time)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
