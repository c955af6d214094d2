"""BMv2's checksum and hash algorithms over bytes (calculations.cpp, by behaviour)."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

Hash = Callable[[bytes], int]

_M64 = (1 << 64) - 1


def csum16(data: bytes) -> int:
    """Internet checksum (RFC 1071); an odd tail is padded with a zero byte."""
    if len(data) & 1:
        data += b"\0"
    # 2^16 = 1 (mod 65535): the ones' complement sum of all words is the number mod 65535.
    number = int.from_bytes(data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def _reflected(value: int, width: int) -> int:
    return int(f"{value:0{width}b}"[::-1], 2)


def crc(width: int, polynomial: int, initial: int, final: int, reflect: bool) -> Hash:
    """A CRC by table; `reflect` is for input and output alike."""
    top, ones = 1 << (width - 1), (1 << width) - 1
    table: list[int] = []
    if reflect:
        mirrored = _reflected(polynomial, width)
        for byte in range(256):
            register = byte
            for _ in range(8):
                register = (register >> 1) ^ (mirrored if register & 1 else 0)
            table.append(register)
        start = _reflected(initial, width)

        def by_low_bits(data: bytes) -> int:
            register = start
            for byte in data:
                register = (register >> 8) ^ table[(register ^ byte) & 0xFF]
            return register ^ final

        return by_low_bits
    for byte in range(256):
        register = byte << (width - 8)
        for _ in range(8):
            register = ((register << 1) ^ (polynomial if register & top else 0)) & ones
        table.append(register)
    shift = width - 8

    def by_high_bits(data: bytes) -> int:
        register = initial
        for byte in data:
            register = ((register << 8) & ones) ^ table[(register >> shift) ^ byte]
        return register ^ final

    return by_high_bits


crc16 = crc(16, 0x8005, 0, 0, True)
"""CRC-16/ARC."""
crc_ccitt = crc(16, 0x1021, 0xFFFF, 0, False)
"""CRC-16/CCITT-FALSE."""


def identity(data: bytes) -> int:
    """The first eight bytes as one number."""
    return int.from_bytes(data[:8], "big")


def xor(size: int) -> Hash:
    """XOR of all words of `size` bytes; the tail is padded with zero bytes."""

    def fold(data: bytes) -> int:
        data += b"\0" * (-len(data) % size)
        out = 0
        for i in range(0, len(data), size):
            out ^= int.from_bytes(data[i : i + size], "big")
        return out

    return fold


xor16 = xor(2)


def toeplitz(data: bytes) -> int:
    """BMv2's key is 0 unless set over Thrift, so the sum of its shifts is 0."""
    return 0


_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotate(value: int, count: int) -> int:
    return (value << count | value >> (64 - count)) & _M64


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _M64, 31) * _P1 & _M64


def xxh64(data: bytes) -> int:
    """xxHash64 with seed 0."""
    at, size = 0, len(data)

    def word(count: int) -> int:
        nonlocal at
        at += count
        return int.from_bytes(data[at - count : at], "little")

    if size >= 32:
        lanes = [(_P1 + _P2) & _M64, _P2, 0, -_P1 & _M64]
        while size - at >= 32:
            lanes = [_round(lane, word(8)) for lane in lanes]
        turns = zip(lanes, (1, 7, 12, 18), strict=True)
        out = sum(_rotate(lane, n) for lane, n in turns) & _M64
        for lane in lanes:
            out = ((out ^ _round(0, lane)) * _P1 + _P4) & _M64
    else:
        out = _P5
    out = (out + size) & _M64
    while size - at >= 8:
        out = (_rotate(out ^ _round(0, word(8)), 27) * _P1 + _P4) & _M64
    if size - at >= 4:
        out = (_rotate(out ^ word(4) * _P1 & _M64, 23) * _P2 + _P3) & _M64
    while at < size:
        out = _rotate(out ^ word(1) * _P5 & _M64, 11) * _P1 & _M64
    out = (out ^ out >> 33) * _P2 & _M64
    out = (out ^ out >> 29) * _P3 & _M64
    return out ^ out >> 32


ALGORITHMS: dict[str, Hash] = {
    "csum16": csum16,
    "cksum16": csum16,
    "crc16": crc16,
    "crc32": zlib.crc32,
    "crcCCITT": crc_ccitt,
    "crc8_custom": crc(8, 0x07, 0, 0, False),
    "crc16_custom": crc16,
    "crc32_custom": zlib.crc32,
    "crc64_custom": crc(64, 0x1B, 0, 0, True),
    "identity": identity,
    "toeplitz": toeplitz,
    "xor16": xor16,
    "xor32": xor(4),
    "xxh64": xxh64,
}


def round_robin() -> Hash:
    """Counts calls, whatever the data."""
    numbers = itertools.count()
    return lambda data: next(numbers)


def round_robin_consistent() -> Hash:
    """Numbers inputs in order of their first appearance."""
    seen: dict[bytes, int] = {}
    return lambda data: seen.setdefault(data, len(seen))


STATEFUL: dict[str, Callable[[], Hash]] = {
    "round_robin": round_robin,
    "round_robin_consistent": round_robin_consistent,
}
"""Algorithms with a state of their own in each calculation."""
