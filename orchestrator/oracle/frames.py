"""Frames from fields, with right checksums and lengths; fast enough for tens of thousands."""

from __future__ import annotations

import struct

from orchestrator.model.checksums import internet_checksum
from orchestrator.model.headers import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ICMP,
    ICMPV6,
    IPV6_FRAGMENT,
    TCP,
    UDP,
)
from orchestrator.model.packet import Packet
from servernf.wire.addresses import GATEWAY_MAC

_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


def ethernet(
    payload: bytes,
    ether_type: int,
    *,
    src: int,
    dst: int = GATEWAY_MAC,
    vlans: tuple[int, ...] = (),
) -> bytes:
    """An Ethernet frame; `vlans` are tag control words, outermost first (all 0x8100)."""
    tags = b"".join(struct.pack("!HH", 0x8100, tci) for tci in vlans)
    macs = dst.to_bytes(6, "big") + src.to_bytes(6, "big")
    return macs + tags + struct.pack("!H", ether_type) + payload


def ip(
    version: int,
    src: int,
    dst: int,
    protocol: int,
    l4: bytes,
    *,
    ttl: int = 64,
    ident: int = 0,
    offset: int = 0,
    more: bool = False,
    options: bytes = b"",
) -> bytes:
    """An IPv4 or IPv6 packet around an L4 segment that already has its checksum.

    `offset` in bytes (a multiple of 8); an IPv6 packet gets a fragment header when `offset` or `more`
    say that it is one. `options` (IPv4) is a multiple of 4 bytes.
    """
    if version == 4:
        flags = (0x2000 if more else 0) | offset >> 3
        header = struct.pack(
            "!BBHHHBBH4s4s",
            0x40 | 5 + len(options) // 4,
            0,
            20 + len(options) + len(l4),
            ident & 0xFFFF,
            flags,
            ttl,
            protocol,
            0,
            src.to_bytes(4, "big"),
            dst.to_bytes(4, "big"),
        )
        header += options
        checksum = internet_checksum(header).to_bytes(2, "big")
        return header[:10] + checksum + header[12:] + l4
    if offset or more:
        l4 = struct.pack("!BBHI", protocol, 0, offset | int(more), ident) + l4
        protocol = IPV6_FRAGMENT
    addresses = src.to_bytes(16, "big") + dst.to_bytes(16, "big")
    return struct.pack("!IHBB", 6 << 28, len(l4), protocol, ttl) + addresses + l4


def ether_type_of(version: int) -> int:
    """The EtherType of an IP version."""
    return ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6


def tcp(
    src_port: int, dst_port: int, *, seq: int = 0, ack: int = 0, flags: int = 0, data: bytes = b""
) -> bytes:
    """A TCP segment without options, its checksum 0."""
    head = struct.pack(
        "!HHIIBBHHH",
        src_port,
        dst_port,
        seq & 0xFFFF_FFFF,
        ack & 0xFFFF_FFFF,
        5 << 4,
        flags,
        65535,
        0,
        0,
    )
    return head + data


def udp(src_port: int, dst_port: int, data: bytes = b"") -> bytes:
    """A UDP datagram, its checksum 0."""
    return struct.pack("!HHHH", src_port, dst_port, 8 + len(data), 0) + data


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP or ICMPv6 message, its checksum 0; `rest` begins with its second four bytes."""
    return struct.pack("!BBH", kind, code, 0) + rest


def with_checksum(version: int, src: int, dst: int, protocol: int, l4: bytes) -> bytes:
    """The segment with its checksum over the pseudo header (RFC 9293 3.1, RFC 8200 8.1)."""
    at = _CHECKSUM_AT.get(protocol)
    other_version = {ICMP: 6, ICMPV6: 4}.get(protocol)
    if at is None or len(l4) < at + 2 or version == other_version:
        return l4
    size = 4 if version == 4 else 16
    addresses = src.to_bytes(size, "big") + dst.to_bytes(size, "big")
    pseudo = b"" if protocol == ICMP else addresses + struct.pack("!II", len(l4), protocol)
    checksum = internet_checksum(pseudo + l4)
    if protocol == UDP and checksum == 0:
        checksum = 0xFFFF
    return l4[:at] + checksum.to_bytes(2, "big") + l4[at + 2 :]


def fragments(frame: bytes, size: int, ident: int) -> list[bytes]:
    """An IP frame in fragments of at most `size` bytes of L4 (a multiple of 8)."""
    packet = Packet.parse(frame)
    at = packet.layout
    l4 = frame[at.l4 : at.end]
    return [
        frame[: at.l3]
        + ip(
            packet.version,
            packet.src,
            packet.dst,
            packet.protocol or 0,
            l4[start : start + size],
            ttl=packet.ttl,
            ident=ident,
            offset=start,
            more=start + size < len(l4),
        )
        for start in range(0, len(l4), size)
    ]
