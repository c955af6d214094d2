"""Reassembly of one direction of a TCP connection (`streams` has both and all connections).

What has been seen is what the receiver gets: bytes are held until they are acknowledged, and another
copy of them must be the same, since nobody between the ends can know which one arrived.

Positions count payload bytes from where the stream began and do not wrap; sequence numbers do
(RFC 9293, 3.4) and are taken relative to the next byte expected.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

MAX_SEGMENTS = 64
MAX_WAITING_BYTES = 128 << 10
MAX_HELD_BYTES = 512 << 10
"""In order, but not acknowledged; this and what waits behind holes are counted with OVERHEAD."""
OVERHEAD = 128
"""Bytes that a piece costs beside its own (CPython 3.11: two objects and their places)."""
_SMALL = 2048
_NONE_BEFORE = -(1 << 62)
_MASK = 0xFFFF_FFFF
_HALF = 0x8000_0000
_NUMBERS = struct.Struct("!Iqq")
_POSITION_BYTES = 8


class NoRoom(Exception):
    """A direction would hold more than MAX_SEGMENTS, MAX_WAITING_BYTES or MAX_HELD_BYTES."""


class OtherCopy(Exception):
    """Bytes that differ from those that came before in their place, or may differ."""


class Direction:
    """What one side has sent. `memory` is the caller's: what it keeps of the stream, None at first."""

    __slots__ = (
        "_acked",
        "_floor",
        "_held",
        "_held_cost",
        "_next",
        "_position",
        "_waiting",
        "_waiting_cost",
        "memory",
    )

    def __init__(self) -> None:
        self.memory: Any = None
        self._next = 0
        self._position = 0
        self._acked = 0
        self._floor = 0
        """Position of the first byte in `_held`, the bytes before `_position`."""
        self._held: deque[bytes] | None = None
        self._held_cost = 0
        self._waiting: list[tuple[int, bytes]] | None = None
        """Behind holes: position and bytes, disjoint and sorted."""
        self._waiting_cost = 0

    def numbers(self) -> bytes:
        """Next sequence number, position, and what is acknowledged; as it is written."""
        return _NUMBERS.pack(self._next, self._position, self._acked)

    @property
    def held(self) -> tuple[bytes, ...]:
        """Pieces in order, up to the next one expected."""
        return tuple(self._held or ())

    @property
    def waiting(self) -> list[bytes]:
        """Pieces behind holes, each behind its position."""
        return [at.to_bytes(_POSITION_BYTES, "big") + part for at, part in self._waiting or ()]

    @classmethod
    def of(
        cls, numbers: bytes, held: Sequence[bytes], waiting: Sequence[bytes], memory: Any
    ) -> Direction:
        """What another instance has written; ValueError says what cannot be."""
        if len(numbers) != _NUMBERS.size:
            raise ValueError(f"numbers of a stream have {_NUMBERS.size} bytes, not {len(numbers)}")
        new = cls()
        new.memory = memory
        new._next, new._position, new._acked = _NUMBERS.unpack(numbers)
        size = sum(map(len, held))
        if new._position < size or not all(held):
            raise ValueError(f"{size} bytes held of {new._position}")
        new._floor = new._position - size
        new._held = deque(held) or None
        new._held_cost = size + OVERHEAD * len(held)
        parts: list[tuple[int, bytes]] = []
        end = new._position
        for raw in waiting:
            at, part = int.from_bytes(raw[:_POSITION_BYTES], "big"), raw[_POSITION_BYTES:]
            if at < end + (not parts) or not part:
                raise ValueError(f"bytes waiting at {at}, where {end} are known")
            end = at + len(part)
            parts.append((at, part))
        new._waiting = parts or None
        new._waiting_cost = sum(len(part) + OVERHEAD for _, part in parts)
        if new._waiting_cost > MAX_WAITING_BYTES or len(parts) > MAX_SEGMENTS:
            raise ValueError(f"{len(parts)} pieces wait, which is too much")
        return new

    def start(self, seq: int, *, is_first: bool = True) -> None:
        """The stream begins with the byte of this sequence number; `is_first`: none was sent before."""
        self._next = seq & _MASK
        self._acked = _NONE_BEFORE if is_first else 0

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes."""
        return self._held_cost + self._waiting_cost

    @property
    def expected(self) -> int:
        """Sequence number of the first byte that has not come."""
        return self._next

    def acknowledge(self, seq: int) -> int:
        """The receiver has all before this sequence number, so no copy of it matters any more; how many
        bytes of memory that frees."""
        behind = (self._next - seq) & _MASK
        if behind >= _HALF:
            behind = 0  # a FIN, too
        acked = self._acked = self._position - behind
        held = self._held
        if held is None:
            return 0
        before = self._held_cost
        while held and self._floor + len(held[0]) <= acked:
            gone = len(held.popleft())
            self._floor += gone
            self._held_cost -= gone + OVERHEAD
        if not held:
            self._held = None
        return before - self._held_cost

    def add(
        self, seq: int, payload: bytes, room: int, *, strict: bool = True, slides: bool = False
    ) -> bytes:
        """Take a segment; the bytes that are now in order (perhaps none).

        `room` is how many bytes more may be held in all. What is in order is not refused for it; it is
        not held then. `strict`: a copy of bytes that are held no more is OtherCopy. `slides`: of what is
        in order the last MAX_HELD_BYTES are held, more is not NoRoom. Raises before anything is changed.
        """
        offset = (seq - self._next) & _MASK
        if offset:
            if offset >= _HALF:
                offset -= _MASK + 1
            payload, offset = self._behind_known(offset, payload, strict)
            if not payload:
                return b""
        if offset or self._waiting:
            return self._add_out_of_order(self._position + offset, payload, room, slides)
        if self._held_cost > MAX_HELD_BYTES and not slides:
            raise NoRoom
        self._hold(payload, room, slides)
        return payload

    def _behind_known(self, offset: int, payload: bytes, strict: bool) -> tuple[bytes, int]:
        """What lies behind what is in order, once the rest is found to be the same as there."""
        if offset >= 0:
            return payload, offset
        overlap = min(-offset, len(payload))
        start = self._position + offset
        at, first = self._floor, max(start, self._acked)
        if strict and first < min(at, start + overlap):
            raise OtherCopy
        for piece in self._held or ():
            low, high = max(at, first), min(at + len(piece), start + overlap)
            if low < high and piece[low - at : high - at] != payload[low - start : high - start]:
                raise OtherCopy
            at += len(piece)
        return payload[-offset:], 0

    def _hold(self, payload: bytes, room: int, slides: bool) -> None:
        """Take the next bytes in order; the oldest ones go where there is no room."""
        size = len(payload)
        self._position += size
        self._next = self._next + size & _MASK
        held = self._held
        if held is None:
            held = self._held = deque()
        before = self._held_cost
        if held and len(held[-1]) + size <= _SMALL:
            held[-1] += payload
            self._held_cost += size
        else:
            held.append(payload)
            self._held_cost += size + OVERHEAD
        limit = before + max(room, 0)
        if slides and limit > MAX_HELD_BYTES:
            limit = MAX_HELD_BYTES
        while held and self._held_cost > limit:
            gone = len(held.popleft())
            self._floor += gone
            self._held_cost -= gone + OVERHEAD

    def _add_out_of_order(self, position: int, payload: bytes, room: int, slides: bool) -> bytes:
        waiting = self._waiting or []
        new = _fill_gaps(waiting, position, payload)
        if position > self._position:  # what is next goes out at once and never waits
            cost = sum(len(part) + OVERHEAD for _, part in new)
            if new and len(waiting) + len(new) > MAX_SEGMENTS:
                raise NoRoom
            if cost > min(room, MAX_WAITING_BYTES - self._waiting_cost):
                raise NoRoom
        elif self._held_cost > MAX_HELD_BYTES and not slides:
            raise NoRoom
        waiting = sorted(waiting + new)
        ready: list[bytes] = []
        at = self._position
        while len(ready) < len(waiting) and waiting[len(ready)][0] == at:
            part = waiting[len(ready)][1]
            at += len(part)
            ready.append(part)
        self._waiting = waiting[len(ready) :] or None
        waited = self._waiting_cost
        self._waiting_cost = sum(len(part) + OVERHEAD for _, part in self._waiting or ())
        room += waited - self._waiting_cost
        for part in ready:
            held = self._held_cost
            self._hold(part, room, slides)
            room -= self._held_cost - held
        return b"".join(ready)


def _fill_gaps(
    waiting: list[tuple[int, bytes]], position: int, payload: bytes
) -> list[tuple[int, bytes]]:
    """The parts of a segment that no waiting segment holds, once the others are found to be the same."""
    parts: list[tuple[int, bytes]] = []
    end = position + len(payload)
    at = position
    for start, held in waiting:
        if start >= end:
            break
        low, high = max(start, position), min(start + len(held), end)
        if low < high:
            if held[low - start : high - start] != payload[low - position : high - position]:
                raise OtherCopy
            if at < low:
                parts.append((at, payload[at - position : low - position]))
            at = high
    if at < end:
        parts.append((at, payload[at - position :]))
    return parts
