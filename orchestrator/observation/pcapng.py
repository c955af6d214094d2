"""pcapng (IETF draft-ietf-opsawg-pcapng): the blocks that a capture of several interfaces needs."""

from __future__ import annotations

import struct
from typing import IO

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC = 0x1A2B3C4D
_ETHERNET = 1
_END, _COMMENT = 0, 1
_USER_APPLICATION = 4
_IF_NAME, _IF_DESCRIPTION, _IF_TIME_UNIT = 2, 3, 9
_FLAGS = 2
INBOUND, OUTBOUND = 1, 2
_NANOSECONDS = b"\x09"


class PcapngWriter:
    """Writes packets of named interfaces; what is written is readable at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        options = _option(_USER_APPLICATION, b"orchestrator capture") + _option(_END, b"")
        self._block(_SECTION, struct.pack("<IHHq", _MAGIC, 1, 0, -1) + options)
        self._interfaces = 0

    def interface(self, name: str, description: str) -> int:
        """Declare an interface; its number for `packet`."""
        options = (
            _option(_IF_NAME, name.encode())
            + _option(_IF_DESCRIPTION, description.encode())
            + _option(_IF_TIME_UNIT, _NANOSECONDS)
            + _option(_END, b"")
        )
        self._block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(self, interface: int, time_ns: int, frame: bytes, *, direction: int) -> None:
        """A frame, as it was at a time (ns since 1970)."""
        head = struct.pack(
            "<IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), len(frame)
        )
        options = _option(_FLAGS, struct.pack("<I", direction)) + _option(_END, b"")
        self._block(_PACKET, head + frame + bytes(-len(frame) % 4) + options)
        self._file.flush()

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._file.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
