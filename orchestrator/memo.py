"""What compiling a graph found out, for when it is compiled again.

A memo belongs to whoever compiles again and again; it is handed to the stages, which ask it before
they find something out. What was found out about frozen data stays true, so it changes no result.
Objects are known again by identity: to compare half a million routes costs more than most questions
about them. So a graph is read with what was read before (`nfs.files.Readings`): what is equal is one
object.

An answer is kept as long as each round (a compilation) asks for it: two generations, of which the
older one goes when a round ends, as in a copying collector. Answers about long lists would be copied
too often; of them a list goes when no round asks for it, and single ones when half of its answers are
idle. A list is laid beside the one that was asked about in its place in the last round: only where the
two hold different objects is anything looked up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

from orchestrator.alignment import unlike

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


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


class Memo:
    """The answers of the last rounds. Not for several threads at once.

    `what` is the question, with all that its answer depends on besides the object it is about.
    """

    def __init__(self) -> None:
        self._young: dict[Hashable, _Table] = defaultdict(dict)
        self._old: dict[Hashable, _Table] = {}
        self._lists: dict[Hashable, _Table] = {}
        self._asked: dict[Hashable, list[_Asked]] = defaultdict(list)
        self._before: dict[Hashable, list[_Asked]] = {}
        self._kept: dict[Hashable, Any] = {}
        self._last: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[type[Memo], tuple[()]]:
        """Elsewhere objects are others: a memo that is sent to a process or copied starts anew."""
        return Memo, ()

    @contextmanager
    def round(self) -> Generator[None]:
        """A compilation: what it does not ask for is forgotten when it ends. If it fails nothing is."""
        try:
            yield
        except BaseException:
            self._asked = defaultdict(list)
            raise
        self._old, self._young = self._young, defaultdict(dict)
        self._last, self._kept = self._kept, {}
        self._sweep()

    def _sweep(self) -> None:
        """Of the answers about lists, keep those that this round asked for, and some idle ones."""
        kept: dict[Hashable, _Table] = {}
        for what, asked in self._asked.items():
            table = kept[what] = self._lists[what]
            if len(table) > 2 * sum(len(items) for items, _ in asked):
                pairs = (zip(*one, strict=True) for one in asked)
                kept[what] = {
                    id(item): (item, answer) for item, answer in chain.from_iterable(pairs)
                }
        self._lists = kept
        self._before, self._asked = self._asked, defaultdict(list)

    def of(self, what: Hashable, subject: ItemT, answer: Callable[[ItemT], AnswerT]) -> AnswerT:
        """`answer` of an object."""
        young, key = self._young[what], id(subject)
        answered = young.get(key)
        if answered is None:
            answered = self._old.get(what, {}).get(key) or (subject, answer(subject))
            young[key] = answered
        return answered[1]

    def each(
        self, what: Hashable, items: Iterable[ItemT], answer: Callable[[ItemT], AnswerT]
    ) -> list[AnswerT]:
        """`answer` of every item of a list."""
        asked, table = list(items), self._lists.setdefault(what, {})
        place, before = len(self._asked[what]), self._before.get(what, ())
        answers, unknown = _laid_beside(before[place] if place < len(before) else ([], []), asked)
        for at in unknown:
            item = asked[at]
            entry = table.get(id(item))
            if entry is None:
                entry = table[id(item)] = item, answer(item)
            answers[at] = entry[1]
        self._asked[what].append((asked, answers))
        return list(answers)

    def last(self, place: Hashable) -> Any:
        """What was kept last at a place; None: nothing."""
        return self._kept.get(place, self._last.get(place))

    def keep(self, place: Hashable, value: ItemT) -> ItemT:
        """Have a value there the next time."""
        self._kept[place] = value
        return value

    def same(self, place: Hashable, value: ItemT) -> ItemT:
        """A value, as the object that was there the last time if the two are equal."""
        last = self.last(place)
        return self.keep(place, last if last == value else value)


def _laid_beside(before: _Asked, asked: list[Any]) -> tuple[list[Any], list[int]]:
    """Answers to a list by those of an earlier one, and where they are still to be found."""
    items, answers = before
    beside: list[Any] = []
    unknown: list[int] = []
    at = 0
    for gone, come in unlike(items, asked):
        beside += answers[at : gone.start]
        beside += [None] * (come.stop - come.start)
        unknown += range(come.start, come.stop)
        at = gone.stop
    return beside + answers[at:], unknown
