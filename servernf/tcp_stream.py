"""Reassembly of one direction of a TCP connection (`servernf.streams` has both and all connections).

The first copy of a byte wins.

Positions count payload bytes from where the stream began and do not wrap; sequence numbers do
(RFC 9293, 3.4) and are taken relative to the next byte expected.
"""

from __future__ import annotations

from typing import Any

MAX_SEGMENTS = 64
MAX_WAITING_BYTES = 128 << 10
_MASK = 0xFFFF_FFFF
_HALF = 0x8000_0000


class TooMuchWaiting(Exception):
    """A direction would hold more than MAX_SEGMENTS or MAX_WAITING_BYTES out of order."""


class Direction:
    """What one side has sent. `memory` is the caller's: what it keeps of the stream, None at first."""

    __slots__ = (
        "_next",
        "_position",
        "_waiting",
        "fin_at",
        "isn",
        "memory",
        "started",
        "waiting_bytes",
    )

    def __init__(self) -> None:
        self.started = False
        self.isn = -1
        self.memory: Any = None
        self.fin_at = -1
        self.waiting_bytes = 0
        self._next = 0
        self._position = 0
        self._waiting: list[tuple[int, bytes]] | None = None

    def start(self, seq: int) -> None:
        """The stream begins with the byte of this sequence number."""
        self.started = True
        self.memory = None
        self.fin_at = -1
        self.waiting_bytes = 0
        self._next = seq & _MASK
        self._position = 0
        self._waiting = None

    @property
    def expected(self) -> int:
        """Sequence number of the first byte that has not come."""
        return self._next

    @property
    def ended(self) -> bool:
        """Whether all bytes up to the FIN have come."""
        return 0 <= self.fin_at <= self._position

    def fin(self, seq: int) -> None:
        """A FIN with this sequence number (that of the byte behind the last one)."""
        ahead = (seq - self._next) & _MASK
        self.fin_at = self._position + (ahead if ahead < _HALF else 0)

    def add(self, seq: int, payload: bytes, room: int = MAX_WAITING_BYTES) -> bytes:
        """Take a segment; the bytes that are now in order (perhaps none).

        `room` is how many bytes more may wait. Raises TooMuchWaiting, having changed nothing.
        """
        ahead = (seq - self._next) & _MASK
        if not ahead and not self._waiting:
            self._advance(len(payload))
            return payload
        if ahead >= _HALF:
            payload = payload[_MASK + 1 - ahead :]
            ahead = 0
            if not payload:
                return b""
        if ahead or self._waiting:
            return self._add_out_of_order(self._position + ahead, payload, room)
        self._advance(len(payload))
        return payload

    def _advance(self, count: int) -> None:
        self._position += count
        self._next = self._next + count & _MASK

    def _add_out_of_order(self, position: int, payload: bytes, room: int) -> bytes:
        waiting = self._waiting or []
        new = _fill_gaps(waiting, position, payload)
        if position > self._position:  # what is next goes out at once and never waits
            if len(waiting) + len(new) > MAX_SEGMENTS:
                raise TooMuchWaiting
            if sum(len(part) for _, part in new) > min(
                room, MAX_WAITING_BYTES - self.waiting_bytes
            ):
                raise TooMuchWaiting
        waiting = sorted(waiting + new)
        ready: list[bytes] = []
        while len(ready) < len(waiting) and waiting[len(ready)][0] == self._position:
            part = waiting[len(ready)][1]
            self._advance(len(part))
            ready.append(part)
        self._waiting = waiting[len(ready) :] or None
        self.waiting_bytes = sum(len(part) for _, part in self._waiting or ())
        return b"".join(ready)


def _fill_gaps(
    waiting: list[tuple[int, bytes]], position: int, payload: bytes
) -> list[tuple[int, bytes]]:
    """The parts of a segment that no waiting segment holds (those are disjoint and sorted)."""
    parts: list[tuple[int, bytes]] = []
    end = position + len(payload)
    at = position
    for start, held in waiting:
        if start >= end:
            break
        if at < start:
            parts.append((at, payload[at - position : start - position]))
        at = max(at, start + len(held))
    if at < end:
        parts.append((at, payload[at - position :]))
    return parts
