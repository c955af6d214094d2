"""An index of many boxes: which of them meet or contain a given one, without looking at all.

Intervals of one address field are sorted within levels of about the same size, so those that meet a
query lie in one short run of each level. Of source and destination, whichever leaves fewer candidates
is taken; these are compared on all fields at once by numpy, and exactly where 64 bits do not tell.
"""

from __future__ import annotations

import random
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import le
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.compiler.headerspace import (
    EVERYTHING,
    FIELDS,
    NUMBER,
    SHAPES,
    Box,
    protocol_of,
)

Numbers = NDArray[np.int64]
_COMPARED = tuple(
    NUMBER[n] for n in ("dst", "src", "protocol", "src_port", "dst_port", "icmp_type")
)
_SHIFTS = tuple(64 if n in (NUMBER["dst"], NUMBER["src"]) else 0 for n in _COMPARED)
_PROTOCOL_ROW = _COMPARED.index(NUMBER["protocol"])
_POINTS = 6
_FEW = 16
"""So many boxes are compared one by one, sooner than numpy is set up."""
_TOLD_APART = (1 << 64) - 1
_PACKED = struct.Struct("<12QH3B")
_ROW = np.dtype(
    [("low", "<u8", 6), ("high", "<u8", 6), ("shapes", "<u2"), ("flags", "u1", 2), ("inexact", "?")]
)
"""What numpy is told of a box."""
_NOT_COMPARED = tuple(n for n in range(len(FIELDS)) if n not in _COMPARED)


class PacketPoint(NamedTuple):
    """A packet, as far as numpy compares: shape, compared fields, TCP flags."""

    shape: int
    fields: tuple[int, ...]
    flags: int

    def may_be_in(self, box: Box) -> bool:
        """Whether it is in a box, as far as that is told."""
        value, mask = box.flags
        return bool(
            self.shape & box.shapes
            and not (self.flags ^ value) & mask
            and all(map(le, _ends(box.low), self.fields))
            and all(map(le, self.fields, _ends(box.high)))
        )


def corner(box: Box) -> PacketPoint:
    """A packet of a box."""
    shape = box.shapes & -box.shapes
    fields = _ends(box.low)
    fields[_PROTOCOL_ROW] = protocol_of(shape, fields[_PROTOCOL_ROW])
    return PacketPoint(shape, tuple(fields), box.flags[0])


class _Levels:
    """Intervals by size."""

    def __init__(self, low: NDArray[np.uint64], high: NDArray[np.uint64]) -> None:
        size = np.frexp((high - low).astype(np.float64))[1]
        self.levels: list[tuple[int, list[int], Numbers]] = []
        for level in np.unique(size):
            members = np.nonzero(size == level)[0]
            order = members[np.argsort(low[members], kind="stable")]
            widest = int((high[members] - low[members]).max())
            self.levels.append((widest, low[order].tolist(), order))

    def runs(self, low: int, high: int) -> list[tuple[Numbers, int, int]]:
        """(members of a level, first, behind last) that may meet an interval."""
        runs: list[tuple[Numbers, int, int]] = []
        for widest, lows, order in self.levels:
            first, behind = bisect_left(lows, low - widest), bisect_right(lows, high)
            if first < behind:
                runs.append((order, first, behind))
        return runs


class BoxIndex:
    """`boxes` stay in order; a None among them (an empty set) meets nothing. `rows` are what `row_of`
    makes of each, where that is known."""

    def __init__(
        self, boxes: Sequence[Box | None], rows: Sequence[bytes | None] | None = None
    ) -> None:
        self.boxes = boxes
        real = [(i, box) for i, box in enumerate(boxes) if box is not None]
        self._numbers = np.array([i for i, _ in real], np.int64)
        packed = filter(None, map(row_of, boxes) if rows is None else rows)
        table = np.frombuffer(b"".join(packed), _ROW)
        self._shapes, self._flags, self._inexact, self._low, self._high = (
            np.ascontiguousarray(table[name])
            for name in ("shapes", "flags", "inexact", "low", "high")
        )
        self._levels = [_Levels(self._low[:, n], self._high[:, n]) for n in (0, 1)]

    def meeting(self, box: Box) -> list[int]:
        """Numbers of the boxes that have a packet in common with one, ascending."""
        if len(self.boxes) <= _FEW:
            few = enumerate(self.boxes)
            return [i for i, mine in few if mine is not None and mine.intersect(box) is not None]
        candidates = self._candidates(box)
        if not len(candidates):
            return []
        exact = _needs_more(box)
        numbers = self._numbers[candidates]
        order = np.argsort(numbers)
        result: list[int] = numbers[order].tolist()
        if not exact and not self._inexact[candidates].any():
            return result
        inexact: list[bool] = self._inexact[candidates][order].tolist()
        return [
            i for i, ask in zip(result, inexact, strict=True) if self._meets(i, box, ask or exact)
        ]

    def count(self, box: Box) -> int:
        """About how many boxes have a packet in common with one: never fewer than there are."""
        return len(self._candidates(box))

    def container(self, box: Box, numbers: Sequence[int]) -> int | None:
        """The first of the numbered boxes that contains a whole box."""
        rows = np.searchsorted(self._numbers, numbers)
        value, mask = box.flags
        holds = (self._shapes[rows] & np.uint16(box.shapes)) == box.shapes
        holds &= (self._low[rows] <= np.array(_ends(box.low), np.uint64)).all(axis=1)
        holds &= (self._high[rows] >= np.array(_ends(box.high), np.uint64)).all(axis=1)
        flags = self._flags[rows]
        holds &= (flags[:, 1] & np.uint8(~mask & 0xFF)) == 0
        holds &= ((flags[:, 0] ^ np.uint8(value)) & flags[:, 1]) == 0
        containers: list[int] = self._numbers[rows[holds]].tolist()
        for number in containers:
            mine = self.boxes[number]
            if mine is not None and box.within(mine):
                return number
        return None

    def free_point(
        self, box: Box, numbers: Sequence[int], rng: random.Random
    ) -> PacketPoint | None:
        """A packet of a box that is surely in none of the numbered, among a few chosen by chance."""
        rows = np.searchsorted(self._numbers, numbers)
        low, high, shapes, flags = (
            column[rows] for column in (self._low, self._high, self._shapes, self._flags)
        )
        first, last = _ends(box.low), _ends(box.high)
        having = [bit for bit in (1 << i for i in range(len(SHAPES))) if box.shapes & bit]
        for _ in range(_POINTS):
            shape = rng.choice(having)
            at = [rng.randint(a, b) for a, b in zip(first, last, strict=True)]
            at[_PROTOCOL_ROW] = protocol_of(shape, at[_PROTOCOL_ROW])
            byte = (rng.randrange(256) & ~box.flags[1]) | box.flags[0]
            packet = np.array(at, np.uint64)
            covers = (shapes & np.uint16(shape)) != 0
            covers &= (low <= packet).all(axis=1) & (high >= packet).all(axis=1)
            covers &= ((flags[:, 0] ^ np.uint8(byte)) & flags[:, 1]) == 0
            if not covers.any():
                return PacketPoint(shape, tuple(at), byte)
        return None

    def _candidates(self, box: Box) -> Numbers:
        """Rows that meet a box as far as 64 bits tell."""
        low, high = _ends(box.low), _ends(box.high)
        best: list[tuple[Numbers, int, int]] = []
        fewest = -1
        for n, levels in enumerate(self._levels):
            runs = levels.runs(low[n], high[n])
            count = sum(behind - first for _, first, behind in runs)
            if fewest < 0 or count < fewest:
                best, fewest = runs, count
        if not fewest:
            return np.empty(0, np.int64)
        rows = np.concatenate([order[first:behind] for order, first, behind in best])
        keep = (self._shapes[rows] & np.uint16(box.shapes)) != 0
        keep &= (self._low[rows] <= np.array(high, np.uint64)).all(axis=1)
        keep &= (self._high[rows] >= np.array(low, np.uint64)).all(axis=1)
        value, mask = box.flags
        if mask:
            theirs = self._flags[rows]
            keep &= ((theirs[:, 0] ^ np.uint8(value)) & theirs[:, 1] & np.uint8(mask)) == 0
        return rows[keep]

    def _meets(self, number: int, box: Box, ask: bool) -> bool:
        mine = self.boxes[number]
        return mine is not None and (not ask or mine.intersect(box) is not None)


def row_of(box: Box | None) -> bytes | None:
    """What an index is told of a box."""
    if box is None:
        return None
    ends = (*_ends(box.low), *_ends(box.high))
    return _PACKED.pack(*ends, box.shapes, *box.flags, _needs_more(box))


def _ends(ends: tuple[int, ...]) -> list[int]:
    return [ends[n] >> shift for n, shift in zip(_COMPARED, _SHIFTS, strict=True)]


def _needs_more(box: Box) -> bool:
    """Whether what numpy compares does not say everything about a box."""
    low, high = box.low, box.high
    src, dst, protocol = NUMBER["src"], NUMBER["dst"], NUMBER["protocol"]
    return (
        any(low[n] or high[n] != EVERYTHING.high[n] for n in _NOT_COMPARED)
        or any(low[n] & _TOLD_APART or ~high[n] & _TOLD_APART for n in (src, dst))
        or (low[protocol] != high[protocol] and high[protocol] - low[protocol] != 0xFF)
    )
