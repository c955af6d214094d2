"""The reference of ICMP errors that a router sends (docs/functions/router.md)."""

from __future__ import annotations

import struct
from typing import Literal

from orchestrator.model.checksums import internet_checksum
from orchestrator.model.headers import ICMP, ICMPV6
from orchestrator.model.packet import Packet
from servernf.wire.addresses import GATEWAY_MAC

Reason = Literal["time exceeded", "no route", "no host", "too big"]
_IPV4: dict[Reason, tuple[int, int]] = {
    "time exceeded": (11, 0),
    "no route": (3, 0),
    "no host": (3, 1),
    "too big": (3, 4),
}
_IPV6: dict[Reason, tuple[int, int]] = {
    "time exceeded": (3, 0),
    "no route": (1, 0),
    "no host": (1, 3),
    "too big": (2, 0),
}
BURST, EVERY_US = 50, 1000


class ErrorPace:
    """At most 50 errors at once, then one a millisecond."""

    def __init__(self) -> None:
        self._sent_us: float = 0
        """As if all were sent at their rate: when the next one is due."""

    def allows(self, now_us: int) -> bool:
        """Whether one more may be sent now; it is counted."""
        due = max(self._sent_us, now_us)
        if due > now_us + (BURST - 1) * EVERY_US:
            return False
        self._sent_us = due + EVERY_US
        return True


def may_be_told(packet: Packet) -> bool:
    """RFC 1812, 4.3.2.7: no errors about errors, redirects and later fragments."""
    if packet.later_fragment:
        return False
    if packet.is_icmp:
        kind = packet.icmp_type or 0
        if packet.version == 4 and kind in (3, 4, 5, 11, 12):
            return False
        if packet.version == 6 and (kind < 128 or kind == 137):
            return False
    if packet.has_ports or packet.is_icmp:
        return packet.layout.end >= packet.layout.l4 + 8
    return True


def icmp_error(packet: Packet, reason: Reason, router: int, mtu: int) -> Packet:
    """To the sender of a packet, from a router's address."""
    at = packet.layout
    original = bytes(packet.data[at.l3 : at.end])
    if packet.version == 4:
        kind, code = _IPV4[reason]
        quote = original[: 576 - 28]
        addresses = router.to_bytes(4, "big") + packet.src.to_bytes(4, "big")
        pseudo = b""
    else:
        kind, code = _IPV6[reason]
        quote = original[: 1280 - 48]
        addresses = router.to_bytes(16, "big") + packet.src.to_bytes(16, "big")
        pseudo = addresses + struct.pack("!IHBB", 8 + len(quote), 0, 0, ICMPV6)
    rest = struct.pack("!I", mtu if reason == "too big" else 0)
    message = bytes([kind, code, 0, 0]) + rest + quote
    summed = internet_checksum(pseudo + message)
    message = bytes([kind, code]) + summed.to_bytes(2, "big") + message[4:]
    if packet.version == 4:
        length = 20 + len(message)
        header = struct.pack("!BBHHHBBH", 0x45, 0xC0, length, 0, 0x4000, 64, ICMP, 0) + addresses
        header = header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 64) + addresses
    macs = bytes(packet.data[6:12]) + GATEWAY_MAC.to_bytes(6, "big")
    return Packet.parse(macs + bytes(packet.data[12 : at.l3]) + header + message)
