"""Counters and levels that both sides have: words of memory, each for a field of a record.

The C side writes them, this side reads; what a new record begins with is written before that side knows.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

from servernf.wire.errors import ServerError

WORDS = 1 << 20
"""8 MiB: pages that nothing is written to take no memory."""
_WORD = 8
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(slots=True)
class RecordPlace:
    """Where a record's words are, and how many instances use it."""

    record: object
    fields: tuple[str, ...]
    key: object
    at: int
    count: int
    users: int = 0


class SharedMemory:
    """The words; `first` of them are the worker's own counters."""

    def __init__(self, first: int) -> None:
        self.fd = os.memfd_create("counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, WORDS * _WORD)
        # Whoever shortened it would end the other side by SIGBUS.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._map = mmap.mmap(self.fd, WORDS * _WORD)
        self._words = memoryview(self._map).cast("Q")
        self._places: dict[tuple[int, tuple[str, ...]], RecordPlace] = {}
        self._free: dict[int, list[int]] = {}
        self._end = first

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._map.close()
        os.close(self.fd)

    def read(self, at: int, count: int) -> Sequence[int]:
        """Words as they are now."""
        return self._words[at : at + count].tolist()

    def place(
        self, record: object, fields: tuple[str, ...], more: int = 0, *, key: object = None
    ) -> RecordPlace:
        """Where the numbers that a record has as `fields`, and `more` words that are 0, lie.

        Of the same record, or what is its `key`, the same fields are in the same place.
        `release` it once.
        """
        key = record if key is None else key
        made = self._places.get((id(key), fields))
        if made is None:
            count = len(fields) + more
            made = RecordPlace(record, fields, key, self._room(count), count)
            self.store(made)
            for index in range(len(fields), count):
                self._words[made.at + index] = 0
            self._places[id(key), fields] = made
        made.users += 1
        return made

    def store(self, place: RecordPlace) -> None:
        """Have the words say what the record does now."""
        for index, name in enumerate(place.fields):
            self._words[place.at + index] = getattr(place.record, name)

    def add(self, at: int, more: int) -> None:
        """Count so much more in a word."""
        self._words[at] += more

    def release(self, place: RecordPlace) -> None:
        """One user less; the C side must not know the place any more when it is the last."""
        place.users -= 1
        if not place.users:
            del self._places[id(place.key), place.fields]
            self._free.setdefault(place.count, []).append(place.at)

    def refresh(self, place: RecordPlace) -> None:
        """Have the record say what the words do now."""
        for name, value in zip(place.fields, self.read(place.at, len(place.fields)), strict=True):
            setattr(place.record, name, value)

    def _room(self, count: int) -> int:
        if free := self._free.get(count):
            return free.pop()
        at = self._end
        if at + count > WORDS:
            raise ServerError(f"no room for more counters: {WORDS} words are in use")
        self._end += count
        return at
