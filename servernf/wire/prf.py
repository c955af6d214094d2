"""HalfSipHash-2-4 (Aumasson and Bernstein), the keyed PRF that decides which labels are sampled."""

from __future__ import annotations

_MASK = 0xFFFF_FFFF


def sampled(key0: int, key1: int, label: int, threshold: int) -> bool:
    """Whether a label is watched: PRF(key, label) < threshold (rate x 2^32)."""
    return half_siphash_32(key0, key1, label) < threshold


def half_siphash_32(key0: int, key1: int, word: int) -> int:
    """HalfSipHash-2-4 of one 32-bit word (four bytes, least significant first)."""
    v0, v1, v2, v3 = key0, key1, key0 ^ 0x6C796765, key1 ^ 0x74656462
    for message in (word, 4 << 24):
        v3 ^= message
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3))
        v0 ^= message
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v1 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = v0 + v1 & _MASK
    v1 = (v1 << 5 | v1 >> 27) & _MASK
    v1 ^= v0
    v0 = (v0 << 16 | v0 >> 16) & _MASK
    v2 = v2 + v3 & _MASK
    v3 = (v3 << 8 | v3 >> 24) & _MASK
    v3 ^= v2
    v0 = v0 + v3 & _MASK
    v3 = (v3 << 7 | v3 >> 25) & _MASK
    v3 ^= v0
    v2 = v2 + v1 & _MASK
    v1 = (v1 << 13 | v1 >> 19) & _MASK
    v1 ^= v2
    v2 = (v2 << 16 | v2 >> 16) & _MASK
    return v0, v1, v2, v3
