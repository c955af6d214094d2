"""What a switch tells the CLE of a watched packet: a frame of its own, made by P4 (blocks/record.p4).

A tag (O bit, path 0/0) to the collector's MAC, 64 bytes of header, and the packet's frame without its
tag. The header, big-endian:

    u32 boot       u32 number      u32 MAC         u16 0x88b5      u8 version (1)  u8 kind
    u16 switch     u16 graph       u32 label       u32 ingress time
    u32 SPI << 8 | SI of the tag that came, 0: none did            u32 key epoch
    u16 flow       u8 reason       u8 0            u16 port        u48 arrival, us of the switch's clock
    u48 next MAC   u16 0           u32 next SPI << 8 | SI          u32 NF context labels

Its first 14 bytes are an Ethernet header to who parses tags. `number` counts a graph's reports from 0
on, `boot` is what the CLE has told the switch with the MAC's key, and MAC is HalfSipHash-2-4 over all
other words in their order: so nobody without the key makes one up or changes its header. It does not
cover the frame, which P4 does not see whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from servernf.wire import nsh
from servernf.wire.addresses import mac_text
from servernf.wire.errors import InputError
from servernf.wire.nsh import TAG_BYTES, Tag
from servernf.wire.prf import half_siphash_32
from servernf.wire.records import Record, RecordKind

VERSION = 1
_HEADER = struct.Struct(">IIIHBBHHIIIIHBBH6s6sHII")
_WORDS = struct.Struct(f">{_HEADER.size // 4}I")
HEADER_BYTES = _HEADER.size
REASONS = (
    "",
    "rule",
    "malformed",
    "port",
    "tag",
    "ttl",
    "path",
    "refused",
    "vlan",
    "route",
    "tunnel",
    "host",
    "device",
    "next",
)
"""By number: `DROP_*` of p4src/shared/metadata.p4 in words."""
_KINDS = frozenset(
    {RecordKind.ENTRY, RecordKind.HOP, RecordKind.OUT, RecordKind.EXIT, RecordKind.DROP}
)


@dataclass(frozen=True, slots=True)
class Report:
    """One report; see above. Paths are SPI << 8 | SI; `next_mac` is 0 where it left without a tag."""

    kind: RecordKind
    switch: int
    graph: int
    boot: int
    number: int
    label: int = 0
    ingress_us: int = 0
    path: int = 0
    epoch: int = 0
    flow: int = 0
    reason: int = 0
    port: int = 0
    arrival_us: int = 0
    next_mac: int = 0
    next_path: int = 0
    nf_labels: int = 0
    frame: bytes = b""

    def encode(self, collector: int, key: tuple[int, int]) -> bytes:
        """The frame that a switch sends to a collector's MAC, as P4 makes it."""
        header = bytearray(
            _HEADER.pack(
                self.boot, self.number, 0, nsh.EXPERIMENT, VERSION, self.kind, self.switch, self.graph,
                self.label, self.ingress_us, self.path, self.epoch, self.flow, self.reason, 0,
                self.port, self.arrival_us.to_bytes(6, "big"), self.next_mac.to_bytes(6, "big"), 0,
                self.next_path, self.nf_labels,
            )
        )  # fmt: skip
        header[8:12] = _mac(header, key).to_bytes(4, "big")
        source = 0x02 << 40 | self.switch << 16
        return nsh.encode(Tag(collector, source, 0, 0, oam=1), bytes(header) + self.frame)

    def record(self, point: int, wall_us: int) -> Record:
        """The report as a record of a point; `wall_us` is its time."""
        onward = f"{mac_text(self.next_mac)} {self.next_path >> 8}/{self.next_path & 0xFF}"
        return Record(
            self.kind,
            point,
            self.boot,
            self.number,
            self.label,
            self.ingress_us,
            self.path,
            self.epoch,
            flow=self.flow,
            frame_bytes=len(self.frame),
            entered_ns=self.arrival_us * 1000,
            wall_us=wall_us,
            context_in=self.nf_labels,
            port_in=str(self.port),
            port_out=onward if self.kind is RecordKind.OUT else "",
            reason=REASONS[self.reason],
            frame=self.frame,
        )


def is_report(data: bytes) -> bool:
    """Whether a frame says that it is one."""
    return (
        len(data) >= TAG_BYTES + HEADER_BYTES
        and data[12:14] == nsh.ETHERTYPE_NSH.to_bytes(2, "big")
        and bool(data[14] & nsh.OAM >> 8)
        and data[TAG_BYTES + 12 : TAG_BYTES + 14] == nsh.EXPERIMENT.to_bytes(2, "big")
        and data[TAG_BYTES + 14] == VERSION
    )


def decode(data: bytes) -> Report:
    """The report of a frame; InputError if it is none. Whose it is only `is_authentic` says."""
    if not is_report(data):
        raise InputError("report: the frame is none of a switch's")
    (
        boot, number, _, _, _, kind, switch, graph, label, ingress_us, path, epoch, flow, reason, _,
        port, arrival, next_mac, _, next_path, nf_labels,
    ) = _HEADER.unpack_from(data, TAG_BYTES)  # fmt: skip
    if kind not in _KINDS:
        raise InputError(f"report: kind {kind} is none of a switch's")
    if reason >= len(REASONS):
        raise InputError(f"report: reason {reason} is unknown")
    return Report(
        RecordKind(kind), switch, graph, boot, number, label, ingress_us, path, epoch, flow, reason,
        port, int.from_bytes(arrival, "big"), int.from_bytes(next_mac, "big"), next_path, nf_labels,
        data[TAG_BYTES + HEADER_BYTES :],
    )  # fmt: skip


def is_authentic(data: bytes, key: tuple[int, int]) -> bool:
    """Whether a report's header is what the holder of a key wrote."""
    header = data[TAG_BYTES : TAG_BYTES + HEADER_BYTES]
    return int.from_bytes(header[8:12], "big") == _mac(header, key)


def _mac(header: bytes | bytearray, key: tuple[int, int]) -> int:
    words = _WORDS.unpack(header)
    return half_siphash_32(*key, *words[:2], *words[3:])
