"""The Internet checksum, computed and updated."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.headers import word


def updated_checksum(checksum: int, words: Iterable[tuple[int, int]]) -> int:
    """RFC 1624, equation 3: HC' = ~(~HC + sum of (~m + m')), folded once at the end."""
    total = ~checksum & 0xFFFF
    for old, new in words:
        total += (~old & 0xFFFF) + new
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def internet_checksum(data: bytes) -> int:
    """RFC 1071 over `data`, padded with a zero byte when odd."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(word(padded, i) for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
