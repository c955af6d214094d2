"""Frames that are sent to see whether they arrive: no graph asks for them, so whoever gets one drops it.

Tagged ones are of a graph that no bundle has (id 0), from a device that no topology has (id 0).
"""

from __future__ import annotations

import struct

from orchestrator.model import ids
from servernf.wire.nsh import Tag, encode

PROBE_GRAPH = 0
SMALL = 128
"""Bytes that every link carries."""
NOBODY = 0x02 << 40
"""The structured MAC of device 0."""
LOCAL_EXPERIMENT = 0x88B5
"""IEEE 802, local experimental EtherType 1."""
TTL = 2
"""One that a switch takes, and no second one after it."""
INNER = struct.Struct("!6s6sH16sI")
"""Of a tagged probe: Ethernet header, nonce, number."""


def tagged(mac: int, inner: bytes, size: int) -> bytes:
    """A tagged frame of `size` bytes to a device's MAC."""
    tag = Tag(mac, NOBODY, spi=ids.PATH.numbers(PROBE_GRAPH)[0], si=1, ttl=TTL)
    return encode(tag, inner).ljust(size, b"\0")


def frame_to(mac: int, size: int = SMALL) -> bytes:
    """A frame of `size` bytes to a worker, on a service path that it has not."""
    return tagged(mac, INNER.pack(bytes(6), bytes(6), LOCAL_EXPERIMENT, bytes(16), 0), size)


def untagged() -> bytes:
    """A frame to nobody, which a switch counts at the port that it comes by, and drops."""
    return struct.pack("!6s6sH", bytes(6), NOBODY.to_bytes(6), LOCAL_EXPERIMENT).ljust(60, b"\0")
