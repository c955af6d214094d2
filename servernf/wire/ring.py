"""A ring of records in shared memory: one process writes, one reads, neither waits for the other.

A file, mapped by both, so it outlives either: `MAGIC`, then as 8-byte numbers of this machine the size
of the data (byte 8), the bytes that were written (64), the records that found no room (72), and the
bytes that were read (128); data from byte `DATA` on. What is written is whole before its number says so.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from servernf.wire.errors import InputError

MAGIC = b"WRING1\n\0"
DATA = 4096
LEAST, MOST = 1 << 16, 1 << 32
_NUMBER = struct.Struct("=Q")
_SIZE, _WRITTEN, _READ, _LOST = 8, 64, 128, 72


class Ring:
    """A ring that is open. `put` is the writer's, `peek` and `free` are the reader's."""

    def __init__(self, path: Path, *, create: int = 0) -> None:
        """Open a ring; with `create`, make one of so many bytes (0600) where there is none."""
        try:
            if create and not path.exists():
                _make(path, create)
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError as error:
            raise InputError(f"ring {path}: {error.strerror}") from None
        try:
            length = os.fstat(descriptor).st_size
            if length < DATA + LEAST:
                raise InputError(f"ring {path}: is none: {length} bytes")
            self._map = mmap.mmap(descriptor, length)
        finally:
            os.close(descriptor)
        self._size = self._number(_SIZE)
        if self._map[: len(MAGIC)] != MAGIC or self._size != length - DATA:
            raise InputError(f"ring {path}: is none of this version")
        self._written = self._number(_WRITTEN)
        """What the writer has told, where it goes on, and how far it may without looking."""
        self._end, self._most = DATA + self._written % self._size, self._written

    @property
    def lost(self) -> int:
        """Records that found no room."""
        return self._number(_LOST)

    def put(self, record: bytes) -> bool:
        """Append a record if there is room for all of it; the writer's."""
        at, size = self._end, len(record)
        if self._written + size > self._most:
            self._most = self._number(_READ) + self._size
            if self._written + size > self._most:
                _NUMBER.pack_into(self._map, _LOST, self.lost + 1)
                return False
        if at + size <= DATA + self._size:
            self._map[at : at + size] = record
            self._end = at + size
        else:
            first = DATA + self._size - at
            self._map[at : at + first] = record[:first]
            self._map[DATA : DATA + size - first] = record[first:]
            self._end = DATA + size - first
        self._written += size
        _NUMBER.pack_into(self._map, _WRITTEN, self._written)
        return True

    def peek(self, most: int) -> bytes:
        """The oldest bytes that were not freed; the reader's. InputError if the writer went wrong."""
        read, written = self._number(_READ), self._number(_WRITTEN)
        there = written - read
        if not 0 <= there <= self._size:
            raise InputError(f"ring: {written} bytes written, {read} read, room for {self._size}")
        count = min(most, there)
        at = read % self._size
        first = min(count, self._size - at)
        data = self._map[DATA + at : DATA + at + first]
        return data + self._map[DATA : DATA + count - first] if first < count else data

    def free(self, count: int) -> None:
        """So many of the oldest bytes are read for good; the reader's."""
        _NUMBER.pack_into(self._map, _READ, self._number(_READ) + count)

    def skip(self) -> None:
        """Give up all that is there."""
        _NUMBER.pack_into(self._map, _READ, self._number(_WRITTEN))

    def close(self) -> None:
        """The file stays."""
        self._map.close()

    def _number(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self._map, at)[0])


def _make(path: Path, size: int) -> None:
    if not LEAST <= size <= MOST:
        raise InputError(f"ring {path}: {size} bytes; {LEAST} to {MOST} are expected")
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, DATA + size)
        os.pwrite(descriptor, MAGIC + _NUMBER.pack(size), 0)
        os.replace(new, path)
    finally:
        os.close(descriptor)
