"""Table entries as protobuf bytes, written from templates: bulk entries need no message objects.

What comes out is what protobuf's own deterministic serialisation gives (fields by number, zeros left
out), so equal entries are equal bytes; tests compare the two. About 4 us an entry instead of 11.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from finsy.proto import p4r

from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry

# Tags (field number << 3 | wire type) of p4.v1's messages.
_ENTITY_TABLE_ENTRY = b"\x12"
_ENTRY_TABLE_ID = b"\x08"
_ENTRY_MATCH = b"\x12"
_ENTRY_ACTION = b"\x1a"
_ENTRY_PRIORITY = b"\x20"
_ENTRY_METER = b"\x32"
_ENTRY_METADATA = b"\x5a"
_TABLE_ACTION_ACTION = b"\x0a"
_ACTION_ID = b"\x08"
_ACTION_PARAM = b"\x22"
_PARAM_ID = b"\x10"
_PARAM_VALUE = b"\x1a"
_MATCH_FIELD_ID = b"\x08"
_MATCH_EXACT, _MATCH_TERNARY, _MATCH_LPM, _MATCH_RANGE, _MATCH_OPTIONAL = (
    b"\x12",
    b"\x1a",
    b"\x22",
    b"\x32",
    b"\x3a",
)
_FIRST_BYTES, _SECOND_BYTES = b"\x0a", b"\x12"
_PREFIX_LENGTH = b"\x10"
_REQUEST_UPDATE = b"\x22"
_UPDATE_TYPE, _UPDATE_ENTITY = b"\x08", b"\x12"

_SHARED = 1 << 14
"""Parts that are kept: entries of one NF share most keys and actions."""


def varint(value: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS = tuple(varint(size) for size in range(1 << 12))


def canonical(value: int) -> bytes:
    """The shortest big-endian bytes of a value (P4Runtime, 8.4)."""
    return value.to_bytes((value.bit_length() + 7) // 8 or 1)


def _part(tag: bytes, body: bytes | bytearray) -> bytes:
    size = len(body)
    return tag + (_LENGTHS[size] if size < len(_LENGTHS) else varint(size)) + body


def match_part(field: int, kind: str, bits: int, key: Key) -> bytes:
    """A FieldMatch of a TableEntry; `kind` and `bits` are the field's in P4Info."""
    if isinstance(key, Lpm) or (isinstance(key, Exact) and kind == "LPM"):
        length = key.length if isinstance(key, Lpm) else bits
        head, tail = _lpm_frame(field, len(data := canonical(key.value)), length)
        return head + data + tail
    if isinstance(key, Exact) and kind in ("EXACT", "OPTIONAL"):
        tag = _MATCH_EXACT if kind == "EXACT" else _MATCH_OPTIONAL
        inner = _part(_FIRST_BYTES, canonical(key.value))
    else:
        tag = _MATCH_RANGE if isinstance(key, Between) else _MATCH_TERNARY
        first, second = (key.value, (1 << bits) - 1) if isinstance(key, Exact) else key
        inner = _part(_FIRST_BYTES, canonical(first)) + _part(_SECOND_BYTES, canonical(second))
    return _part(_ENTRY_MATCH, _MATCH_FIELD_ID + varint(field) + _part(tag, inner))


@lru_cache(_SHARED)
def _lpm_frame(field: int, size: int, length: int) -> tuple[bytes, bytes]:
    """What stands before and behind the `size` bytes of an LPM value."""
    tail = _PREFIX_LENGTH + varint(length) if length else b""
    value = _part(_FIRST_BYTES, bytes(size)) + tail
    whole = _part(_ENTRY_MATCH, _MATCH_FIELD_ID + varint(field) + _part(_MATCH_LPM, value))
    return whole[: len(whole) - len(tail) - size], tail


class TableFields:
    """The match fields of one table: name -> (id, kind, bits), and what they were asked lately."""

    __slots__ = ("_fields", "_kept", "head", "needs_priority")

    def __init__(
        self, table: int, fields: Mapping[str, tuple[int, str, int]], needs_priority: bool
    ) -> None:
        self.head = _ENTRY_TABLE_ID + varint(table)
        self.needs_priority = needs_priority
        self._fields = fields
        self._kept: dict[tuple[str, Key], bytes] = {}

    def encode(self, keys: tuple[tuple[str, Key], ...]) -> bytes:
        """Table and match of a TableEntry, the matches in order of their ids."""
        fields, kept = self._fields, self._kept
        parts = [self.head]
        last = 0
        for item in keys:
            name, key = item
            ident, kind, bits = fields[name]
            if ident < last:
                return self.encode(tuple(sorted(keys, key=lambda item: fields[item[0]][0])))
            last = ident
            if type(key) is Lpm:
                value, length = key
                data = value.to_bytes((value.bit_length() + 7) >> 3 or 1)
                head, tail = _lpm_frame(ident, len(data), length)
                parts += (head, data, tail)
                continue
            part = kept.get(item)
            if part is None:
                if len(kept) >= _SHARED:
                    kept.clear()
                part = kept[item] = match_part(ident, kind, bits, key)
            parts.append(part)
        return b"".join(parts)


def action_part(action: int, params: Iterable[tuple[int, int]]) -> bytes:
    """The TableAction of a TableEntry; params by id."""
    body = _ACTION_ID + varint(action)
    for ident, value in params:
        param = _PARAM_ID + varint(ident) + _part(_PARAM_VALUE, canonical(value))
        body += _part(_ACTION_PARAM, param)
    return _part(_ENTRY_ACTION, _part(_TABLE_ACTION_ACTION, body))


def identified(
    asked: bytes, action: bytes, priority: int, metadata: bytes, meter: bytes = b""
) -> tuple[bytes, bytes]:
    """(identity, Entity) of a table entry made of such parts.

    The identity is the entry without what may be modified (P4Runtime, 9.1): table, match, priority.
    """
    identity, body = asked, asked + action
    if priority:
        ranked = _ENTRY_PRIORITY + varint(priority)
        identity += ranked
        body += ranked
    if meter:
        body += _part(_ENTRY_METER, meter)
    size = len(metadata)
    if 0 < size < len(_LENGTHS):  # almost always: no call of _part
        body += _ENTRY_METADATA + _LENGTHS[size] + metadata
    elif size:
        body += _part(_ENTRY_METADATA, metadata)
    return identity, _part(_ENTITY_TABLE_ENTRY, body)


class RawUpdate(NamedTuple):
    """An update of a Write: its type and its Entity, serialised."""

    kind: int
    entity: bytes

    @classmethod
    def of(cls, update: p4r.Update) -> RawUpdate:
        """The same as a message."""
        return cls(update.type, update.entity.SerializeToString(deterministic=True))

    def message(self) -> p4r.Update:
        """As a message."""
        return p4r.Update(
            type=p4r.Update.Type.ValueType(self.kind), entity=p4r.Entity.FromString(self.entity)
        )

    def part(self) -> bytes:
        """As a part of a serialised WriteRequest."""
        update = _part(_UPDATE_OF[self.kind], self.entity)
        return _part(_REQUEST_UPDATE, update)


def inserted(entities: Iterable[bytes | bytearray]) -> bytearray:
    """Inserts of entities, one behind the other: the `updates` of a WriteRequest."""
    data = bytearray()
    for entity in entities:
        data += _part(_REQUEST_UPDATE, _part(_UPDATE_OF[p4r.Update.INSERT], entity))
    return data


class Inserts:
    """Inserts of entries as `inserted` serialises them, in runs: `sizes` are those of the runs."""

    __slots__ = ("__dict__", "data", "entries", "sizes")

    def __init__(
        self, entries: Sequence[TableEntry], runs: Iterable[bytes | bytearray | memoryview]
    ) -> None:
        self.entries, self.data, self.sizes = entries, bytearray(), list[int]()
        for run in runs:
            self.data += run
            self.sizes.append(len(run))

    @cached_property
    def listed(self) -> tuple[TableEntry, ...]:
        """All entries as objects."""
        return tuple(self.entries)

    @cached_property
    def _ends(self) -> array[int]:
        """Where each ends: only who cuts them into batches has to know."""
        ends, at, data = array("Q"), 0, self.data
        while at < len(data):
            size, shift = 0, 0
            at += 1  # behind the tag
            while data[at] >= 0x80:
                size |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
            at += 1 + (size | data[at] << shift)
            ends.append(at)
        return ends

    def bytes_of(self, first: int, last: int) -> memoryview:
        """Those from `first` to before `last`."""
        start = self._ends[first - 1] if first else 0
        return memoryview(self.data)[start : self._ends[last - 1]]


class InsertRun(NamedTuple):
    """Inserts in a row, from `first` to before `last`: written as they are."""

    inserts: Inserts
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def split(self, most: int) -> Iterator[InsertRun]:
        """The same in runs of so many at most."""
        for first in range(self.first, self.last, most):
            yield InsertRun(self.inserts, first, min(first + most, self.last))

    def part(self) -> memoryview:
        """As a part of a serialised WriteRequest."""
        return self.inserts.bytes_of(self.first, self.last)

    def updates(self) -> list[RawUpdate]:
        """One by one."""
        request = p4r.WriteRequest.FromString(bytes(self.part()))
        return [RawUpdate.of(update) for update in request.updates]


_UPDATE_OF = tuple(_UPDATE_TYPE + kind.to_bytes(1) + _UPDATE_ENTITY for kind in range(4))
