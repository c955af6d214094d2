"""Which of many packets are watched (`prf`): in C where it is there (`native`), else in lanes.

Without C, a Python integer is used as a vector of 64-bit lanes, one 32-bit word in each, so that one
operation works on all of them: about 0.4 us a label instead of 6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from servernf.wire import native

LABEL, PACKET, FLOW = range(3)
"""What a decision is over, as in `prf.h`."""


def places(key0: int, key1: int, threshold: int, of: int) -> Callable[[bytes], Sequence[int]]:
    """Tells which packets are watched, as `prf` says: their places, in order, among the context words
    of tags (16 bytes each)."""
    library = native.library()
    made = lane_places if library is None else library.places
    return made(key0, key1, threshold, of)


def lane_places(key0: int, key1: int, threshold: int, of: int) -> Callable[[bytes], Sequence[int]]:
    """The same without C."""

    def places(contexts: bytes) -> Sequence[int]:
        words = struct.unpack(f">{len(contexts) // 4}I", contexts)
        messages: list[Sequence[int]] = [words[1::4]]
        if of == PACKET:
            messages.append(words[3::4])
        elif of == FLOW:
            messages = [[word & 0xFFFF for word in words[0::4]]]
        count = len(messages[0])
        lanes = _lanes.get(count)
        if lanes is None:
            if len(_lanes) >= 256:
                _lanes.clear()
            lanes = _lanes[count] = Lanes(count)
        values = lanes.prf(key0, key1, *messages)
        return [at for at, value in enumerate(values) if value < threshold]

    return places


class Lanes:
    """The PRF of `count` messages at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._ones = int.from_bytes(b"\x00\x00\x00\x00\x00\x00\x00\x01" * count, "big")
        self._mask = self._ones * 0xFFFF_FFFF
        self._pack = struct.Struct(f">{count}Q")

    def prf(self, key0: int, key1: int, *messages: Sequence[int]) -> tuple[int, ...]:
        """HalfSipHash-2-4 of every message: the first words of all, the second words, and so on."""
        ones = self._ones
        words = [int.from_bytes(self._pack.pack(*message), "big") for message in messages]
        words.append((4 * len(messages) << 24) * ones)
        v = (key0 * ones, key1 * ones, (key0 ^ 0x6C796765) * ones, (key1 ^ 0x74656462) * ones)
        for word in words:
            v = self._round(*self._round(v[0], v[1], v[2], v[3] ^ word))
            v = (v[0] ^ word, v[1], v[2], v[3])
        v = (v[0], v[1], v[2] ^ 0xFF * ones, v[3])
        for _ in range(4):
            v = self._round(*v)
        return self._pack.unpack((v[1] ^ v[3]).to_bytes(8 * self.count, "big"))

    def _round(self, v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
        # Every lane is masked to 32 bits before it is shifted left, so none runs into the next;
        # what a right shift brings in from the lane above lies in the upper half and is masked off.
        mask = self._mask
        v0 = v0 + v1 & mask
        v1 = (v1 << 5 | v1 >> 27) & mask ^ v0
        v0 = (v0 << 16 | v0 >> 16) & mask
        v2 = v2 + v3 & mask
        v3 = (v3 << 8 | v3 >> 24) & mask ^ v2
        v0 = v0 + v3 & mask
        v3 = (v3 << 7 | v3 >> 25) & mask ^ v0
        v2 = v2 + v1 & mask
        v1 = (v1 << 13 | v1 >> 19) & mask ^ v2
        v2 = (v2 << 16 | v2 >> 16) & mask
        return v0, v1, v2, v3


_lanes: dict[int, Lanes] = {}
