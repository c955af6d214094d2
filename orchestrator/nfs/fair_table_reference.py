"""The reference of tables in which every source has room (docs/architecture.md, "Shares of tables")."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")
Source = tuple[int, int]


def source_of(version: int, address: int) -> Source:
    """Whom an address is counted for: IPv4 itself, IPv6 its /64."""
    return version, address if version == 4 else address >> 64


@dataclass(slots=True)
class _Held(Generic[ValueT]):
    value: ValueT
    source: Source
    established: bool = False


class FairTable(Generic[KeyT, ValueT]):
    """Values by key, least recently refreshed first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[KeyT, _Held[ValueT]] = OrderedDict()
        # (source, established) -> how many, and since when (in changes of such numbers)
        self._numbers: dict[tuple[Source, bool], tuple[int, int]] = {}
        self._clock = count()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: KeyT) -> ValueT | None:
        """The value; None when there is none."""
        held = self._held.get(key)
        return None if held is None else held.value

    def items(self) -> list[tuple[KeyT, ValueT]]:
        """Keys and values, the longest not refreshed first."""
        return [(key, held.value) for key, held in self._held.items()]

    def add(self, key: KeyT, value: ValueT, source: Source) -> bool:
        """Hold a new key, transitory; whether there was room. Others may have gone for it."""
        self._held[key] = _Held(value, source)
        self._change(source, False, 1)
        while len(self._held) > self._size:
            victim = self._victim(key)
            self.remove(victim)
            if victim == key:
                return False
        return True

    def refresh(self, key: KeyT) -> None:
        """It has been used."""
        self._held.move_to_end(key)

    def establish(self, key: KeyT, established: bool = True) -> None:
        """Whether others' floods spare it from now on."""
        held = self._held[key]
        if held.established != established:
            self._change(held.source, held.established, -1)
            self._change(held.source, established, 1)
            held.established = established
            self._held.move_to_end(key)

    def remove(self, key: KeyT) -> None:
        """Forget one."""
        held = self._held.pop(key)
        self._change(held.source, held.established, -1)

    def _victim(self, new: KeyT) -> KeyT:
        """Of the source with most transitory ones the one longest not refreshed; see the text."""
        victim = self._first(self._top(False), False)
        if victim != new or not any(held.established for held in self._held.values()):
            return victim
        richest, own = self._top(True), self._held[new].source
        if self._number(richest, True) > self._number(own, True) + 1:
            return self._first(richest, True)
        return new

    def _first(self, source: Source, established: bool) -> KeyT:
        wanted = source, established
        return next(k for k, h in self._held.items() if (h.source, h.established) == wanted)

    def _top(self, established: bool) -> Source:
        """The source with most; of several the one which has had so many for longest."""
        of_kind = [key for key in self._numbers if key[1] == established]
        return max(of_kind, key=lambda key: (self._numbers[key][0], -self._numbers[key][1]))[0]

    def _number(self, source: Source, established: bool) -> int:
        return self._numbers.get((source, established), (0, 0))[0]

    def _change(self, source: Source, established: bool, by: int) -> None:
        number = self._number(source, established) + by
        if number:
            self._numbers[source, established] = number, next(self._clock)
        else:
            del self._numbers[source, established]
