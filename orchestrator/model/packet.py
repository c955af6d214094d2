"""A packet as the reference semantics see it: its bytes, where its headers are, and how to patch them.

The bytes are kept as they came, so unknown bits, options and padding survive. Rewrites never change
the layout; checksums follow RFC 1624, equation 3, once for all words that one call changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.checksums import updated_checksum
from orchestrator.model.headers import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    HeaderLayout,
    Malformed,
    layout_of,
    word,
)


class Packet:
    """A frame with its parsed layout. A malformed one keeps its bytes and says why in `malformed`."""

    __slots__ = ("_at", "context", "data", "malformed")

    def __init__(self, data: bytearray, layout: HeaderLayout, malformed: str | None = None) -> None:
        self.data = data
        self._at = layout
        self.malformed = malformed
        self.context = 0
        """The NF context label that it carries through the network; 0: none."""

    @classmethod
    def parse(cls, frame: bytes) -> Packet:
        """A packet for any bytes; `malformed` is None when they are well-formed."""
        try:
            return cls(bytearray(frame), layout_of(frame))
        except Malformed as error:
            return cls(bytearray(frame), HeaderLayout(end=len(frame)), str(error))

    def to_bytes(self) -> bytes:
        """The frame as it is now."""
        return bytes(self.data)

    def copy(self) -> Packet:
        """An independent packet with the same bytes."""
        packet = Packet(bytearray(self.data), self._at, self.malformed)
        packet.context = self.context
        return packet

    def __repr__(self) -> str:
        return f"Packet({self.data.hex()})"

    # Ethernet

    @property
    def eth_dst(self) -> int:
        """Destination MAC."""
        return _number(self.data, 0, 6)

    @eth_dst.setter
    def eth_dst(self, mac: int) -> None:
        self.data[0:6] = mac.to_bytes(6, "big")

    @property
    def eth_src(self) -> int:
        """Source MAC."""
        return _number(self.data, 6, 6)

    @eth_src.setter
    def eth_src(self, mac: int) -> None:
        self.data[6:12] = mac.to_bytes(6, "big")

    @property
    def ether_type(self) -> int:
        """The type behind at most two VLAN tags."""
        return self._at.ether_type

    @property
    def vlans(self) -> tuple[int, ...]:
        """Tag control information of each parsed VLAN tag, outermost first."""
        return tuple(word(self.data, 14 + 4 * i) for i in range(self._at.vlans))

    # IP

    @property
    def layout(self) -> HeaderLayout:
        """Offsets of the headers."""
        return self._at

    @property
    def version(self) -> int:
        """4, 6 or 0 (not IP)."""
        return self._at.version

    @property
    def src(self) -> int:
        """Source address; only of IP packets, as everything below."""
        return _number(self.data, *self._address(0))

    @src.setter
    def src(self, address: int) -> None:
        self.rewrite(src=address)

    @property
    def dst(self) -> int:
        """Destination address."""
        return _number(self.data, *self._address(1))

    @dst.setter
    def dst(self, address: int) -> None:
        self.rewrite(dst=address)

    @property
    def protocol(self) -> int | None:
        """L4 protocol, of an IPv6 fragment the one in its fragment header; None when not IP."""
        return self._at.protocol

    @property
    def ttl(self) -> int:
        """TTL or hop limit."""
        return self.data[self._at.l3 + (8 if self.version == 4 else 7)]

    @ttl.setter
    def ttl(self, value: int) -> None:
        self.rewrite(ttl=value)

    @property
    def identification(self) -> int | None:
        """Fragment identification: IPv4's, or the IPv6 fragment header's; None without one."""
        if self.version == 4:
            return word(self.data, self._at.l3 + 4)
        return _number(self.data, self._at.fragment + 4, 4) if self._at.fragment else None

    @property
    def later_fragment(self) -> bool:
        """Whether the fragment offset is above 0: no L4 header is here."""
        return self._at.later_fragment

    @property
    def more_fragments(self) -> bool:
        """Whether fragments of the same datagram follow."""
        if self.version == 4:
            return bool(self.data[self._at.l3 + 6] & 0x20)
        return bool(self._at.fragment and self.data[self._at.fragment + 3] & 1)

    # L4

    @property
    def has_ports(self) -> bool:
        """Whether it is TCP or UDP with fragment offset 0."""
        return self.protocol in (TCP, UDP) and not self.later_fragment

    @property
    def is_tcp(self) -> bool:
        """Whether a TCP header is here."""
        return self.protocol == TCP and not self.later_fragment

    @property
    def is_icmp(self) -> bool:
        """Whether an ICMP (IPv4) or ICMPv6 (IPv6) header is here."""
        own = ICMP if self.version == 4 else ICMPV6
        return self.version != 0 and self.protocol == own and not self.later_fragment

    @property
    def src_port(self) -> int | None:
        """Source port; None without ports."""
        return word(self.data, self._at.l4) if self.has_ports else None

    @src_port.setter
    def src_port(self, port: int) -> None:
        self.rewrite(src_port=port)

    @property
    def dst_port(self) -> int | None:
        """Destination port; None without ports."""
        return word(self.data, self._at.l4 + 2) if self.has_ports else None

    @dst_port.setter
    def dst_port(self, port: int) -> None:
        self.rewrite(dst_port=port)

    @property
    def tcp_flags(self) -> int | None:
        """The eight flag bits (CWR..FIN); None when no TCP header is here."""
        return self.data[self._at.l4 + 13] if self.is_tcp else None

    @property
    def tcp_seq(self) -> int | None:
        """Sequence number."""
        return _number(self.data, self._at.l4 + 4, 4) if self.is_tcp else None

    @property
    def tcp_ack(self) -> int | None:
        """Acknowledgement number."""
        return _number(self.data, self._at.l4 + 8, 4) if self.is_tcp else None

    @property
    def icmp_type(self) -> int | None:
        """Type of an ICMP or ICMPv6 message."""
        return self.data[self._at.l4] if self.is_icmp else None

    @property
    def icmp_code(self) -> int | None:
        """Code of an ICMP or ICMPv6 message."""
        return self.data[self._at.l4 + 1] if self.is_icmp else None

    @property
    def icmp_id(self) -> int | None:
        """Identifier of an echo request or reply (RFC 792, RFC 4443 4.1); None otherwise."""
        echo = (0, 8) if self.version == 4 else (128, 129)
        return word(self.data, self._at.l4 + 4) if self.icmp_type in echo else None

    @icmp_id.setter
    def icmp_id(self, value: int) -> None:
        self.rewrite(icmp_id=value)

    @property
    def payload(self) -> bytes:
        """What follows the L4 header, as far as IP's length (and the frame) goes.

        A TCP data offset below 5 or beyond the end has no payload; UDP's own length is not looked at.
        """
        at = self._at
        if self.later_fragment:
            return bytes(self.data[at.l4 : at.end])
        if self.is_tcp:
            header = (self.data[at.l4 + 12] >> 4) * 4
            return bytes(self.data[at.l4 + header : at.end]) if header >= 20 else b""
        header = 8 if self.protocol == UDP or self.is_icmp else 0
        return bytes(self.data[at.l4 + header : at.end])

    # The packet that an ICMP error quotes

    @property
    def quotes_l4(self) -> bool:
        """Whether it is an ICMP error that quotes the L4 header of TCP, UDP or ICMP(v6)."""
        return self._at.quoted_l4 != 0

    @property
    def quoted_protocol(self) -> int:
        """L4 protocol of the quoted packet; the quoted fields ask that `layout.quoted` is not 0."""
        return self.data[self._at.quoted + (9 if self.version == 4 else 6)]

    @property
    def quoted_src(self) -> int:
        """Source address of the quoted packet."""
        return _number(self.data, *self._quoted_address(0))

    @property
    def quoted_dst(self) -> int:
        """Destination address of the quoted packet."""
        return _number(self.data, *self._quoted_address(1))

    @property
    def quoted_ports(self) -> tuple[int, int]:
        """Ports of the quoted packet, source first (`quotes_l4`); of ICMP twice its identifier."""
        l4 = self._at.quoted_l4
        if self.quoted_protocol in (ICMP, ICMPV6):
            identifier = word(self.data, l4 + 4)
            return identifier, identifier
        return word(self.data, l4), word(self.data, l4 + 2)

    @property
    def quoted_icmp_type(self) -> int | None:
        """Type of the quoted ICMP or ICMPv6 message (`quotes_l4`)."""
        of_icmp = self.quoted_protocol in (ICMP, ICMPV6)
        return self.data[self._at.quoted_l4] if of_icmp else None

    # Rewriting

    def rewrite(
        self,
        *,
        src: int | None = None,
        dst: int | None = None,
        ttl: int | None = None,
        src_port: int | None = None,
        dst_port: int | None = None,
        icmp_id: int | None = None,
    ) -> None:
        """Replace header fields and update the IPv4, TCP, UDP, ICMP(v6) checksums once."""
        at = self._at
        addresses: list[tuple[int, int]] = []
        for index, address in enumerate((src, dst)):
            if address is not None:
                start, size = self._address(index)
                addresses += self._patch(start, address, size)
        header = list(addresses)
        if ttl is not None and self.version == 4:
            header += self._patch(at.l3 + 8, ttl << 8 | self.data[at.l3 + 9], 2)
        elif ttl is not None:
            self.data[at.l3 + 7] = ttl
        if self.version == 4:
            self._update_checksum(at.l3 + 10, header)

        words: list[tuple[int, int]] = []
        for offset, port in ((0, src_port), (2, dst_port)):
            if port is not None:
                words += self._patch(at.l4 + offset, port, 2)
        if icmp_id is not None:
            words += self._patch(at.l4 + 4, icmp_id, 2)
        if self.later_fragment:
            return
        if self.protocol == TCP:
            self._update_checksum(at.l4 + 16, addresses + words)
        elif self.protocol == UDP:
            self._update_udp_checksum(at.l4 + 6, addresses + words)
        elif self.is_icmp:  # only ICMPv6 covers the addresses (RFC 4443, 2.3)
            self._update_checksum(at.l4 + 2, words + (addresses if self.version == 6 else []))

    def rewrite_quoted(
        self, *, src: int | None = None, dst: int | None = None, port: int | None = None
    ) -> None:
        """Replace the quoted packet's source or destination address, and that side's port or id.

        Updates the quoted IPv4 checksum, a quoted non-zero UDP checksum, over IPv6 a quoted ICMPv6
        checksum, and the ICMP checksum over everything that changed (RFC 5508, 4.2).
        """
        at = self._at
        protocol, size = self.quoted_protocol, 4 if self.version == 4 else 16
        addresses: list[tuple[int, int]] = []
        for index, address in enumerate((src, dst)):
            if address is not None:
                addresses += self._patch(self._quoted_address(index)[0], address, size)
        words = list(addresses)
        if self.version == 4:
            words += self._update_checksum(at.quoted + 10, addresses)
        ports: list[tuple[int, int]] = []
        if port is not None:
            own = 0 if src is not None else 2
            offset = 4 if protocol in (ICMP, ICMPV6) else own
            ports = self._patch(at.quoted_l4 + offset, port, 2)
            words += ports
        if at.quoted_l4 and protocol == UDP:
            words += self._update_udp_checksum(at.quoted_l4 + 6, addresses + ports)
        elif at.quoted_l4 and protocol == ICMPV6:  # RFC 4443, 2.3: it covers the addresses
            words += self._update_checksum(at.quoted_l4 + 2, addresses + ports)
        self._update_checksum(at.l4 + 2, words)

    def take_quoted_checksum(self, other: Packet) -> None:
        """Give quoted ICMP or TCP the checksum that it has in another packet of this layout.

        No rewrite updates it, so it still is the one of the id or port that the quoting host saw.
        """
        at = self._at
        start = at.quoted_l4 + (2 if self.quoted_protocol == ICMP else 16)
        if start + 2 <= min(at.end, len(other.data)):
            self._update_checksum(at.l4 + 2, self._patch(start, word(other.data, start), 2))

    def take_quoted_rest(self, other: Packet) -> None:
        """Have what another packet of this layout quotes behind the IPv4 header, and its checksum."""
        for start, end in ((self._at.l4 + 2, self._at.l4 + 4), (self._at.quoted + 20, None)):
            self.data[start:end] = other.data[start:end]

    def _address(self, index: int) -> tuple[int, int]:
        """(offset, size) of the source (0) or destination (1) address."""
        if self.version == 4:
            return self._at.l3 + 12 + 4 * index, 4
        if self.version == 6:
            return self._at.l3 + 8 + 16 * index, 16
        raise AttributeError("the packet is not IP: it has no addresses")

    def _quoted_address(self, index: int) -> tuple[int, int]:
        """(offset, size) of the quoted packet's source (0) or destination (1) address."""
        if self.version == 4:
            return self._at.quoted + 12 + 4 * index, 4
        return self._at.quoted + 8 + 16 * index, 16

    def _patch(self, start: int, value: int, size: int) -> list[tuple[int, int]]:
        """Write `size` bytes; the 16-bit words before and after."""
        new = value.to_bytes(size, "big")
        words = [(word(self.data, start + i), word(new, i)) for i in range(0, size, 2)]
        self.data[start : start + size] = new
        return words

    def _update_checksum(self, at: int, words: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Update one checksum; its own words before and after."""
        changes = list(words)
        if not changes:
            return []
        return self._patch(at, updated_checksum(word(self.data, at), changes), 2)

    def _update_udp_checksum(
        self, at: int, words: Iterable[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """As above; 0 means none and stays, a computed 0 is sent as 0xffff (RFC 768)."""
        changes = list(words)
        old = word(self.data, at)
        if not changes or old == 0:
            return []
        return self._patch(at, updated_checksum(old, changes) or 0xFFFF, 2)


def _number(data: bytes | bytearray, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
