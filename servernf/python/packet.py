"""One frame as the NFs see it: its bytes, where its headers are, and what they say.

A worker loads every frame into the same `PacketView`, so that no object is made a packet. What is
malformed is decided as docs/architecture.md says: a frame that ends inside a header it announces.
"""

from __future__ import annotations

import struct

from servernf.python.checksum import delta16, delta32, delta128, patch, patch_udp

ICMP, TCP, UDP, IPV6_FRAGMENT, ICMPV6 = 1, 6, 17, 44, 58
NO_PROTOCOL = -1
NO_PORT = -1
ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST = 0, 8
ICMP_ERRORS = frozenset((3, 11, 12))
ICMPV6_ERRORS = frozenset((1, 2, 3, 4))

_WITH_PORTS = frozenset((TCP, UDP))
VLAN_TYPES = (0x8100, 0x88A8)
_IPV4 = struct.Struct("!BxHHHBBxxII")
_IPV6 = struct.Struct("!BxxxHBB16s16s")
_PORTS = struct.Struct("!HH")


class PacketView:
    """The frame (without tag) and its parsed headers; `load` before use.

    Offsets are bytes into `data`; addresses are integers. `l4` is 0 when no L4 header is parsed (a
    later fragment, an unknown protocol). `source_port` and `destination_port` are NO_PORT unless
    TCP or UDP with fragment offset 0. `end` is where the IP packet ends (padding is behind it).
    `context` is the NF context label that comes and goes with the packet (0: none); `load` leaves it.
    """

    __slots__ = (
        "context",
        "data",
        "destination",
        "destination_port",
        "end",
        "ether_type",
        "first_fragment",
        "identification",
        "l3",
        "l4",
        "later_fragment",
        "protocol",
        "source",
        "source_port",
        "ttl",
        "version",
    )

    def __init__(self) -> None:
        self.data = bytearray()
        self.context = 0
        self.ether_type = self.version = self.l3 = self.l4 = self.end = 0
        self.protocol = NO_PROTOCOL
        self.source = self.destination = self.ttl = self.identification = 0
        self.source_port = self.destination_port = NO_PORT
        self.first_fragment = self.later_fragment = False

    def load(self, frame: bytes, offset: int = 0) -> bool:
        """Parse `frame` from `offset` on; False when it is malformed."""
        data = bytearray(frame)
        del data[:offset]
        self.data = data
        size = len(data)
        if size < 14:
            return False
        ether_type = data[12] << 8 | data[13]
        l3 = 14
        while ether_type in VLAN_TYPES and l3 < 22:
            if size < l3 + 4:
                return False
            ether_type = data[l3 + 2] << 8 | data[l3 + 3]
            l3 += 4
        self.ether_type = ether_type
        self.l3 = l3
        self.source_port = self.destination_port = NO_PORT
        if ether_type == 0x0800:
            return self._load_ipv4(data, l3, size)
        self.version = 0
        self.protocol = NO_PROTOCOL
        self.l4 = 0
        self.first_fragment = self.later_fragment = False
        self.source = self.destination = 0
        if ether_type == 0x86DD:
            return self._load_ipv6(data, l3, size)
        return ether_type != 0x0806 or size >= l3 + 28

    def replace(self, frame: bytes | bytearray) -> bool:
        """Put another frame in this one's place; False when it is malformed."""
        return self.load(bytes(frame))

    def _load_ipv4(self, data: bytearray, l3: int, size: int) -> bool:
        if size < l3 + 20:
            return False
        first, length, self.identification, fragment, self.ttl, protocol, source, destination = (
            _IPV4.unpack_from(data, l3)
        )
        header = (first & 0x0F) << 2
        l4 = l3 + header
        if first >> 4 != 4 or header < 20 or size < l4:
            return False
        self.version = 4
        self.protocol = protocol
        self.source = source
        self.destination = destination
        end = l3 + length
        if end > size:
            end = size
        self.end = end if end > l4 else l4
        if fragment & 0x3FFF:
            self.later_fragment = later = fragment & 0x1FFF != 0
            self.first_fragment = not later
            if later:
                self.l4 = 0
                return True
        else:
            self.first_fragment = self.later_fragment = False
        if protocol in _WITH_PORTS:
            return self._load_ports(data, l4, size, protocol)
        if protocol == ICMP:
            return self._load_icmp(data, l4, size)
        self.l4 = 0
        return True

    def _load_ipv6(self, data: bytearray, l3: int, size: int) -> bool:
        l4 = l3 + 40
        if size < l4:
            return False
        first, length, protocol, self.ttl, source, destination = _IPV6.unpack_from(data, l3)
        if first >> 4 != 6:
            return False
        self.version = 6
        self.source = int.from_bytes(source, "big")
        self.destination = int.from_bytes(destination, "big")
        self.end = min(size, l4 + length)
        if protocol == IPV6_FRAGMENT:
            if size < l4 + 8:
                return False
            protocol = data[l4]
            fragment = data[l4 + 2] << 8 | data[l4 + 3]
            l4 += 8
            self.later_fragment = fragment > 7
            self.first_fragment = fragment & 0xFFF9 == 1
        self.protocol = protocol
        if self.end < l4:
            self.end = l4
        if self.later_fragment:
            return True
        if protocol in _WITH_PORTS:
            return self._load_ports(data, l4, size, protocol)
        if protocol == ICMPV6:
            return self._load_icmpv6(data, l4, size, length)
        return True

    def _load_ports(self, data: bytearray, l4: int, size: int, protocol: int) -> bool:
        if protocol == UDP:
            # The label covers the first eight payload bytes, so a switch parses them.
            if size < l4 + 16 and (size < l4 + 8 or data[l4 + 4] << 8 | data[l4 + 5] >= 16):
                return False
        elif size < l4 + 20:
            return False
        self.l4 = l4
        self.source_port, self.destination_port = _PORTS.unpack_from(data, l4)
        return True

    def _load_icmp(self, data: bytearray, l4: int, size: int) -> bool:
        if size < l4 + 8:
            return False
        self.l4 = l4
        if data[l4] not in ICMP_ERRORS:
            return True
        quoted = l4 + 8
        if size < quoted + 20:
            return False
        return size >= quoted + 28 or not quotes_l4(data, quoted)

    def _load_icmpv6(self, data: bytearray, l4: int, size: int, length: int) -> bool:
        if size < l4 + 8:
            return False
        self.l4 = l4
        kind = data[l4]
        if 1 <= kind <= 4:
            if size < l4 + 48:
                return False
            return size >= l4 + 56 or data[l4 + 14] not in (TCP, UDP, ICMPV6)
        if kind == 135 and length == 32:
            return size >= l4 + 32
        return True

    def set_source(self, address: int, port: int = NO_PORT) -> None:
        """Write source address and, if given, port; checksums follow."""
        self._rewrite(
            12 if self.version == 4 else 8, self.source, address, 0, self.source_port, port
        )
        self.source = address
        if port >= 0:
            self.source_port = port

    def set_destination(self, address: int, port: int = NO_PORT) -> None:
        """Write destination address and, if given, port; checksums follow."""
        self._rewrite(
            16 if self.version == 4 else 24,
            self.destination,
            address,
            2,
            self.destination_port,
            port,
        )
        self.destination = address
        if port >= 0:
            self.destination_port = port

    def _rewrite(
        self, address_at: int, old: int, new: int, port_at: int, old_port: int, new_port: int
    ) -> None:
        data, l3, l4, protocol = self.data, self.l3, self.l4, self.protocol
        address_at += l3
        if self.version == 4:
            delta = delta32(old, new)
            data[address_at : address_at + 4] = new.to_bytes(4, "big")
            patch(data, l3 + 10, delta)
        else:
            delta = delta128(old, new)
            data[address_at : address_at + 16] = new.to_bytes(16, "big")
        if not l4:
            return
        if new_port >= 0:
            delta += delta16(old_port, new_port)
            data[l4 + port_at : l4 + port_at + 2] = new_port.to_bytes(2, "big")
        if protocol == UDP:
            patch_udp(data, l4 + 6, delta)
        elif protocol == TCP:
            patch(data, l4 + 16, delta)
        elif protocol == ICMPV6:  # its checksum covers a pseudo-header (RFC 4443, 2.3); ICMP's not
            patch(data, l4 + 2, delta)

    def flow(self) -> tuple[int, int]:
        """Source and destination of the flow that the packet is of: for an ICMP error, that of the
        packet which it quotes, seen from the other side. Not IP: zeros."""
        data, l4 = self.data, self.l4
        if self.protocol == ICMP and self.version == 4 and l4 and data[l4] in ICMP_ERRORS:
            at, size = l4 + 20, 4
        elif self.protocol == ICMPV6 and self.version == 6 and l4 and 1 <= data[l4] <= 4:
            at, size = l4 + 16, 16
        else:
            return self.source, self.destination
        quoted_source = int.from_bytes(data[at : at + size], "big")
        return int.from_bytes(data[at + size : at + 2 * size], "big"), quoted_source

    def decrement_ttl(self) -> None:
        """One hop less (IPv4 TTL with its checksum, or IPv6 hop limit)."""
        data, l3 = self.data, self.l3
        self.ttl -= 1
        if self.version == 4:
            data[l3 + 8] -= 1
            patch(data, l3 + 10, 0xFFFF - 0x100)  # the word fell by 0x100
        else:
            data[l3 + 7] -= 1

    def set_ttl(self, ttl: int) -> None:
        """Write the IPv4 TTL, with its checksum, or the IPv6 hop limit."""
        data, at = self.data, self.l3 + (8 if self.version == 4 else 7)
        if self.version == 4:
            patch(data, self.l3 + 10, delta16(data[at] << 8, ttl << 8))
        data[at] = self.ttl = ttl

    def set_dscp(self, dscp: int) -> None:
        """Write the DSCP of an IP packet (others have none); ECN, the two bits behind it, stays."""
        data, l3 = self.data, self.l3
        if self.version == 4:
            old = data[l3 + 1]
            data[l3 + 1] = dscp << 2 | old & 3
            patch(data, l3 + 10, delta16(old, data[l3 + 1]))
        elif self.version == 6:  # the traffic class lies across two bytes
            data[l3] = 0x60 | dscp >> 2
            data[l3 + 1] = (dscp & 3) << 6 | data[l3 + 1] & 0x3F


def quotes_l4(data: bytearray, quoted: int) -> bool:
    """Whether an ICMP error's quoted IPv4 header announces eight bytes of TCP, UDP or ICMP."""
    return (
        data[quoted] & 0x0F == 5
        and not (data[quoted + 6] & 0x1F or data[quoted + 7])
        and data[quoted + 9] in (ICMP, TCP, UDP)
    )
