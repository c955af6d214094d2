"""Matches as users write them, and whether a packet meets one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, StrictBool, model_validator

from orchestrator.model.elements import FilterProgram
from orchestrator.model.match import Match, Prefix
from orchestrator.model.packet import Packet
from orchestrator.nfs.values import (
    EtherTypeField,
    FlagsField,
    PortsField,
    PrefixField,
    ProtocolField,
    impossible,
)


class MatchFields(BaseModel):
    """The match keys of docs/architecture.md; a key left out asks nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    src: PrefixField | None = None
    dst: PrefixField | None = None
    protocol: ProtocolField | None = None
    src_port: PortsField | None = None
    dst_port: PortsField | None = None
    tcp_flags: FlagsField | None = None
    later_fragment: StrictBool | None = None
    ether_type: EtherTypeField | None = None
    version: Literal[4, 6] | None = None

    def to_match(self) -> Match:
        """The same as plain data."""
        return Match(
            ether_type=self.ether_type,
            version=self.version,
            src=self.src,
            dst=self.dst,
            protocol=self.protocol,
            src_port=self.src_port,
            dst_port=self.dst_port,
            tcp_flags=self.tcp_flags,
            later_fragment=self.later_fragment,
        )

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        reason = impossible(self.to_match())
        if reason is not None:
            raise ValueError(f"this can never match: {reason}")
        return self


def contains(prefix: Prefix, version: int, address: int) -> bool:
    """Whether an address lies in a prefix."""
    shift = prefix.bits - prefix.length
    return prefix.version == version and address >> shift == prefix.value >> shift


def matches(match: Match, packet: Packet) -> bool:
    """Whether every condition holds; conditions on what a packet lacks do not."""
    if match.ether_type is not None and packet.ether_type != match.ether_type:
        return False
    if match.version is not None and packet.version != match.version:
        return False
    if match.src is not None and not (
        packet.version and contains(match.src, packet.version, packet.src)
    ):
        return False
    if match.dst is not None and not (
        packet.version and contains(match.dst, packet.version, packet.dst)
    ):
        return False
    if match.protocol is not None and packet.protocol != match.protocol:
        return False
    for wanted, port in ((match.src_port, packet.src_port), (match.dst_port, packet.dst_port)):
        if wanted is not None and (port is None or not wanted.low <= port <= wanted.high):
            return False
    if match.tcp_flags is not None:
        value, mask = match.tcp_flags
        if packet.tcp_flags is None or packet.tcp_flags & mask != value:
            return False
    if match.later_fragment is None:
        return True
    return packet.version != 0 and packet.later_fragment == match.later_fragment


def first_output(program: FilterProgram, packet: Packet) -> tuple[str, str]:
    """(output, name of the rule that gave it); the default's rule is 'default'."""
    for rule in program.rules:
        if matches(rule.match, packet):
            return rule.output, rule.rule
    return program.default, "default"


def mirrored(match: Match) -> Match:
    """The match of the opposite direction: source and destination swapped."""
    return Match(
        ether_type=match.ether_type,
        version=match.version,
        src=match.dst,
        dst=match.src,
        protocol=match.protocol,
        src_port=match.dst_port,
        dst_port=match.src_port,
        tcp_flags=match.tcp_flags,
        later_fragment=match.later_fragment,
    )
