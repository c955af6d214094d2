"""HalfSipHash-2-4 (Aumasson and Bernstein), the keyed PRF that decides which packets are watched.

Three decisions are made with it, each PRF(key, message) < threshold (the rate times 2^32):

- of an operator's manifest, over the label: what switches do in P4, for `samples` and `trace`;
- of a witness's key epoch, over the label and the time of ingress (us, as the tag has it), so that equal
  packets are not one sample, and no sender chooses whether its packet is one;
- of the same epoch, over the flow (as the tag has it), so that all packets of a flow are watched.

One packet at a time here; `sampling` asks for many, in C where `native` finds it.
"""

from __future__ import annotations

from collections.abc import Callable

from servernf.wire import native

_MASK = 0xFFFF_FFFF


def sampled(key0: int, key1: int, label: int, threshold: int) -> bool:
    """Whether a label is watched under an operator's manifest."""
    return half_siphash_32(key0, key1, label) < threshold


def witnessed(key0: int, key1: int, label: int, ingress_us: int, threshold: int) -> bool:
    """Whether a packet is watched under a witness's key."""
    return half_siphash_32(key0, key1, label, ingress_us) < threshold


def flow_witnessed(key0: int, key1: int, flow: int, threshold: int) -> bool:
    """Whether all packets of a flow are watched under a witness's key."""
    return half_siphash_32(key0, key1, flow) < threshold


def of_words(count: int) -> Callable[..., int]:
    """The PRF of two words of a key and `count` of a message: in C where it is there."""
    library = native.library()
    return half_siphash_32 if library is None else library.prf(count)


def half_siphash_32(key0: int, key1: int, *words: int) -> int:
    """HalfSipHash-2-4 of 32-bit words as one message (four bytes each, least significant first)."""
    v0, v1, v2, v3 = key0, key1, key0 ^ 0x6C796765, key1 ^ 0x74656462
    for message in (*words, (4 * len(words) & 0xFF) << 24):
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
