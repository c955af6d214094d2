"""The frames by which devices are measured: UDP and TCP over IPv4, whole ones with good checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from orchestrator.model.checksums import internet_checksum

SIZES = (64, 512, 1500)
"""Of a frame with its FCS (4 bytes, which sockets do not show): the least, a usual, the largest."""
FCS = 4
INSIDE_MAC, OUTSIDE_MAC = bytes.fromhex("0a0000000001"), bytes.fromhex("060000000001")
UDP, TCP = 17, 6
SYN, ACK, PUSH = 2, 16, 8
_ETHERNET, _IP = 14, 20
Side = tuple[int, int]
"""IPv4 address, port."""


def address(text: str) -> int:
    """An IPv4 address as a number."""
    return int.from_bytes(map(int, text.split(".")))


SERVER = address("198.51.100.13")
CLIENTS = address("10.0.0.0")


def client(flow: int) -> Side:
    """Of 254 addresses, each with many ports."""
    return CLIENTS + 1 + flow % 254, 20_000 + flow // 254 % 40_000


def frame(
    source: Side, target: Side, protocol: int, header: bytes, data: bytes, number: int = 0
) -> bytes:
    """A frame of an L4 header without checksum (its last 4 bytes but for UDP's) and its data."""
    length = len(header) + len(data)
    pseudo = struct.pack("!IIBBH", source[0], target[0], 0, protocol, length)
    total = internet_checksum(pseudo + header + data) or 0xFFFF
    at = 6 if protocol == UDP else 16
    header = header[:at] + struct.pack("!H", total) + header[at + 2 :]
    ip = struct.pack(
        "!BBHHHBBHII",
        0x45,
        0,
        20 + length,
        number & 0xFFFF,
        0,
        64,
        protocol,
        0,
        source[0],
        target[0],
    )
    ip = ip[:10] + struct.pack("!H", internet_checksum(ip)) + ip[12:]
    return OUTSIDE_MAC + INSIDE_MAC + b"\x08\x00" + ip + header + data


def room(size: int, header: int) -> int:
    """Bytes of data in a frame of a size."""
    return max(0, size - FCS - _ETHERNET - _IP - header)


def udp(source: Side, target: Side, data: bytes, number: int = 0) -> bytes:
    """A datagram."""
    header = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0)
    return frame(source, target, UDP, header, data, number)


def tcp(source: Side, target: Side, flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
    """A segment."""
    header = struct.pack(
        "!HHIIBBHHH", source[1], target[1], seq & 0xFFFFFFFF, ack, 5 << 4, flags, 0xFFFF, 0, 0
    )
    return frame(source, target, TCP, header, data)


class OpenedConnections:
    """TCP connections that clients have opened and send data on, whatever is asked for next."""

    def __init__(self, count: int, port: int = 80) -> None:
        self._to = SERVER, port
        self._seq = dict.fromkeys(range(count), 101)

    def opening(self) -> Iterator[tuple[str, bytes]]:
        """(port entered, frame) of every handshake."""
        for flow in self._seq:
            yield "inside", tcp(client(flow), self._to, SYN, 100, 0)
            yield "outside", tcp(self._to, client(flow), SYN | ACK, 500, 101)
            yield "inside", tcp(client(flow), self._to, ACK, 101, 501)

    def data(self, count: int, size: int, begins: bytes = b"", ends: bytes = b"") -> list[bytes]:
        """The next segments of a size, of one connection after the other; empty where nothing fits."""
        fill = room(size, 20) - len(begins) - len(ends)
        data = begins + b"a" * fill + ends if fill >= 0 else b""
        frames: list[bytes] = []
        for number in range(count):
            flow = number % len(self._seq)
            flags = ACK | PUSH if data else ACK
            frames.append(tcp(client(flow), self._to, flags, self._seq[flow], 501, data))
            self._seq[flow] += len(data)
        return frames
