"""The fewest longest-prefix entries that say the same as a value for each of many keys.

Optimal routing table construction (Draves, King, Venkatachary, Zill: "Constructing Optimal IP Routing
Tables", INFOCOM 1999), but that a key without a value stays without: only what is known to the last key
is put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class KeyRun(NamedTuple):
    """Keys from `first` up to but without `end` that have one value."""

    first: int
    end: int
    value: int


class KeyPrefix(NamedTuple):
    """The keys whose first `length` bits are those of `key` have a value, but for longer prefixes."""

    key: int
    length: int
    value: int


@dataclass(frozen=True, slots=True)
class _Node:
    """Keys under a prefix; `options`: values by which it takes least, none where a key has none."""

    options: frozenset[int]
    halves: tuple[_Node | None, _Node | None] | None = None


def fewest(runs: Sequence[KeyRun], bits: int) -> list[KeyPrefix]:
    """Prefixes of keys of so many bits, in their order; the runs are in order, too, and disjoint."""
    prefixes: list[KeyPrefix] = []

    def choose(node: _Node | None, key: int, length: int, inherited: int | None) -> None:
        if node is None:
            return
        if node.options and inherited not in node.options:
            inherited = max(node.options)
            prefixes.append(KeyPrefix(key, length, inherited))
        if node.halves:
            low, high = node.halves
            choose(low, key, length + 1, inherited)
            choose(high, key + (1 << bits - length - 1), length + 1, inherited)

    choose(_built(runs, 0, 1 << bits), 0, 0, None)
    return prefixes


def _built(runs: Sequence[KeyRun], first: int, size: int) -> _Node | None:
    """The node of keys from `first` on; None when none of them has a value."""
    if not runs:
        return None
    if runs[0].first <= first and first + size <= runs[0].end:
        return _Node(frozenset({runs[0].value}))
    half, middle = size // 2, first + size // 2
    low = _built([run for run in runs if run.first < middle], first, half)
    high = _built([run for run in runs if run.end > middle], middle, half)
    options: frozenset[int] = frozenset()
    if low and high and low.options and high.options:
        options = low.options & high.options or low.options | high.options
    return _Node(options, (low, high))


def runs_of(keys: Sequence[int], values: Sequence[int]) -> Iterator[KeyRun]:
    """Keys in order with their values, as runs; 0 is no value."""
    start = 0
    for at in range(1, len(keys) + 1):
        goes_on = at < len(keys) and keys[at] == keys[at - 1] + 1 and values[at] == values[start]
        if not goes_on:
            if values[start]:
                yield KeyRun(keys[start], keys[at - 1] + 1, values[start])
            start = at
