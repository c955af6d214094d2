"""Captures as frames: pcap and pcapng (draft-ietf-opsawg-pcap, -pcapng), in any byte order.

What was captured without Ethernet but holds a packet (raw IP, Linux cooked, loopback) gets the header
that a host of the network would send it with; other link types are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from orchestrator.errors import InputError
from orchestrator.files import open_regular

Header = Callable[[int, bytes], bytes]
"""The Ethernet header, with an EtherType, for the packet."""

_IPV4, _IPV6 = 0x0800, 0x86DD
_LENGTH_FIELD = 0x0600
"""Smaller EtherTypes are lengths (IEEE 802.3), or Linux's own numbers in a cooked header."""
_ETHERNET = 1
_NULL, _LOOP = 0, 108
_RAW = frozenset((12, 14, 101, 228, 229))
_COOKED = {113: (16, 14), 276: (20, 0)}
"""Linux cooked captures, version 1 and 2: bytes of the header, and where its protocol is."""
_FAMILIES = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}
"""Address families in loopback captures: AF_INET6 is another number on each system."""
_NAMES = {
    6: "Token Ring",
    8: "SLIP",
    9: "PPP",
    10: "FDDI",
    50: "PPP in HDLC",
    51: "PPPoE",
    104: "Cisco HDLC",
    105: "IEEE 802.11",
    107: "Frame Relay",
    119: "IEEE 802.11 with a Prism header",
    127: "IEEE 802.11 with radiotap",
    163: "IEEE 802.11 with an AVS header",
    187: "Bluetooth HCI",
    189: "USB",
    192: "PPI",
    195: "IEEE 802.15.4",
    197: "ERF",
    201: "Bluetooth HCI",
    220: "USB",
    227: "CAN",
    239: "netfilter log",
    247: "InfiniBand",
    249: "USB",
    253: "netlink",
}
_READ = "Ethernet, raw IP, Linux cooked and loopback are read"
_MAGICS = {0xA1B2C3D4: 16, 0xA1B23C4D: 16, 0xA1B2CD34: 24}
"""Microseconds, nanoseconds, Kuznetzov's format; bytes of a record's header."""
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_FCS_LENGTH = 13
_LARGEST = 1 << 20
"""Longer records are damage: no link has such frames."""
_FCS_KNOWN = 0x04000000


class _Link(NamedTuple):
    kind: int
    trailer: int = 0
    """Bytes of a frame check sequence behind each frame."""
    snap_length: int = 0


class _Record(NamedTuple):
    link: _Link
    data: bytes
    length: int
    """Bytes on the wire."""


@dataclass(slots=True)
class Capture:
    """A capture file; `cut` counts the frames of which it holds less than was on the wire.

    They are filled up with zeros, as tcpreplay's `--fixlen=pad` does.
    """

    path: Path
    header: Header
    cut: int = 0

    def frames(self) -> Iterator[bytes]:
        """The Ethernet frames; InputError for what is no capture, damaged or of another link type."""
        number = 0
        with open_regular(self.path, f"--pcap {self.path}") as file:
            try:
                for record in _records(file):
                    frame = self._frame(record)
                    number += 1
                    yield frame
            except _Damaged as error:
                text = f"packet {number + 1}: {error}" if error.in_packet else str(error)
                raise InputError(f"--pcap {self.path}: {text}") from None
            except OSError as error:
                raise InputError(f"--pcap {self.path}: cannot be read: {error.strerror}") from None
        if not number:
            raise InputError(f"--pcap {self.path}: there is no packet in it")

    def first(self, count: int) -> list[bytes]:
        """The first frames; what is behind them is not looked at."""
        return list(islice(self.frames(), count))

    def warning(self) -> str:
        """What to tell of the frames that were read; empty when all were whole."""
        if not self.cut:
            return ""
        return (
            f"--pcap {self.path}: {self.cut} packets were cut when they were captured (snap length); "
            "they are filled up with zeros, so their checksums are wrong"
        )

    def _frame(self, record: _Record) -> bytes:
        data = record.data
        if len(data) < record.length:
            self.cut += 1
            data += bytes(record.length - len(data))
        if record.link.trailer:
            data = data[: -record.link.trailer]
        if record.link.kind == _ETHERNET:
            return data
        ether_type, packet = _packet(record.link.kind, data)
        return self.header(ether_type, packet) + packet


class _Damaged(ValueError):
    """Why a file cannot be read on; `in_packet`: in the next packet."""

    def __init__(self, text: str, *, in_packet: bool = True) -> None:
        super().__init__(text)
        self.in_packet = in_packet


def _packet(kind: int, data: bytes) -> tuple[int, bytes]:
    """EtherType and bytes of the packet that a frame of another link type holds."""
    if kind in _RAW:
        version = data[0] >> 4 if data else 0
        if version in (4, 6):
            return (_IPV4 if version == 4 else _IPV6), data
        raise _Damaged(f"link type {kind} (raw IP), but it is neither IPv4 nor IPv6")
    if kind in (_NULL, _LOOP) and len(data) >= 4:
        # The family is in the order of the machine that captured it.
        for order in ("big", "little"):
            if (ether_type := _FAMILIES.get(int.from_bytes(data[:4], order))) is not None:
                return ether_type, data[4:]
        raise _Damaged(f"link type {kind} (loopback), but it is neither IPv4 nor IPv6")
    if kind in _COOKED and len(data) >= _COOKED[kind][0]:
        size, at = _COOKED[kind]
        ether_type = int.from_bytes(data[at : at + 2], "big")
        if ether_type >= _LENGTH_FIELD:
            return ether_type, data[size:]
        raise _Damaged(
            f"link type {kind} (Linux cooked) with protocol {ether_type:#06x}, no EtherType"
        )
    if kind in (_NULL, _LOOP, *_COOKED):
        raise _Damaged(f"its {len(data)} bytes are too few for link type {kind}")
    name = _NAMES.get(kind, "private or unknown")
    raise _Damaged(f"link type {kind} ({name}) has no Ethernet frames; {_READ}")


def _records(file: IO[bytes]) -> Iterator[_Record]:
    magic = file.read(4)
    if not magic:
        raise _Damaged("is empty", in_packet=False)
    if magic[:2] == b"\x1f\x8b":
        raise _Damaged("is compressed: gunzip it first", in_packet=False)
    if magic == _SECTION.to_bytes(4, "big"):
        return _pcapng(file)
    for order in "<>":
        if len(magic) == 4 and (size := _MAGICS.get(struct.unpack(order + "I", magic)[0])):
            return _pcap(file, order, size)
    raise _Damaged("is no capture (pcap or pcapng)", in_packet=False)


def _pcap(file: IO[bytes], order: str, record_size: int) -> Iterator[_Record]:
    head = file.read(20)
    if len(head) < 20:
        raise _Damaged("is cut off in its header", in_packet=False)
    major, _, _, _, _, network = struct.unpack(order + "HHiIII", head)
    if major != 2:
        raise _Damaged(f"is pcap of version {major}; version 2 is read", in_packet=False)
    trailer = 2 * (network >> 28) if network & _FCS_KNOWN else 0
    link = _Link(network & 0xFFFF, trailer)
    while head := file.read(record_size):
        if len(head) < record_size:
            raise _Damaged("the file ends in its header")
        captured, length = struct.unpack_from(order + "II", head, 8)
        yield _Record(link, _captured(file, captured, length), length)


def _captured(file: IO[bytes], captured: int, length: int) -> bytes:
    if max(captured, length) > _LARGEST:
        raise _Damaged(f"is damaged: it claims {max(captured, length)} bytes")
    return _exactly(file, captured, "it")


def _exactly(file: IO[bytes], size: int, what: str) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _Damaged(f"the file is cut off: {what} has {len(data)} of {size} bytes")
    return data


def _pcapng(file: IO[bytes]) -> Iterator[_Record]:
    order, links, kind_bytes = "<", list[_Link](), _SECTION.to_bytes(4, "big")
    while kind_bytes:
        rest = _exactly(file, 8 - len(kind_bytes), "a block")
        if kind_bytes == _SECTION.to_bytes(4, "big"):
            magic = _exactly(file, 4, "a section")
            orders = {o: struct.pack(o + "I", _BYTE_ORDER) for o in "<>"}
            order = next((o for o, byte_order in orders.items() if byte_order == magic), "")
            if not order:
                raise _Damaged("is no pcapng: its byte order is unknown", in_packet=False)
            links, read = [], 12
        else:
            read = 8
        kind, size = struct.unpack(order + "II", kind_bytes + rest)
        if size < read + 4 or size % 4 or size > _LARGEST + 4096:
            raise _Damaged(f"a block is damaged: it claims {size} bytes")
        body = _exactly(file, size - read, "a block")
        if body[-4:] != struct.pack(order + "I", size):
            raise _Damaged("a block is damaged: its two lengths differ")
        try:
            if kind == _INTERFACE:
                links.append(_interface(body[:-4], order))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                yield _block_record(kind, body[:-4], order, links)
        except (struct.error, IndexError):
            raise _Damaged("a block is damaged: it is too short, or of no interface") from None
        kind_bytes = file.read(4)
        if len(kind_bytes) not in (0, 4):
            raise _Damaged("the file ends in the header of a block")


def _interface(body: bytes, order: str) -> _Link:
    kind, _, snap_length = struct.unpack_from(order + "HHI", body)
    trailer, at = 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        if code == _FCS_LENGTH and size == 1:
            trailer = body[at + 4]
        if not code:
            break
        at += 4 + size + -size % 4
    return _Link(kind, trailer, snap_length)


def _block_record(kind: int, body: bytes, order: str, links: list[_Link]) -> _Record:
    if kind == _SIMPLE_PACKET:
        (length,) = struct.unpack_from(order + "I", body)
        link, at = links[0], 4
        captured = min(length, link.snap_length or length)
    else:
        layout = "IIIII" if kind == _PACKET else "HHIIII"  # the old one has a count of drops
        fields = struct.unpack_from(order + layout, body)
        link, at, (captured, length) = links[fields[0]], 20, fields[-2:]
    if max(captured, length) > _LARGEST or at + captured > len(body):
        raise _Damaged(f"is damaged: it claims {max(captured, length)} bytes")
    return _Record(link, body[at : at + captured], length)
