"""What a witness tells: binary records of one layout, whoever writes them.

A record is a header of fixed size (`HEADER`, big-endian, in this order) and a tail:

    2s   b"WR"          u8 version (2)      u8 kind            u32 length of the whole record
    u64  point          u64 boot            u64 sequence
    u32  label          u32 ingress time    u32 SPI << 8 | SI  u32 key epoch
    u16  branch         u16 flags           u16 flow              u32 bytes of the frame
    u64  entered        u64 left            u64 wall clock     u64 clock of the NF
    u32  CPU time       u32 calls           u32 context before u32 context after
    16s  configuration  16s digest
    tail: four texts (u8 length, ASCII): NF, port entered, port left, reason;
          u32 length and bytes of the frame; u32 length and bytes of state

Times: ingress and wall clock and that of the NF in us, `entered` and `left` in ns of the point's own
monotonic clock: when it was done with what came before, and with this; CPU time in ns, of the thread
that runs packets, for `calls` NF calls of which this was one, without making records (0: not known).
`point` is `point_id` of the point's name, `boot` is drawn when it starts, and `sequence`
counts from 0 then: what is missing between two was lost. `configuration` is as NfStatus.config_digest,
`frame` is without tag; where it is the beginning only (flag CUT), `digest` is BLAKE2b-128 of the whole,
else 0: who has the frame has its digest. Of an EVENT `frame` is a JSON object. `state` is what became of
a packet's slice of the NF's state (`wire.slices`), in the record of its outcome; with flag STATE_CUT it
was too large.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, cast

from servernf.wire.errors import InputError

MAGIC, VERSION = b"WR", 2
HEADER = struct.Struct(">2sBBIQQQIIIIHHHIQQQQIIII16s16s")
_LENGTH = struct.Struct(">I").pack
_LEAST = HEADER.size + 8
MOST_RECORD = 1 << 18
"""Bytes of a record at most."""
MOST_TEXT = 255
CUT, STATE_CUT = 1, 2
DIGEST_BYTES = 16
_NO_DIGEST = bytes(DIGEST_BYTES)


class RecordKind(IntEnum):
    """What a record tells."""

    IN = 1
    """An NF is given a packet."""
    OUT = 2
    """A packet leaves an NF: the one it was given (branch 0), or one beside or later (1, 2, ...)."""
    DROP = 3
    """The NF drops it, for `reason`."""
    HELD = 4
    """The NF keeps it, and sends it later or never."""
    ERROR = 5
    """The NF failed."""
    LOST = 6
    """The point itself dropped it, for `reason`."""
    ENTRY = 7
    """It enters the network at an edge."""
    EXIT = 8
    """It leaves the network at an edge: the chain's last output."""
    HOP = 9
    """A switch saw it with its tag."""
    EVENT = 16
    """Something that is no packet."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; see the layout above. `path` is SPI << 8 | SI."""

    kind: RecordKind
    point: int
    boot: int
    sequence: int
    label: int = 0
    ingress_us: int = 0
    path: int = 0
    epoch: int = 0
    branch: int = 0
    flags: int = 0
    flow: int = 0
    """As the tag has it."""
    frame_bytes: int = 0
    entered_ns: int = 0
    left_ns: int = 0
    wall_us: int = 0
    nf_us: int = 0
    cpu_ns: int = 0
    calls: int = 0
    context_in: int = 0
    context_out: int = 0
    configuration: bytes = _NO_DIGEST
    digest: bytes = _NO_DIGEST
    nf: str = ""
    port_in: str = ""
    port_out: str = ""
    reason: str = ""
    frame: bytes = b""
    state: bytes = b""

    @property
    def packet(self) -> tuple[int, int]:
        """Which packet it is of: its label and when it came in."""
        return self.label, self.ingress_us

    @property
    def whole_digest(self) -> bytes:
        """BLAKE2b-128 of the whole frame."""
        return self.digest if self.flags & CUT else frame_digest(self.frame)

    @property
    def si(self) -> int:
        """The service index: it falls along the way."""
        return self.path & 0xFF

    def event(self) -> dict[str, Any]:
        """What an EVENT says; InputError if it is no JSON object."""
        return _event(self.frame)

    def pack(self) -> bytes:
        """The record's bytes."""
        return packed(
            (
                self.kind, self.point, self.boot, self.sequence,
                self.label, self.ingress_us, self.path, self.epoch,
                self.branch, self.flags, self.flow, self.frame_bytes,
                self.entered_ns, self.left_ns, self.wall_us, self.nf_us,
                self.cpu_ns, self.calls, self.context_in, self.context_out,
                self.configuration, self.digest,
            ),
            text_bytes(self.nf, self.port_in, self.port_out, self.reason),
            self.frame,
            self.state,
        )  # fmt: skip


def packed(fields: Sequence[Any], texts: bytes, frame: bytes, state: bytes = b"") -> bytes:
    """A record's bytes, for who makes many: the header's fields from the kind on, without the length,
    and the texts of `text_bytes`."""
    length = _LEAST + len(texts) + len(frame) + len(state)
    head = HEADER.pack(MAGIC, VERSION, fields[0], length, *fields[1:])
    return b"".join((head, texts, _LENGTH(len(frame)), frame, _LENGTH(len(state)), state))


def text_bytes(*texts: str) -> bytes:
    """The four texts of a record: NF, port entered, port left, reason."""
    raw = [text.encode("ascii", "replace")[:MOST_TEXT] for text in texts]
    return b"".join(bytes((len(text),)) + text for text in raw)


def point_id(name: str) -> int:
    """The number of a point by its name: BLAKE2b, 8 bytes."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def frame_digest(frame: bytes) -> bytes:
    """The digest that a record has of a frame."""
    return blake2b(frame, digest_size=DIGEST_BYTES).digest()


def event(point: int, boot: int, sequence: int, wall_us: int, said: dict[str, Any]) -> Record:
    """A record of something that is no packet."""
    text = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return Record(RecordKind.EVENT, point, boot, sequence, wall_us=wall_us, frame=text)


def unpack(data: bytes | memoryview) -> Record:
    """The record that these bytes are, and nothing else; InputError says what is wrong with them."""
    records = list(split(data))
    if len(records) != 1:
        raise InputError(f"record: {len(records)} records in {len(data)} bytes, not one")
    return read(records[0])


def split(data: bytes | memoryview) -> Iterator[bytes]:
    """The records of a sequence, as bytes, by their lengths; InputError where it breaks."""
    at, end = 0, len(data)
    while at < end:
        if end - at < HEADER.size:
            raise InputError(f"record at byte {at}: {end - at} bytes, a header has {HEADER.size}")
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if bytes(data[at : at + 2]) != MAGIC or data[at + 2] != VERSION:
            raise InputError(f"record at byte {at}: does not begin with WR and version {VERSION}")
        if not HEADER.size + 12 <= length <= min(MOST_RECORD, end - at):
            raise InputError(f"record at byte {at}: length {length} of {end - at} bytes")
        yield bytes(data[at : at + length])
        at += length


def read(data: bytes) -> Record:
    """The record of bytes that `split` gave; InputError says what is wrong with its inside."""
    fields = HEADER.unpack_from(data)
    try:
        kind = RecordKind(fields[2])
    except ValueError:
        raise InputError(f"record: kind {fields[2]} is unknown") from None
    texts: list[str] = []
    at = HEADER.size
    for _ in range(4):
        size = data[at] if at < len(data) else 0
        raw, at = data[at + 1 : at + 1 + size], at + 1 + size
        if at > len(data) or not raw.isascii() or not raw.decode("ascii", "replace").isprintable():
            raise InputError("record: a text runs over, or is not printable ASCII")
        texts.append(raw.decode("ascii"))
    parts: list[bytes] = []
    for what in ("frame", "state"):
        size = int.from_bytes(data[at : at + 4], "big") if at + 4 <= len(data) else MOST_RECORD
        part, at = data[at + 4 : at + 4 + size], at + 4 + size
        if at > len(data):
            raise InputError(f"record: the {what} runs over")
        parts.append(part)
    if at != len(data):
        raise InputError(f"record: {len(data) - at} bytes behind it")
    if kind is RecordKind.EVENT:
        _event(parts[0])
    return Record(kind, *fields[4:], *texts, *parts)


def _event(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InputError("record: an event is no JSON object")
    return cast("dict[str, Any]", said)
