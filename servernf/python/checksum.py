"""Incremental Internet checksums (RFC 1624, equation 3): HC' = ~(~HC + sum(~m + m')).

A *delta* is the unfolded sum of ~m + m' over the changed 16-bit words of one rewrite.
"""

from __future__ import annotations


def delta16(old: int, new: int) -> int:
    """Delta of one changed word."""
    return 0xFFFF - old + new


def delta32(old: int, new: int) -> int:
    """Delta of a changed IPv4 address."""
    return 0x1FFFE - (old >> 16) - (old & 0xFFFF) + (new >> 16) + (new & 0xFFFF)


def delta128(old: int, new: int) -> int:
    """Delta of a changed IPv6 address."""
    total = 0
    for shift in range(0, 128, 16):
        total += 0xFFFF - (old >> shift & 0xFFFF) + (new >> shift & 0xFFFF)
    return total


_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (6144, 3072))


def words(data: bytes | bytearray) -> int:
    """A number that is the sum of the 16-bit words of `data` modulo 0xffff, and 0 only if they are."""
    # 2^16 is 1 modulo 0xffff, so the number that all bytes make is such a sum, and so are its parts
    # added up: three cheap additions make the division a short one.
    total = int.from_bytes(data)
    if len(data) & 1:
        total <<= 8
    if len(data) > 384:
        for bits, mask in _FOLDS:
            total = (total >> bits) + (total & mask)
    return total


def checksum(data: bytes | bytearray) -> int:
    """The checksum of `data` from scratch (RFC 1071)."""
    total = words(data)
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def update(checksum: int, delta: int) -> int:
    """The checksum after a rewrite; folded once, at the end."""
    total = 0xFFFF - checksum + delta
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def patch(data: bytearray, offset: int, delta: int) -> None:
    """Update the checksum at `offset` in place."""
    total = 0xFFFF - (data[offset] << 8 | data[offset + 1]) + delta
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    total = 0xFFFF - total
    data[offset] = total >> 8
    data[offset + 1] = total & 0xFF


def patch_udp(data: bytearray, offset: int, delta: int) -> None:
    """As `patch`, for UDP over IPv4: 0 means "no checksum" and stays, a computed 0 is 0xffff."""
    if not (data[offset] or data[offset + 1]):
        return
    patch(data, offset, delta)
    if not (data[offset] or data[offset + 1]):
        data[offset] = data[offset + 1] = 0xFF
