"""TCP resets that an NF sends in the name of the two ends of a connection that it blocks.

Without options: IPv4 with DF and identification 0 or IPv6, TTL 64, window 0, RST and ACK. The sequence
number is what the receiver waits for, or it would not believe the reset (RFC 5961, 3.2).
"""

from __future__ import annotations

import struct

from servernf.python.checksum import checksum
from servernf.python.packet import TCP, PacketView

_FIN, _SYN = 1, 2
_RST_ACK = 0x14


def reset_onward(packet: PacketView, expected: int) -> bytes:
    """A frame to the packet's receiver, whose next expected sequence number is given."""
    data, l4 = packet.data, packet.l4
    ends = packet.source, packet.source_port, packet.destination, packet.destination_port
    return _frame(packet, data[:12], ends, expected, _number(data, l4 + 8))


def reset_back(packet: PacketView) -> bytes:
    """A frame to the packet's sender, as if the receiver had refused it."""
    data, l4 = packet.data, packet.l4
    header = data[l4 + 12] >> 4 << 2
    size = max(0, packet.end - l4 - header)
    size += data[l4 + 13] & _FIN
    size += (data[l4 + 13] & _SYN) >> 1
    ends = packet.destination, packet.destination_port, packet.source, packet.source_port
    ack = _number(data, l4 + 4) + size & 0xFFFF_FFFF
    return _frame(packet, data[6:12] + data[:6], ends, _number(data, l4 + 8), ack)


def _frame(
    packet: PacketView, macs: bytearray, ends: tuple[int, int, int, int], seq: int, ack: int
) -> bytes:
    source, source_port, destination, destination_port = ends
    width = 4 if packet.version == 4 else 16
    addresses = source.to_bytes(width, "big") + destination.to_bytes(width, "big")
    segment = bytearray(
        struct.pack("!HHIIBBHI", source_port, destination_port, seq, ack, 0x50, _RST_ACK, 0, 0)
    )
    pseudo = addresses + bytes((0, TCP, 0, len(segment)))
    segment[16:18] = checksum(pseudo + segment).to_bytes(2, "big")
    if packet.version == 4:
        header = bytearray(b"\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00" + addresses)
        header[10:12] = checksum(header).to_bytes(2, "big")
    else:
        header = bytearray(b"\x60\x00\x00\x00\x00\x14\x06\x40" + addresses)
    return bytes(macs + packet.data[12 : packet.l3] + header + segment)


def _number(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
