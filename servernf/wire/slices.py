"""The state that one packet touched (`StateSlice`), and a witness's record of it. Integers big-endian:

    u8   encoding (ENCODING)
    u32  number of places
    for each: place, u8 what is there (1: a record before, 2: one after, 4: the same after as before),
              u32 length and bytes before, if there are, u32 length and bytes after, if there are others
    u32  number of evictions
    for each: place of what was entered, u16 length and key of what had to go for it

A place is u8 length and name of the table (ASCII), u16 length and key. Records are as `wire.state` has
them, with ages before the record's clock of the NF.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from servernf.wire.errors import InputError

ENCODING = 1
MOST_SLICE = 1 << 17
"""Bytes of a slice that a record has at most."""
Place = tuple[str, bytes]
"""A table (or "TABLE/INDEX") and a key as it is written."""
_BEFORE, _AFTER, _SAME = 1, 2, 4
_U16, _U32 = struct.Struct(">H"), struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class StateSlice:
    """The state that one packet touched, before and after it; None: there was no such record."""

    before: Mapping[Place, bytes | None]
    after: Mapping[Place, bytes | None]
    evicted: tuple[tuple[Place, bytes], ...] = ()
    """(which record was entered, the key of one that had to go for it), in order: a choice among all
    records of the table, of which the slice has no more than that."""

    @property
    def changes(self) -> dict[Place, bytes | None]:
        """What the packet changed."""
        return {place: now for place, now in self.after.items() if self.before[place] != now}


def pack(told: StateSlice) -> bytes:
    """A slice's bytes."""
    parts = [bytes((ENCODING,)), _U32.pack(len(told.before))]
    for place, before in told.before.items():
        after = told.after[place]
        same = before is not None and before == after
        flags = (before is not None) * _BEFORE | (after is not None) * _AFTER | same * _SAME
        parts += [_place(place), bytes((flags,))]
        for body in (before, None if same else after):
            parts += [] if body is None else [_U32.pack(len(body)), body]
    parts.append(_U32.pack(len(told.evicted)))
    for place, gone in told.evicted:
        parts += [_place(place), _U16.pack(len(gone)), gone]
    return b"".join(parts)


def unpack(data: bytes) -> StateSlice:
    """The slice that these bytes are, and nothing else; InputError says what is wrong with them."""
    reader = _Reader(data)
    if (encoding := reader.take(1)[0]) != ENCODING:
        raise InputError(f"slice: encoding {encoding}; {ENCODING} is known")
    before: dict[Place, bytes | None] = {}
    after: dict[Place, bytes | None] = {}
    for _ in range(reader.number(_U32)):
        place, flags = reader.place(), reader.take(1)[0]
        if flags & ~7 or (flags & _SAME and flags != 7):
            raise InputError(f"slice: flags {flags:#x} contradict each other")
        if place in before:
            raise InputError(f"slice: {place[0]} {place[1].hex()} is there twice")
        before[place] = reader.bytes_of(_U32) if flags & _BEFORE else None
        other = reader.bytes_of(_U32) if flags & _AFTER and not flags & _SAME else None
        after[place] = before[place] if flags & _SAME else other
    evicted = tuple((reader.place(), reader.bytes_of(_U16)) for _ in range(reader.number(_U32)))
    if reader.at != len(data):
        raise InputError(f"slice: {len(data) - reader.at} bytes behind it")
    return StateSlice(before, after, evicted)


def _place(place: Place) -> bytes:
    name = place[0].encode("ascii")
    return b"".join((bytes((len(name),)), name, _U16.pack(len(place[1])), place[1]))


class _Reader:
    """Bytes from the first to the last; every length is looked at before it is believed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise InputError(f"slice: cut short at byte {len(self._data)}")
        self.at += count
        return taken

    def number(self, form: struct.Struct) -> int:
        return int(form.unpack(self.take(form.size))[0])

    def bytes_of(self, form: struct.Struct) -> bytes:
        return self.take(self.number(form))

    def place(self) -> Place:
        name = self.take(self.take(1)[0])
        if not name.isascii() or not name.decode("ascii", "replace").isprintable():
            raise InputError("slice: a table's name is not printable ASCII")
        return name.decode("ascii"), self.bytes_of(_U16)
