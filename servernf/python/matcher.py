"""Aho-Corasick over bytes: the one place that knows pyahocorasick (which has no type stubs)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Protocol, cast


class _Automaton(Protocol):
    def add_word(self, word: str, value: object) -> bool: ...
    def make_automaton(self) -> None: ...
    def iter(self, text: str) -> Iterator[tuple[int, tuple[int, ...]]]: ...


class Matcher:
    """Finds all of `contents` in one pass; a content is known by its index."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        numbers: dict[bytes, tuple[int, ...]] = {}
        for number, content in enumerate(contents):
            numbers[content] = (*numbers.get(content, ()), number)
        # pyahocorasick's wheels are built for str: Latin-1 maps bytes to characters one to one.
        automaton = cast("_Automaton", import_module("ahocorasick").Automaton())
        for content, numbered in numbers.items():
            automaton.add_word(content.decode("latin-1"), numbered)
        if numbers:
            automaton.make_automaton()
            self._iter = automaton.iter
        else:
            self._iter = _nothing
        self.longest = max((len(content) for content in numbers), default=0)

    def search(self, data: bytes | bytearray, searched: int = 0) -> Iterable[int]:
        """Indices of contents that end in `data` behind its first `known` bytes, by their end."""
        for end, numbers in self._iter(data.decode("latin-1")):
            if end >= searched:
                yield from numbers


def _nothing(_text: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    return iter(())
