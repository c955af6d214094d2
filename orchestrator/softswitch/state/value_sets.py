"""Parser value sets: what a `select` asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Test = tuple[str, int, int]
"""(kind, value, mask) or ('range', low, high) for one field."""


class ValueSet:
    """Members of a set: exact ones in a hash set, others as a list of tests."""

    def __init__(self) -> None:
        self.exact: set[Any] = set()
        self.tests: list[tuple[Test, ...]] = []

    def replace(self, members: Sequence[tuple[Test, ...]]) -> None:
        """Have these members and no others."""
        self.exact.clear()
        self.tests.clear()
        for tests in members:
            if all(kind == "exact" for kind, _, _ in tests):
                values = tuple(value for _, value, _ in tests)
                self.exact.add(values[0] if len(values) == 1 else values)
            else:
                self.tests.append(tests)

    def contains(self, key: Any) -> bool:
        """`key` is a number, or a tuple of them for several fields."""
        if key in self.exact:
            return True
        if not self.tests:
            return False
        parts = key if isinstance(key, tuple) else (key,)
        return any(all(map(_holds, tests, parts)) for tests in self.tests)

    def contains_masked(self, key: Any, masks: tuple[int, ...]) -> bool:
        parts = key if isinstance(key, tuple) else (key,)
        wanted = tuple(p & m for p, m in zip(parts, masks, strict=True))
        for member in self.exact:
            values = member if isinstance(member, tuple) else (member,)
            if tuple(v & m for v, m in zip(values, masks, strict=True)) == wanted:
                return True
        return False


def _holds(test: Test, value: int) -> bool:
    kind, a, b = test
    return a <= value <= b if kind == "range" else value & b == a
