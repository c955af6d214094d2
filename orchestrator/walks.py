"""Walks over what leads where."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

_PlaceT = TypeVar("_PlaceT", bound=Hashable)


def walk(
    starts: Iterable[_PlaceT], after: Callable[[_PlaceT], Iterable[_PlaceT]]
) -> Iterator[_PlaceT]:
    """All that some starts lead to, these included: each once, depth first, in the order of `after`.

    `after` is asked once of each, when the walk goes on from it.
    """
    seen: set[_PlaceT] = set()
    todo = list(starts)[::-1]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            yield at
            todo.extend(list(after(at))[::-1])
