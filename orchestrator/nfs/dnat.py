"""dnat: packets from inside go to one address; behind a napt this is twice NAT (RFC 2663, 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field, field_serializer

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
    StatefulProgram,
    StateKey,
)
from orchestrator.model.headers import TCP, UDP
from orchestrator.model.match import Match, Prefix
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.editing import icmp_error_rules
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.fragments_reference import FollowingFragments, datagram_of
from orchestrator.nfs.values import Address, AddressField, address_text

_BITS = {4: 32, 6: 128}


class DnatConfig(NfConfig):
    """Where packets are sent; without a port they keep theirs."""

    address: AddressField
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] | None = None
    max_connections: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 65_536
    idle_timeout_s: Annotated[int, Field(gt=0, strict=True)] = 300

    @field_serializer("address")
    def _as_text(self, address: Address) -> str:
        return address_text(address)


@network_function("dnat")
class Dnat(NetworkFunction[DnatConfig]):
    """Elements of each port: `select` (of this IP version, from this address?), `translate`."""

    Config = DnatConfig
    state_key = StateKey(frozenset({"inside_address"}))
    keeps_state_when_changed = frozenset({"max_connections", "idle_timeout_s"})
    cost = CostProfile(
        519,
        0.0,
        "Lemur (CoNEXT'20), NAT, 1500 B at 1.7 GHz",
        state_entry_bytes=773,  # measured (CPython 3.11, tracemalloc), each its own source
    )

    @property
    def state_entries(self) -> int:
        return self.config.max_connections

    def elements(self, port: str) -> ElementGraph:
        version, address = self.config.address
        if port == "inside":
            left, match, rule = "outside", Match(version=version), f"IPv{version}"
        else:
            left, match = "inside", Match(src=Prefix(version, address, _BITS[version]))
            rule = f"from {address_text(self.config.address)}"
        rules = [FilterRule(match, "translate", rule)]
        if port == "outside":
            rules += icmp_error_rules([version], "translate")
        program = FilterProgram(tuple(rules), "pass")
        reason = "keeps the destination that each connection asked for"
        return ElementGraph(
            "select",
            {
                "select": Element("select", program, ("translate", "pass")),
                "translate": Element("translate", StatefulProgram(reason), (left,)),
            },
            {
                ("select", "translate"): "translate",
                ("select", "pass"): Leave(left),
                ("translate", left): Leave(left),
            },
        )

    def reference(self) -> Reference:
        return DnatReference(self.config)


class _Connection(NamedTuple):
    """Ports are 0 for packets without; `target` is the outside port as the outside sees it."""

    protocol: int
    inside: tuple[int, int]
    target: int


@dataclass(slots=True)
class _Asked:
    """The destination that inside asked for."""

    address: int
    port: int
    used_us: int
    answered: bool = False


class DnatReference(Reference):
    """`asked`: a share for each inside address."""

    def __init__(self, config: DnatConfig) -> None:
        self.config = config
        self.asked = FairTable[_Connection, _Asked](config.max_connections)
        self._fragments = FollowingFragments()

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        version, address = self.config.address
        left = "outside" if port == "inside" else "inside"
        if packet.version != version:
            return ((left, packet),)
        if port == "inside":
            if packet.layout.quoted:
                self._error_from_inside(packet, env.now_us)
            if packet.layout.quoted or packet.later_fragment:
                packet.rewrite(dst=address)
            else:
                self._redirect(packet, address, env.now_us)
            return ((left, packet),)
        if packet.layout.quoted:
            self._error_from_outside(packet, env.now_us)
            return ((left, packet),)
        if packet.src != address:
            return ((left, packet),)
        if packet.later_fragment:
            source = self._fragments.later(packet, port, env.now_us)
            if source is None:
                return ()
            packet.rewrite(src=source)
            return ((left, packet),)
        datagram = datagram_of(packet, port)
        self._restore(packet, env.now_us)
        if not packet.more_fragments:
            return ((left, packet),)
        owner = source_of(version, packet.dst)
        later = self._fragments.first(datagram, packet.src, owner, env.now_us)
        for fragment in later:
            fragment.rewrite(src=packet.src)
        return [(left, fragment) for fragment in (packet, *later)]

    def _redirect(self, packet: Packet, address: int, now_us: int) -> None:
        port = packet.dst_port or 0
        target = port if self.config.port is None or not packet.has_ports else self.config.port
        key = _Connection(packet.protocol or 0, (packet.src, packet.src_port or 0), target)
        asked = self.asked.get(key)
        if asked is None:
            source = source_of(packet.version, packet.src)
            self.asked.add(key, _Asked(packet.dst, port, now_us), source)
        else:
            self.asked.refresh(key)
            self.asked.establish(key, asked.answered)
            asked.address, asked.port, asked.used_us = packet.dst, port, now_us
        if packet.has_ports:
            packet.rewrite(dst=address, dst_port=target)
        else:
            packet.rewrite(dst=address)

    def _restore(self, packet: Packet, now_us: int) -> None:
        inside = packet.dst, packet.dst_port or 0
        key = _Connection(packet.protocol or 0, inside, packet.src_port or 0)
        asked = self._live(key, now_us)
        if asked is None:
            return
        asked.used_us, asked.answered = now_us, True
        self.asked.refresh(key)
        if packet.has_ports:
            packet.rewrite(src=asked.address, src_port=asked.port)
        else:
            packet.rewrite(src=asked.address)

    def _live(self, key: _Connection, now_us: int) -> _Asked | None:
        asked = self.asked.get(key)
        if asked is not None and now_us - asked.used_us >= self.config.idle_timeout_s * 1_000_000:
            self.asked.remove(key)
            return None
        return asked

    # ICMP errors (RFC 5508, 4): they follow what they quote, and refresh nothing

    def _error_from_outside(self, packet: Packet, now_us: int) -> None:
        """It quotes what was redirected; who complains may be the address itself, or a router."""
        address = self.config.address[1]
        ports = _quoted_ports(packet)
        if ports is None or packet.quoted_dst != address:
            return
        inside, target = ports
        key = _Connection(packet.quoted_protocol, (packet.quoted_src, inside), target)
        asked = self._live(key, now_us)
        if asked is None:
            return
        packet.rewrite_quoted(dst=asked.address, port=asked.port if _has_ports(packet) else None)
        if packet.src == address:
            packet.rewrite(src=asked.address)

    def _error_from_inside(self, packet: Packet, now_us: int) -> None:
        """It quotes an answer, as the inside has seen it."""
        ports = _quoted_ports(packet)
        if ports is None:
            return
        asked, inside = ports
        redirected = self.config.port is not None and _has_ports(packet)
        target = self.config.port or 0 if redirected else asked
        key = _Connection(packet.quoted_protocol, (packet.quoted_dst, inside), target)
        connection = self._live(key, now_us)
        if connection is not None and (connection.address, connection.port) == (
            packet.quoted_src,
            asked,
        ):
            port = target if _has_ports(packet) else None
            packet.rewrite_quoted(src=self.config.address[1], port=port)


def _has_ports(error: Packet) -> bool:
    """Whether what an ICMP error quotes is of a protocol with ports."""
    return error.quoted_protocol in (TCP, UDP)


def _quoted_ports(error: Packet) -> tuple[int, int] | None:
    """Source and destination port of what an ICMP error quotes, 0 without; None: they are not there."""
    if not _has_ports(error):
        return 0, 0
    return error.quoted_ports if error.quotes_l4 else None
