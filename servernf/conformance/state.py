"""How state is written down: batches as their bytes, and what is no batch (`servernf.wire.state`).

For whoever writes it in another language: each vector has the layout of its table, the values of
its records in the layout's order, and the batch that they are. What is hostile must be refused whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from servernf.wire.state import NEVER, RecordField, RecordLayout, Values


@dataclass(frozen=True, slots=True)
class StateVector:
    """Records (key, others) of a table of an NF type, and the batch."""

    nf: str
    layout: RecordLayout
    records: tuple[tuple[Values, Values], ...]
    batch: bytes


@dataclass(frozen=True, slots=True)
class Hostile:
    """Bytes that are not a batch of flow_monitor, and a word that the refusal says."""

    why: str
    batch: bytes
    says: str


FLOWS = RecordLayout(
    "flows",
    1,
    (RecordField("key", "bytes", 64),),
    (
        RecordField("packets", "u64"),
        RecordField("bytes", "u64"),
        RecordField("last_us", "age"),
        RecordField("source", "bytes", 16),
        RecordField("established", "bool"),
    ),
)
MAPPINGS = RecordLayout(
    "mappings",
    1,
    (
        RecordField("protocol", "u8"),
        RecordField("inside", "u32"),
        RecordField("inside_port", "u16"),
    ),
    (
        RecordField("outside", "u32"),
        RecordField("outside_port", "u16"),
        RecordField("established", "u32"),
        RecordField("used_us", "age"),
        RecordField("remotes", "bytes", 28_672),
    ),
)
EVERY_TYPE = RecordLayout(
    "every_type",
    258,
    (),
    (
        RecordField("list", "list", 3),
        RecordField("u8", "u8"),
        RecordField("ages", "ages", 3),
        RecordField("i64", "i64"),
        RecordField("bool", "bool"),
        RecordField("age", "age"),
    ),
)
_FLOW_KEY = bytes.fromhex("110a0000010007c63364090009")
_HEAD = bytes.fromhex("010c") + b"flow_monitor" + b"\x05flows" + bytes.fromhex("0001")
_RECORD = bytes.fromhex(
    "0000000d110a0000010007c63364090009"
    "0000000000000002" "0000000000000064" "00000000000007d0" "00" "00000004" "0a000001"
)  # fmt: skip
VECTORS = (
    StateVector(
        "flow_monitor",
        FLOWS,
        (((_FLOW_KEY,), (2, 100, 2000, bytes((10, 0, 0, 1)), False)),),
        _HEAD + bytes.fromhex("00000001") + _RECORD,
    ),
    StateVector("flow_monitor", FLOWS, (), _HEAD + bytes(4)),
    StateVector(
        "napt",
        MAPPINGS,
        (((17, 0x0A000001, 2000), (0xCB007101, 2000, 0, 4000, bytes.fromhex("01c63364090009"))),),
        bytes.fromhex(
            "01" "046e617074" "086d617070696e6773" "0001" "00000001" "110a00000107d0"
            "cb007101" "07d0" "00000000" "0000000000000fa0" "00000007" "01c63364090009"
        ),
    ),
    StateVector(
        "toy",
        EVERY_TYPE,
        (
            ((), ((b"ab", b""), 255, (1, -1), -2, True, NEVER)),
            ((), ((), 0, (), 0, False, -5)),
        ),
        bytes.fromhex(
            "01" "03746f79" "0a65766572795f74797065" "0102" "00000002"
            "ff" "fffffffffffffffe" "01" "7fffffffffffffff"
            "00000002" "00000002" "6162" "00000000" "00000002" "0000000000000001" "ffffffffffffffff"
            "00" "0000000000000000" "00" "fffffffffffffffb" "00000000" "00000000"
        ),
    ),
)  # fmt: skip
HOSTILE = (
    Hostile("empty", b"", "bytes"),
    Hostile("of another encoding", b"\x02" + (_HEAD + bytes(4))[1:], "encoding 2"),
    Hostile("cut in its name", _HEAD[:9], "a name"),
    Hostile("of an unknown table", _HEAD.replace(b"flows", b"flowz") + bytes(4), "flowz"),
    Hostile("of another version", _HEAD[:-1] + b"\x02" + bytes(4), "version 2"),
    Hostile("with more records than bytes", _HEAD + b"\xff" * 4 + _RECORD, "do not fit"),
    Hostile("with a byte too many", _HEAD + bytes(4) + b"\0", "too many"),
    Hostile("cut in a record", _HEAD + bytes.fromhex("00000001") + _RECORD[:-1], "are left"),
    Hostile(
        "with a key of four gigabytes",
        _HEAD + bytes.fromhex("00000001") + b"\xff" * 4 + _RECORD[4:],
        "too much",
    ),
    Hostile(
        "with a bool of 2",
        _HEAD + bytes.fromhex("00000001") + _RECORD[:41] + b"\x02" + _RECORD[42:],
        "0 or 1",
    ),
)
