"""How often a link has failed or come back: the kernel's count of carrier changes (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct

_ROUTE, _GET_LINK, _LINK, _REQUEST = 0, 18, 16, 1
_CARRIER_CHANGES = 35
"""IFLA_CARRIER_CHANGES (linux/if_link.h), a u32."""
_HEADER, _ABOUT, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BxHiII"),
    struct.Struct("=HH"),
)
_NUMBER = struct.Struct("=I")
_MOST_ANSWER = 1 << 16


class LinkWatch:
    """Asks for an interface of the network namespace in which it was made; any user may."""

    def __init__(self, interface: str) -> None:
        self._index = socket.if_nametoindex(interface)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE)
        self._socket.settimeout(1.0)

    def changes(self) -> int | None:
        """Carrier changes since the interface was made; None: it is gone, or the kernel does not say."""
        size = _HEADER.size + _ABOUT.size
        self._socket.send(
            _HEADER.pack(size, _GET_LINK, _REQUEST, 1, 0) + _ABOUT.pack(0, 0, self._index, 0, 0)
        )
        try:
            answer = self._socket.recv(_MOST_ANSWER)
        except OSError:
            return None
        length, kind, *_ = _HEADER.unpack_from(answer)
        at, end = size, min(length, len(answer))
        while kind == _LINK and at + _ATTRIBUTE.size <= end:
            long, what = _ATTRIBUTE.unpack_from(answer, at)
            if what == _CARRIER_CHANGES:
                return int(_NUMBER.unpack_from(answer, at + _ATTRIBUTE.size)[0])
            at += max(4, long + 3 & ~3)
        return None

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()
