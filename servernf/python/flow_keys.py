"""Keys of tables that packets fill: bytes, which CPython hashes with a secret of the process (SipHash).

Integers hash to themselves modulo 2^61 - 1, and tuples of them by a fixed function, so whoever sends
packets could choose addresses and ports that all collide; every look-up would then walk through all of
them. Integers below 2^61 - 1 that are keys by themselves (NAPT's) cannot have equal hashes.
"""

from __future__ import annotations

import struct

from servernf.python.network_function import INSIDE
from servernf.python.packet import PacketView
from servernf.python.tables import RecordFlow

FLOW = ("inside", "inside_port", "outside", "outside_port", "protocol")
"""What a `flow_key` tells."""
FLOW_KEY_BYTES = 13, 37
FRAGMENT_KEY_BYTES = 12, 38

_IPV4_ENDS, _IPV6_ENDS = struct.Struct("4s4s"), struct.Struct("16s16s")
_PORTS = struct.Struct("2s2s")
_BYTES = [bytes((number,)) for number in range(256)]
_NO_PORTS = b"\0\0", b"\0\0"


def ends(packet: PacketView) -> tuple[bytes, bytes]:
    """Source and destination of an IP packet: its address, then its port (0 without ports)."""
    data = packet.data
    if packet.version == 4:
        source, destination = _IPV4_ENDS.unpack_from(data, packet.l3 + 12)
    else:
        source, destination = _IPV6_ENDS.unpack_from(data, packet.l3 + 8)
    has_ports = packet.source_port >= 0
    source_port, destination_port = _PORTS.unpack_from(data, packet.l4) if has_ports else _NO_PORTS
    return source + source_port, destination + destination_port


def flow_key(packet: PacketView, *, inside: bool) -> bytes:
    """Of both directions of a flow: protocol, inside end, outside end. Its length tells the IP version.

    `inside`: whether the packet entered there.
    """
    source, destination = ends(packet)
    protocol = _BYTES[packet.protocol]
    return protocol + source + destination if inside else protocol + destination + source


def connection_key(packet: PacketView) -> tuple[bytes, bool]:
    """Of both directions of a TCP connection: lower end, higher end; whether the packet goes up."""
    source, destination = ends(packet)
    if source <= destination:
        return source + destination, True
    return destination + source, False


def fragment_key(packet: PacketView, port: str) -> bytes:
    """Of all fragments of a datagram that enter `port`: 1 if that is inside, addresses, protocol and
    identification."""
    data, l3 = packet.data, packet.l3
    side, protocol = port == INSIDE, packet.protocol
    if packet.version == 4:
        return b"%c%b%c%b" % (side, data[l3 + 12 : l3 + 20], protocol, data[l3 + 4 : l3 + 6])
    # The fragment header stands directly behind the IPv6 header.
    return b"%c%b%c%b" % (side, data[l3 + 8 : l3 + 40], protocol, data[l3 + 44 : l3 + 48])


def flow_of_key(key: bytes) -> RecordFlow:
    """The flow of a `flow_key`."""
    size = len(key) // 2
    port = size - 1
    return RecordFlow(
        key[1:port],
        key[port] << 8 | key[port + 1],
        key[size + 1 : size + port],
        key[-2] << 8 | key[-1],
        key[0],
    )


def flow_of_fragment(key: bytes) -> RecordFlow:
    """The flow of a `fragment_key`: it has no ports."""
    size = 4 if len(key) < 32 else 16
    source, destination = key[1 : size + 1], key[size + 1 : 2 * size + 1]
    protocol = key[2 * size + 1]
    if key[0]:
        return RecordFlow(source, -1, destination, -1, protocol)
    return RecordFlow(destination, -1, source, -1, protocol)


def host_of(end: bytes) -> bytes:
    """Whom an end is counted for: its IPv4 address, or the /64 of its IPv6 address.

    A host with one IPv6 address has its whole /64 at hand (RFC 7934).
    """
    return end[:4] if len(end) < 16 else end[:8]


def keyed_hash(*numbers: int) -> int:
    """A hash of integers with the secret of the process."""
    return hash(b"%x," * len(numbers) % numbers)
