"""What a rule can ask of a packet's headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

NOT_IP = 0
UNTAGGED = 4096
"""Stands for no VLAN ID: those have 12 bits."""
ALL_VERSIONS = frozenset({4, 6, NOT_IP})
_IP = frozenset({4, 6})
_BY_ETHER_TYPE = {0x0800: frozenset({4}), 0x86DD: frozenset({6})}


@dataclass(frozen=True, slots=True)
class Prefix:
    """An IPv4 or IPv6 prefix: `value` is the masked address as an integer."""

    version: int
    value: int
    length: int

    @property
    def bits(self) -> int:
        """Width of the address: 32 or 128."""
        return 32 if self.version == 4 else 128

    @property
    def mask(self) -> int:
        """The netmask as an integer."""
        return ((1 << self.length) - 1) << (self.bits - self.length)

    def __str__(self) -> str:
        family, size = (AF_INET, 4) if self.version == 4 else (AF_INET6, 16)
        return f"{inet_ntop(family, self.value.to_bytes(size))}/{self.length}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Inclusive range of L4 ports. A packet without ports (later fragment, ICMP) is in no range."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


class PacketKind(NamedTuple):
    """The packets that a match can match: of which IP versions (NOT_IP: not IP), and whether all of
    those versions do."""

    versions: frozenset[int]
    whole: bool


@dataclass(frozen=True)
class Match:
    """Conjunction of header conditions; None asks nothing.

    `version` 4 or 6 asks for IP; `ether_type` is the type behind VLAN tags. Ports are those of
    TCP and UDP in an unfragmented packet or a first fragment; `later_fragment` asks for a fragment
    offset above 0 (or, False, for its absence). `tcp_flags` is (value, mask). `icmp_type` and
    `icmp_code` are those of ICMP in IPv4 and of ICMPv6 in IPv6, again not in later fragments. `vlan` is
    the outermost tag's VLAN ID, or UNTAGGED for a frame without one.
    """

    ether_type: int | None = None
    version: int | None = None
    src: Prefix | None = None
    dst: Prefix | None = None
    protocol: int | None = None
    src_port: PortRange | None = None
    dst_port: PortRange | None = None
    tcp_flags: tuple[int, int] | None = None
    later_fragment: bool | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    vlan: int | None = None

    @cached_property
    def kind(self) -> PacketKind:
        """Which packets it can match."""
        return PacketKind(self._versions(), self._asks_only_version())

    @cached_property
    def prefixes(self) -> int:
        """Entries of a table that knows no ranges."""
        return prod(
            sum(1 for _ in range_prefixes(ports.low, ports.high))
            for ports in (self.src_port, self.dst_port)
            if ports is not None
        )

    def _versions(self) -> frozenset[int]:
        versions = ALL_VERSIONS
        if self.ether_type is not None:
            versions = _BY_ETHER_TYPE.get(self.ether_type, frozenset({NOT_IP}))
        if self.version is not None:
            versions &= {self.version}
        for prefix in (self.src, self.dst):
            if prefix is not None:
                versions &= {prefix.version}
        return versions & _IP if self._asks_l4() else versions

    def _asks_only_version(self) -> bool:
        prefixes = all(p is None or p.length == 0 for p in (self.src, self.dst))
        ether_type = self.ether_type is None or self.ether_type in _BY_ETHER_TYPE
        return prefixes and ether_type and self.vlan is None and not self._asks_l4()

    def _asks_l4(self) -> bool:
        """Whether it asks for something that only IP packets have, besides addresses."""
        conditions = (
            self.protocol,
            self.src_port,
            self.dst_port,
            self.tcp_flags,
            self.later_fragment,
            self.icmp_type,
            self.icmp_code,
        )
        return any(condition is not None for condition in conditions)

    def __str__(self) -> str:
        words: list[str] = []
        if self.ether_type is not None:
            words.append(f"type {self.ether_type:#06x}")
        if self.version is not None and self.src is None and self.dst is None:
            words.append(f"ipv{self.version}")
        for name in ("src", "dst", "protocol", "src_port", "dst_port", "icmp_type", "icmp_code"):
            value = getattr(self, name)
            if value is not None:
                words.append(f"{name} {value}")
        if self.tcp_flags is not None:
            words.append("tcp_flags {:#x}/{:#x}".format(*self.tcp_flags))
        if self.later_fragment is not None:
            words.append("later fragment" if self.later_fragment else "no later fragment")
        if self.vlan is not None:
            words.append("untagged" if self.vlan == UNTAGGED else f"vlan {self.vlan}")
        return ", ".join(words) or "any"


ANY = Match()

PORT_BITS = 16


def range_prefixes(low: int, high: int, bits: int = PORT_BITS) -> Iterator[tuple[int, int]]:
    """The fewest prefixes (value, length) of a number that cover low..high."""
    end = high + 1
    while low < end:
        size = low & -low or 1 << bits
        while size > end - low:
            size >>= 1
        yield low, bits - size.bit_length() + 1
        low += size
