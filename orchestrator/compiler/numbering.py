"""Places for the nodes of a decision diagram: levels, ids, and objects that the next version shares.

Thousands of nodes are placed anew after each change of a rule, so they are columns of numbers here; only
a node that has another place, or leads to such a one, becomes a new object.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import count
from operator import ne
from typing import cast

import numpy as np
from numpy.typing import NDArray

from orchestrator.alignment import differing
from orchestrator.model.decision import LEVELS, WORDS, Branch, DecisionNode, Diagram

Plan = tuple[int, tuple[Branch, ...]]
"""A word and its branches; `to` of a branch is a node's number or, below 0, -1 - that of a rule."""
_Column = NDArray[np.int64]
_Names = NDArray[np.uint64]
_NOWHERE = np.uint64((1 << 64) - 1)
_ID = np.uint64((1 << 32) - 1)
_BITS, _BELOW = np.uint64(56), np.uint64(8)
"""A way is 8 bits that say how many bits its prefixes have, and 56 of its hash."""


class Numbering:
    """The nodes of one builder, numbered as they came: most of them are of earlier diagrams."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []
        self._sizes, self._ways = array("q"), array("q")
        # The first way from each node to each other one, and where those of each node begin:
        self._source, self._target = array("q"), array("q")
        self._value, self._length = array("q"), array("q")
        # The last diagram:
        self._level = np.zeros(0, np.int64)
        self._name = np.zeros(0, np.uint64)
        self._nodes: list[DecisionNode | None] = []
        self._listed: tuple[list[int], list[int]] = [], []
        self._place_of: dict[int, int] = {}

    def add(self, plan: Plan) -> int:
        """The number of a node that is new."""
        number = len(self._plans)
        self._plans.append(plan)
        self._sizes.append(len(plan[1]))
        self._ways.append(len(self._source))
        first = {branch.to: branch for branch in reversed(plan[1]) if branch.to >= 0}
        self._source.extend([number] * len(first))
        self._target.extend(first)
        self._value.extend(branch.value for branch in first.values())
        self._length.extend(branch.length for branch in first.values())
        return number

    def branches(self, number: int) -> int:
        """How many branches a node has."""
        return self._sizes[number]

    def below(self, number: int) -> Sequence[int]:
        """The nodes that a node leads to."""
        behind = self._ways[number + 1] if number + 1 < len(self._ways) else len(self._target)
        return self._target[self._ways[number] : behind]

    def size(self, root: int) -> int:
        """Branches of the diagram below a root."""
        return int(_column(self._sizes)[self._levels(root) > 0].sum())

    def diagram(
        self, root: int, rules: list[int], places: list[int], weighed: tuple[int, ...]
    ) -> Diagram:
        """The diagram below a root: levels by the longest way, ids by ways.

        `places` say where each of the `rules` (by number) is in the list that the diagram is of.
        """
        level = self._levels(root)
        name = self._names(level)
        self._list(rules, places)
        for number in self._moved(level, name):
            self._nodes[number] = self._node(number, level, name)
        self._level, self._name = level, name
        below = np.nonzero(level)[0]
        order = below[np.lexsort((name[below], level[below]))]
        sizes = np.bincount(level[below], _column(self._sizes)[below], LEVELS + 1)
        nodes = tuple(map(self._nodes.__getitem__, order.tolist()))
        return Diagram(cast("tuple[DecisionNode, ...]", nodes), weighed, tuple(map(int, sizes[1:])))

    def _levels(self, root: int) -> _Column:
        """The longest way from a root to each node, counting both; 0: there is none."""
        source, target = _column(self._source), _column(self._target)
        level = np.zeros(len(self._plans), np.int64)
        here = np.zeros(len(level), np.bool_)
        here[root] = True
        for depth in count(1):
            level[here] = depth
            following = target[here[source]]
            if not len(following):
                break
            here = np.zeros(len(level), np.bool_)
            here[following] = True
        return level

    def _names(self, level: _Column) -> _Names:
        """Ids: half of the hash of the way with the fewest bits of prefixes; the root's is 0.

        So where a rule with a longer prefix comes or goes, nodes that others lead to keep their ids.
        """
        live = np.nonzero(level[_column(self._source)])[0]
        source, target, value, length = (
            _column(some)[live] for some in (self._source, self._target, self._value, self._length)
        )
        name, bits, least = (np.zeros(len(level), np.uint64) for _ in range(3))
        least[:] = _NOWHERE
        depth_of, taken = level[target], np.zeros(1, np.uint64)
        for depth in range(2, int(level.max()) + 1):
            rows = depth_of == depth
            above, asked = source[rows], length[rows].astype(np.uint64)
            hashes = _hashes(name[above], value[rows].astype(np.uint64), asked)
            np.minimum.at(least, target[rows], bits[above] + asked << _BITS | hashes >> _BELOW)
            here = np.nonzero(level == depth)[0]
            here = here[np.argsort(least[here])]
            bits[here] = least[here] >> _BITS
            taken = _told_apart(np.concatenate((taken, least[here] & _ID)))
            name[here] = taken[-len(here) :]
        return name

    def _list(self, rules: list[int], places: list[int]) -> None:
        """Learn where rules are in their list; if one has moved, all nodes are made anew."""
        before = self._listed
        self._listed = rules, places
        changed: Iterable[int] = range(len(rules))
        if places == before[1]:
            changed = differing(before[0], rules, ne)
        for at in changed:
            if self._place_of.setdefault(rules[at], places[at]) != places[at]:
                self._place_of = dict(zip(rules, places, strict=True))
                self._level = self._level[:0]
                return

    def _moved(self, level: _Column, name: _Names) -> list[int]:
        """Nodes that are in another place than in the last diagram, and those that lead to them."""
        behind = len(level) - len(self._level)
        self._nodes += [None] * (len(level) - len(self._nodes))
        was_level = np.concatenate((self._level, np.zeros(behind, np.int64)))
        was_name = np.concatenate((self._name[: len(self._level)], np.zeros(behind, np.uint64)))
        moved = (level != was_level) | (name != was_name)
        source = _column(self._source)
        anew = moved.copy()
        anew[source[moved[_column(self._target)]]] = True
        places: list[int] = np.nonzero(anew & (level > 0))[0].tolist()
        return places

    def _node(self, number: int, level: _Column, name: _Names) -> DecisionNode:
        word, branches = self._plans[number]
        below = tuple(
            Branch(value, length, int(name[to]), WORDS[self._plans[to][0]])
            if to >= 0
            else Branch(value, length, -1 - self._place_of[-1 - to])
            for value, length, to, _ in branches
        )
        return DecisionNode(WORDS[word], int(level[number]), int(name[number]), below)


def _column(numbers: array[int]) -> _Column:
    """A view: to be gone before the next number comes."""
    return np.frombuffer(numbers, np.int64) if numbers else np.zeros(0, np.int64)


def _told_apart(names: _Names) -> _Names:
    """The same, but for those that are there before: they become the next that are free."""
    distinct, first = np.unique(names, return_index=True)
    if len(distinct) < len(names):
        names, taken = names.copy(), set(distinct.tolist())
        for at in np.setdiff1d(np.arange(len(names)), first).tolist():
            free = int(names[at])
            while free in taken:
                free = free + 1 & int(_ID)
            taken.add(free)
            names[at] = free
    return names


def _hashes(names: _Names, values: _Names, lengths: _Names) -> _Names:
    """64 bits of each way: splitmix64's last steps (Steele et al., OOPSLA 2014)."""
    x = (names << np.uint64(32) | values) ^ lengths * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
