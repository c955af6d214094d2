"""BMv2's checksum and hash algorithms over bytes (calculations.cpp, by behaviour)."""

from __future__ import annotations

import zlib
from collections.abc import Callable


def csum16(data: bytes) -> int:
    """Internet checksum (RFC 1071); an odd tail is padded with a zero byte."""
    if len(data) & 1:
        data += b"\0"
    # 2^16 = 1 (mod 65535): the ones' complement sum of all words is the number mod 65535.
    number = int.from_bytes(data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def _crc16_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(data: bytes) -> int:
    """CRC-16/ARC: polynomial 0x8005 reflected, initial value 0."""
    crc = 0
    table = _CRC16
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def identity(data: bytes) -> int:
    """The first eight bytes as one number."""
    return int.from_bytes(data[:8], "big")


def xor16(data: bytes) -> int:
    """XOR of all 16-bit words; an odd tail is padded with a zero byte."""
    if len(data) & 1:
        data += b"\0"
    out = 0
    for i in range(0, len(data), 2):
        out ^= data[i] << 8 | data[i + 1]
    return out


ALGORITHMS: dict[str, Callable[[bytes], int]] = {
    "csum16": csum16,
    "cksum16": csum16,
    "crc16": crc16,
    "crc32": zlib.crc32,
    "identity": identity,
    "xor16": xor16,
}
