"""Structured MAC addresses: `02:TT:DD:DD:CC:CC`, tree, device, core (docs/decisions/0001).

A fabric entry matches the first 32 bits or fewer, so their number does not grow with chains.
Core 0 is the device itself; a server's worker n has core n + 1.
"""

from __future__ import annotations

import ipaddress
import re

from servernf.wire.errors import quoted

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

GATEWAY_MAC = 0x06_00_00_00_00_01
"""The one MAC of every gateway: locally administered, and no device's (those begin with 02)."""

BROADCAST_MAC = 0xFFFF_FFFF_FFFF
COLLECTOR_CORE = 0xFFFF
"""Of a server's MACs: no core's but that of the CLE's collector there, if there is one."""
DEVICE_ID_BITS = 16
DEVICE_PREFIX_BITS = 32
"""Kind and tree, then the device's id."""
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")


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
    if not _MAC.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a MAC address (six octets like 02:00:00:01:00:01)")
    return int(re.sub("[:-]", "", text), 16)


def parse_ip(text: object) -> IpAddress:
    """An IP address; ValueError for anything else.

    So for one with a zone (RFC 4007: `fe80::1%eth0`): a zone means something on one machine only, and
    may hold any character.
    """
    return ipaddress.ip_address(_without_zone(text))


def parse_interface(text: object) -> IpInterface:
    """An IP address with the length of its network's prefix, `10.0.1.11/24`, as `parse_ip`."""
    return ipaddress.ip_interface(_without_zone(text))


def parse_network(text: object, *, strict: bool = True) -> IpNetwork:
    """A prefix, as `parse_ip`; `strict` refuses bits behind the length."""
    return ipaddress.ip_network(_without_zone(text), strict=strict)


def _without_zone(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{quoted(text)} is no text")
    if "%" in text:
        raise ValueError(f"{quoted(text)} has a zone (RFC 4007)")
    return text
