"""Records of witnesses: the layout, and what is no record."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest

from servernf.conformance.records import HOSTILE, VECTORS
from servernf.wire import records
from servernf.wire.errors import InputError
from servernf.wire.records import Record, RecordKind


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v[0].kind.name)
def test_the_vectors(vector: tuple[Record, bytes]) -> None:
    record, data = vector
    assert record.pack() == data
    assert records.unpack(data) == record


@pytest.mark.parametrize(("why", "data"), HOSTILE)
def test_what_is_no_record_is_refused(why: str, data: bytes) -> None:
    with pytest.raises(InputError, match=why):
        records.unpack(data)


def test_any_record_comes_back() -> None:
    chance = random.Random(1)
    for _ in range(500):
        made = Record(
            chance.choice([kind for kind in RecordKind if kind is not RecordKind.EVENT]),
            *(chance.getrandbits(64) for _ in range(3)),
            label=chance.getrandbits(32),
            nf="g/" + "n" * chance.randrange(200),
            frame=chance.randbytes(chance.randrange(2000)),
            state=chance.randbytes(chance.randrange(50)),
            digest=chance.randbytes(16),
            nf_us=chance.getrandbits(64),
        )
        assert records.unpack(made.pack()) == made


def test_changed_bytes_are_another_record_or_refused() -> None:
    chance = random.Random(2)
    good = VECTORS[0][1] + VECTORS[1][1]
    refused = 0
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data
        try:
            reread = [records.read(one) for one in records.split(bytes(data))]
        except InputError:
            refused += 1
        else:
            assert b"".join(record.pack() for record in reread) == bytes(data)
    assert refused > 1000


def test_every_field_is_written() -> None:
    record = VECTORS[0][0]
    changed = {
        part.name: replace(record, **{part.name: other(getattr(record, part.name))}).pack()
        for part in fields(record)
    }
    assert len(set(changed.values()) | {record.pack()}) == len(changed) + 1


def other(value: object) -> object:
    match value:
        case RecordKind():
            return RecordKind.OUT if value is RecordKind.IN else RecordKind.IN
        case int():
            return value ^ 1
        case bytes():
            return bytes((value[0] ^ 1,)) + value[1:]
        case _:
            return f"{value}x"
