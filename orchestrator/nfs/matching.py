"""Matches as users write them, and whether a packet meets one."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, StrictBool, model_validator

from orchestrator.model.elements import FilterProgram
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix
from orchestrator.model.packet import Packet
from orchestrator.nfs.values import (
    EtherTypeField,
    FlagsField,
    IcmpField,
    PortsField,
    PrefixField,
    ProtocolField,
    VlanField,
    impossible,
)


class MatchFields(BaseModel):
    """The match keys of docs/functions; a key left out asks nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    src: PrefixField | None = None
    dst: PrefixField | None = None
    protocol: ProtocolField | None = None
    src_port: PortsField | None = None
    dst_port: PortsField | None = None
    tcp_flags: FlagsField | None = None
    later_fragment: StrictBool | None = None
    icmp_type: IcmpField | None = None
    icmp_code: IcmpField | None = None
    ether_type: EtherTypeField | None = None
    version: Literal[4, 6] | None = None
    vlan: VlanField | None = None

    def to_match(self) -> Match:
        """The same as plain data."""
        match = Match(
            ether_type=self.ether_type,
            version=self.version,
            src=self.src,
            dst=self.dst,
            protocol=self.protocol,
            src_port=self.src_port,
            dst_port=self.dst_port,
            tcp_flags=self.tcp_flags,
            later_fragment=self.later_fragment,
            icmp_type=self.icmp_type,
            icmp_code=self.icmp_code,
            vlan=self.vlan,
        )
        return the_one(match)

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        reason = impossible(self.to_match())
        if reason is not None:
            raise ValueError(f"this can never match: {reason}")
        return self


def contains(prefix: Prefix, version: int, address: int) -> bool:
    """Whether an address lies in a prefix."""
    if prefix.version != version:
        return False
    shift = (32 if version == 4 else 128) - prefix.length
    return address >> shift == prefix.value >> shift


class Headers(NamedTuple):
    """What a match can ask about, taken out of a packet once; None is what it lacks."""

    ether_type: int
    version: int
    src: int
    dst: int
    protocol: int | None
    src_port: int | None
    dst_port: int | None
    tcp_flags: int | None
    later_fragment: bool
    icmp_type: int | None
    icmp_code: int | None
    vlan: int

    @classmethod
    def of(cls, packet: Packet) -> Headers:
        """The headers as they are now."""
        ip = packet.version != 0
        return cls(
            packet.ether_type,
            packet.version,
            packet.src if ip else 0,
            packet.dst if ip else 0,
            packet.protocol,
            packet.src_port,
            packet.dst_port,
            packet.tcp_flags,
            packet.later_fragment,
            packet.icmp_type,
            packet.icmp_code,
            packet.vlans[0] & 0xFFF if packet.vlans else UNTAGGED,
        )


def matches(match: Match, packet: Packet) -> bool:
    """Whether every condition holds; conditions on what a packet lacks do not."""
    return meets(match, Headers.of(packet))


def meets(match: Match, headers: Headers) -> bool:
    """`matches` for headers taken out before: for many rules and one packet."""
    protocol, version = match.protocol, match.version
    if protocol is not None and headers.protocol != protocol:
        return False
    if version is not None and headers.version != version:
        return False
    if match.dst is not None and not contains(match.dst, headers.version, headers.dst):
        return False
    if match.src is not None and not contains(match.src, headers.version, headers.src):
        return False
    if match.dst_port is not None and not _within(match.dst_port, headers.dst_port):
        return False
    if match.src_port is not None and not _within(match.src_port, headers.src_port):
        return False
    if match.ether_type is not None and headers.ether_type != match.ether_type:
        return False
    if match.tcp_flags is not None:
        value, mask = match.tcp_flags
        if headers.tcp_flags is None or headers.tcp_flags & mask != value:
            return False
    if match.icmp_type is not None and headers.icmp_type != match.icmp_type:
        return False
    if match.icmp_code is not None and headers.icmp_code != match.icmp_code:
        return False
    if match.vlan is not None and headers.vlan != match.vlan:
        return False
    if match.later_fragment is None:
        return True
    return headers.version != 0 and headers.later_fragment == match.later_fragment


def _within(ports: PortRange, port: int | None) -> bool:
    return port is not None and ports.low <= port <= ports.high


def first_output(program: FilterProgram, packet: Packet) -> tuple[str, str]:
    """(output, name of the rule that gave it); the default's rule is 'default'."""
    headers = Headers.of(packet)
    for rule in program.rules:
        if meets(rule.match, headers):
            return rule.output, rule.rule
    return program.default, "default"


def mirrored(match: Match) -> Match:
    """The match of the opposite direction: source and destination swapped."""
    match_back = Match(
        ether_type=match.ether_type,
        version=match.version,
        src=match.dst,
        dst=match.src,
        protocol=match.protocol,
        src_port=match.dst_port,
        dst_port=match.src_port,
        tcp_flags=match.tcp_flags,
        later_fragment=match.later_fragment,
        icmp_type=match.icmp_type,
        icmp_code=match.icmp_code,
        vlan=match.vlan,
    )
    return the_one(match_back)


@lru_cache(1 << 16)
def the_one(match: Match) -> Match:
    """One object for equal matches: rules that are read again are known again."""
    return match
