"""What a worker reads of a frame's tag, and keeps of it for frames that NFs send beside or later."""

from __future__ import annotations

import struct
from typing import NamedTuple

from servernf.python.network_function import Emitted
from servernf.python.runtime.tables import CompiledCall
from servernf.wire.nsh import OAM

TAG_BYTES = 38
TAG = struct.Struct("!Bx4s6xHHHI8xI4x")
"""Destination MAC's first octet, (tree), device and core; EtherType; base header; MD type and next
protocol; path; NF context label."""


class Tagged(NamedTuple):
    """What is kept of a frame's tag: `base` is the base header to send, `words` the context words."""

    base: bytes
    words: bytes
    path: int
    label: int

    @classmethod
    def of(cls, base: bytes, words: bytes, path: int) -> Tagged:
        """Of a frame with these words."""
        return cls(base, words, path, label_of(words))

    @property
    def ingress_us(self) -> int:
        """When the packet came in, by the ingress switch's clock."""
        return ingress_of(self.words)


Beside = tuple[CompiledCall, Emitted, int]
"""Who has sent a frame beside the packet, the frame, and its NF context label."""


def marker_of(frame: bytes, core_mac: int) -> tuple[int, int] | None:
    """The transfer's number and the path's of a marker for a worker (`nsh.marker`); None: it is none."""
    if len(frame) < TAG_BYTES:
        return None
    first, rest, ether_type, base, kind, *_ = TAG.unpack_from(frame)
    mac = core_mac.to_bytes(6, "big")
    if ether_type != 0x894F or base & 0xE03F != OAM | 6 or kind & 0x0FFF != 0x103:
        return None
    if first != mac[0] or rest != mac[2:]:
        return None
    return int.from_bytes(frame[22:26], "big"), int.from_bytes(frame[26:30], "big")


def labelled(words: bytes, context: int) -> bytes:
    """The four context words with another NF context label."""
    return b"".join((words[:8], context.to_bytes(4, "big"), words[12:]))


def label_of(words: bytes) -> int:
    """The trajectory label of context words."""
    return int.from_bytes(words[4:8], "big")


def ingress_of(words: bytes) -> int:
    """When the packet of context words came in, by the ingress switch's clock (us)."""
    return int.from_bytes(words[12:16], "big")
