"""Frames of the vectors, built whole: every length and checksum is computed from what is in them."""

from __future__ import annotations

import ipaddress
import struct

from servernf.wire.addresses import GATEWAY_MAC

HOST, GATEWAY = bytes.fromhex("0a0000000010"), GATEWAY_MAC.to_bytes(6, "big")
TCP, UDP, ICMP, ESP = 6, 17, 1, 50
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ether(payload: bytes, ether_type: int = 0x0800, *, tags: tuple[int, ...] = ()) -> bytes:
    """An Ethernet frame; `tags` are 802.1Q control words, outermost first."""
    between = b"".join(struct.pack("!HH", 0x8100, tci) for tci in tags)
    return GATEWAY + HOST + between + struct.pack("!H", ether_type) + payload


def ip(
    src: str,
    dst: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    number: int = 0,
) -> bytes:
    """An IPv4 packet without options or fragments (RFC 791)."""
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), number, 0, ttl, protocol, 0)
    head += ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(
    src: str, sport: int, dst: str, dport: int, data: bytes = b"datagram", **head: int
) -> bytes:
    """A frame with a UDP datagram (RFC 768)."""
    segment = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    computed = _l4_checksum(src, dst, UDP, segment) or 0xFFFF
    return ether(ip(src, dst, UDP, segment[:6] + struct.pack("!H", computed) + data, **head))


def tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    flags: int,
    seq: int,
    ack: int = 0,
    data: bytes = b"",
    window: int = 65_535,
    **head: int,
) -> bytes:
    """A frame with a TCP segment without options (RFC 9293)."""
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, window, 0, 0) + data
    computed = _l4_checksum(src, dst, TCP, segment)
    segment = segment[:16] + struct.pack("!H", computed) + segment[18:]
    return ether(ip(src, dst, TCP, segment, **head))


def echo(src: str, dst: str, number: int, *, reply: bool = False, **head: int) -> bytes:
    """A frame with an ICMP echo (RFC 792)."""
    message = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, number, 1) + b"ping"
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return ether(ip(src, dst, ICMP, message, **head))


def arp() -> bytes:
    """A frame that is no IP."""
    return ether(bytes.fromhex("0001080006040001") + HOST + bytes(18) + bytes(18), 0x0806)


def dns(number: int, name: str, *, answer: bool = False, response_code: int = 0) -> bytes:
    """A DNS message with one question for an A record (RFC 1035)."""
    flags = (0x8180 if answer else 0x0100) | response_code
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", number, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _l4_checksum(src: str, dst: str, protocol: int, segment: bytes) -> int:
    pseudo = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    return checksum(pseudo + struct.pack("!HH", protocol, len(segment)) + segment)
