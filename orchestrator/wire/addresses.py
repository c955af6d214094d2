"""Structured MAC addresses: `02:TT:DD:DD:CC:CC`, tree, device, core (docs/architecture.md).

A fabric entry matches the first 32 bits, so its number grows with devices, not with chains.
Core 0 is the device itself; a server's worker n has core n + 1.
"""

from __future__ import annotations

GATEWAY_MAC = 0x06_00_00_00_00_01
"""The one MAC of every gateway: locally administered, and no device's (those begin with 02)."""

BROADCAST_MAC = 0xFFFF_FFFF_FFFF
DEVICE_PREFIX_BITS = 32


def device_mac(device_id: int, *, core: int = 0, tree: int = 0) -> int:
    """MAC of a device (core 0) or of a server's core, reached over one tree of the fabric."""
    if not (0 < device_id < 1 << 16 and 0 <= core < 1 << 16 and 0 <= tree < 1 << 8):
        raise ValueError(f"device {device_id}, core {core}, tree {tree} do not fit a MAC")
    return 0x02 << 40 | tree << 32 | device_id << 16 | core


def mac_text(mac: int) -> str:
    """`02:00:00:01:00:01`."""
    return mac.to_bytes(6, "big").hex(":")


def parse_mac(text: str) -> int:
    """Inverse of `mac_text`; ValueError when it is not six hex octets."""
    octets = text.replace("-", ":").split(":")
    if len(octets) != 6:
        raise ValueError(f"'{text}' is not a MAC address (six octets like 02:00:00:01:00:01)")
    return int.from_bytes(bytes(int(octet, 16) for octet in octets), "big")
