"""How the state of an NF is written down for another runtime: layouts of records, and batches of them.

A *batch* holds records of one table of one NF type, those longest unused first:

    u8   encoding (ENCODING)
    u8   length, then the NF's type        (ASCII)
    u8   length, then the table's name     (ASCII)
    u16  version of the table's layout
    u32  number of records
    for each record its key's fields, then its others, as the layout says

Integers are big-endian. Fields of fixed size come first, those of variable size behind them, each group
in the order of the layout:

    u8 u16 u32 u64 i64   integers
    bool                 one byte, 0 or 1
    age                  i64, microseconds before the moment of writing; negative: after it; NEVER: never
    bytes                u32 length, bytes
    list                 u32 count, and for each of them u32 length, bytes
    ages                 u32 count, and an age for each

Nothing here knows what fields mean. What a peer says is measured before it is believed: a batch that is
not exactly as its layout says is one InputError, and nothing of it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from servernf.wire.errors import InputError, quoted, unknown

ENCODING: Final = 1
MOST_BYTES: Final = 64 << 20
"""Of a batch."""

Value: TypeAlias = "int | bool | bytes | Sequence[bytes] | Sequence[int]"
Values: TypeAlias = tuple[Value, ...]
_FIXED = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "bool": "B", "age": "q"}
_VARIABLE = ("bytes", "list", "ages")
NEVER: Final = (1 << 63) - 1
_U16, _U32 = struct.Struct("!H"), struct.Struct("!I")
_I64_BYTES = 8


@dataclass(frozen=True, slots=True)
class RecordField:
    """One field; `most` bounds what is variable: bytes, or for `list` and `ages` how many."""

    name: str
    type: str
    most: int = 0

    def __post_init__(self) -> None:
        if self.type not in _FIXED and self.type not in _VARIABLE:
            raise ValueError(unknown("field type", self.type, (*_FIXED, *_VARIABLE)))


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A record as it is written: key and fields each in their bytes. Equal records have equal bytes.

    Ages in it are those of `before_us` microseconds before it is entered."""

    key: bytes
    body: bytes
    before_us: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one table."""

    nf_type: str
    table: str
    version: int
    records: tuple[StateRecord, ...]


class _Part:
    """A key, or all else."""

    __slots__ = ("bools", "fields", "fixed", "fixed_count", "order", "variable")

    def __init__(self, fields: Sequence[RecordField]) -> None:
        fixed = [f for f in fields if f.type in _FIXED]
        self.variable = [f for f in fields if f.type in _VARIABLE]
        self.fields = tuple(fixed + self.variable)
        self.order = [self.fields.index(f) for f in fields]
        """Where the fields, as they were given, stand on the wire."""
        self.fixed = struct.Struct("!" + "".join(_FIXED[f.type] for f in fixed))
        self.fixed_count = len(fixed)
        self.bools = [i for i, f in enumerate(fixed) if f.type == "bool"]

    def pack(self, values: Sequence[Value]) -> bytes:
        if len(self.fields) == self.fixed_count:
            return self.fixed.pack(*values)
        ordered: list[Value] = [b""] * len(values)
        for at, value in zip(self.order, values, strict=True):
            ordered[at] = value
        parts = [self.fixed.pack(*ordered[: self.fixed_count])]
        for f, value in zip(self.variable, ordered[self.fixed_count :], strict=True):
            parts.append(_pack_variable(f.type, value))
        return b"".join(parts)

    def unpack(self, reader: _Reader) -> Values:
        values: list[Value] = list(reader.fixed(self.fixed))
        for index in self.bools:
            if values[index] not in (0, 1):
                reader.fail(f"{self.fields[index].name}: must be 0 or 1, not {values[index]}")
            values[index] = bool(values[index])
        for f in self.variable:
            values.append(reader.variable(f))
        return tuple(values[at] for at in self.order)


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """What the records of a table are made of; another layout of the same table has another version."""

    table: str
    version: int
    key: tuple[RecordField, ...]
    fields: tuple[RecordField, ...]
    _parts: tuple[_Part, _Part] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", (_Part(self.key), _Part(self.fields)))

    def pack_key(self, values: Sequence[Value]) -> bytes:
        """The key's fields, in the layout's order."""
        return self._parts[0].pack(values)

    def pack(self, values: Sequence[Value]) -> bytes:
        """All others."""
        return self._parts[1].pack(values)

    def unpack_key(self, raw: bytes) -> Values:
        """The values of one key; InputError when it is not exactly one."""
        return self._whole(self._parts[0], raw)

    def unpack(self, raw: bytes) -> Values:
        """The values of all else."""
        return self._whole(self._parts[1], raw)

    def read(self, reader: _Reader) -> StateRecord:
        """The next record of a batch, checked."""
        start = reader.at
        self._parts[0].unpack(reader)
        middle = reader.at
        self._parts[1].unpack(reader)
        return StateRecord(reader.data[start:middle], reader.data[middle : reader.at])

    def read_one(self, raw: bytes) -> StateRecord:
        """A record that is written; InputError when it is not exactly one."""
        reader = _Reader(raw, f"state of {self.table}")
        record = self.read(reader)
        reader.end()
        return record

    @property
    def least(self) -> int:
        """Bytes of the smallest record."""
        return sum(p.fixed.size + _U32.size * len(p.variable) for p in self._parts)

    @property
    def is_fixed(self) -> bool:
        """Whether all records have the same size."""
        return not any(p.variable for p in self._parts)

    def _whole(self, part: _Part, raw: bytes) -> Values:
        reader = _Reader(raw, f"state of {self.table}")
        values = part.unpack(reader)
        reader.end()
        return values


def encode(nf_type: str, layout: RecordLayout, records: Iterable[StateRecord]) -> bytes:
    """A batch."""
    listed = list(records)
    written = b"".join(part for record in listed for part in (record.key, record.body))
    return encode_written(nf_type, layout, len(listed), written)


def encode_written(nf_type: str, layout: RecordLayout, count: int, written: bytes) -> bytes:
    """A batch of so many records that are written already, one behind the other."""
    head = [bytes((ENCODING,)), _short(nf_type), _short(layout.table)]
    return b"".join((*head, _U16.pack(layout.version), _U32.pack(count), written))


def decode(data: bytes, layouts: Callable[[str], Mapping[str, RecordLayout]]) -> Batch:
    """A batch of a stranger; `layouts` answers those of an NF type by table, or raises InputError."""
    if len(data) > MOST_BYTES:
        raise InputError(
            f"state: a batch has {len(data):,} bytes; at most {MOST_BYTES:,} are valid"
        )
    reader = _Reader(data, "state")
    (encoding,) = reader.fixed(_U8)
    if encoding != ENCODING:
        reader.fail(f"encoding {encoding} is not known (known: {ENCODING})")
    nf_type = reader.short()
    tables = layouts(nf_type)
    table = reader.short()
    layout = tables.get(table)
    if layout is None:
        raise InputError(f"state of {nf_type}: {unknown('table', table, sorted(tables))}")
    (version,) = reader.fixed(_U16)
    reader.where = f"state of {nf_type}: {table}"
    if version != layout.version:
        reader.fail(f"version {version} is not known (known: {layout.version})")
    (count,) = reader.fixed(_U32)
    if count * layout.least > len(data) - reader.at:
        reader.fail(f"{count:,} records do not fit in {len(data) - reader.at:,} bytes")
    records: list[StateRecord] = []
    for number in range(count):
        reader.where = f"state of {nf_type}: {table}[{number}]"
        records.append(layout.read(reader))
    reader.where = f"state of {nf_type}: {table}"
    reader.end()
    return Batch(nf_type, table, version, tuple(records))


_U8 = struct.Struct("!B")


class _Reader:
    """Bytes of a stranger, from the first on."""

    __slots__ = ("at", "data", "where")

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.at = 0

    def fail(self, why: str) -> None:
        raise InputError(f"{self.where}: {why}")

    def take(self, size: int, what: str) -> bytes:
        left = len(self.data) - self.at
        if size > left:
            self.fail(f"{what} needs {size:,} bytes, and {left:,} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def fixed(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size, "what comes next"))

    def short(self) -> str:
        (size,) = self.fixed(_U8)
        raw = self.take(size, "a name")
        if not raw.isascii():
            self.fail(f"a name is not ASCII: {quoted(raw)}")
        return raw.decode("ascii")

    def variable(self, f: RecordField) -> Value:
        (count,) = self.fixed(_U32)
        if count > f.most:
            self.fail(f"{f.name}: {count:,} is too much; at most {f.most:,} is valid")
        if f.type == "bytes":
            return self.take(count, f.name)
        if f.type == "ages":
            return struct.unpack(f"!{count}q", self.take(count * _I64_BYTES, f.name))
        values: list[bytes] = []
        for _ in range(count):
            (size,) = self.fixed(_U32)
            values.append(self.take(size, f.name))
        return tuple(values)

    def end(self) -> None:
        left = len(self.data) - self.at
        if left:
            self.fail(f"{left:,} bytes are too many")


def _pack_variable(kind: str, value: Value) -> bytes:
    if kind == "bytes":
        assert isinstance(value, bytes)
        return _U32.pack(len(value)) + value
    assert not isinstance(value, (int, bytes))
    if kind == "ages":
        return _U32.pack(len(value)) + struct.pack(f"!{len(value)}q", *value)
    parts = [_U32.pack(len(value))]
    for item in value:
        assert isinstance(item, bytes)
        parts += (_U32.pack(len(item)), item)
    return b"".join(parts)


def _short(text: str) -> bytes:
    raw = text.encode("ascii")
    return bytes((len(raw),)) + raw
