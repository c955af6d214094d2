"""Records of witnesses as their bytes, and what is no record (`servernf.wire.records`)."""

from __future__ import annotations

from servernf.wire.records import CUT, Record, RecordKind, event, frame_digest, point_id

VECTORS: tuple[tuple[Record, bytes], ...] = (
    (
        Record(
            RecordKind.IN, point_id("server1.1"), 0x0102030405060708, 9, 0xDEADBEEF, 1_000_000,
            5 << 8 | 254, 3, 1, CUT, 0xF10F, 60, 10_000_000_001, 10_000_000_900, 1_700_000_000_000_000,
            77_000_000, 4_000, 2, 21, 22, bytes(range(16)), frame_digest(b"frame"), "g/nat", "inside",
            "outside", "no_port", b"frame", b"state",
        ),
        bytes.fromhex(
            "57520201000000b9a226068d32af452101020304050607080000000000000009deadbeef000f4240"
            "000005fe0000000300010001f10f0000003c00000002540be40100000002540be78400060a24181e"
            "4000000000000496ed4000000fa0000000020000001500000016000102030405060708090a0b0c0d"
            "0e0fa0f66a9bc6750ac387caf7676498b0e205672f6e617406696e73696465076f75747369646507"
            "6e6f5f706f7274000000056672616d65000000057374617465"
        ),
    ),
    (
        event(
            point_id("server1.1"), 1, 0, 1_700_000_000_000_000,
            {"event": "boot", "point": "server1.1"},
        ),
        bytes.fromhex(
            "57520210000000baa226068d32af4521000000000000000100000000000000000000000000000000"
            "0000000000000000000000000000000000000000000000000000000000000000000000060a24181e"
            "40000000000000000000000000000000000000000000000000000000000000000000000000000000"
            "00000000000000000000000000000000000000000000000000247b226576656e74223a22626f6f74"
            "222c22706f696e74223a22736572766572312e31227d00000000"
        ),
    ),
)  # fmt: skip

_WHOLE, _EVENT = VECTORS[0][1], VECTORS[1][1]
HOSTILE: tuple[tuple[str, bytes], ...] = (
    ("not one", b""),
    ("not one", _WHOLE + _WHOLE),
    ("a header has", _WHOLE[:100]),
    ("does not begin", b"XX" + _WHOLE[2:]),
    ("does not begin", _WHOLE[:2] + b"\1" + _WHOLE[3:]),
    ("kind 99", _WHOLE[:3] + b"\x63" + _WHOLE[4:]),
    ("length", _WHOLE[:4] + b"\xff\xff\xff\xff" + _WHOLE[8:]),
    ("length", _WHOLE[:4] + bytes(4) + _WHOLE[8:]),
    ("length", _WHOLE[:-1]),
    ("runs over", _WHOLE[:-9] + b"\0\0\xff\0" + _WHOLE[-5:]),
    ("behind it", _WHOLE[:-9] + b"\0\0\0\4" + _WHOLE[-5:]),
    ("printable", _WHOLE.replace(b"g/nat", b"g/n\nt")),
    ("printable", _WHOLE.replace(b"g/nat", b"g/n\xfft")),
    ("JSON object", _EVENT.replace(b'"event":', b'"event"=')),
    ("JSON object", _EVENT.replace(b"boot", b"bo\xfft")),
)
"""A word of the refusal, and the bytes."""
