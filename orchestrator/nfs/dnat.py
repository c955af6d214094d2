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
from orchestrator.nfs.fair_table_reference import FairTable, source_of
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
        program = FilterProgram((FilterRule(match, "translate", rule),), "pass")
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

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        version, address = self.config.address
        if port == "inside":
            if packet.version == version:
                self._redirect(packet, address, env.now_us)
            return (("outside", packet),)
        if packet.version == version and packet.src == address:
            self._restore(packet, env.now_us)
        return (("inside", packet),)

    def _redirect(self, packet: Packet, address: int, now_us: int) -> None:
        port = packet.dst_port or 0
        target = port if self.config.port is None or not packet.has_ports else self.config.port
        key = _Connection(packet.protocol or 0, (packet.src, packet.src_port or 0), target)
        known = self.asked.get(key)
        if known is None:
            source = source_of(packet.version, packet.src)
            self.asked.add(key, _Asked(packet.dst, port, now_us), source)
        else:
            self.asked.refresh(key)
            self.asked.establish(key, known.answered)
            known.address, known.port, known.used_us = packet.dst, port, now_us
        if packet.has_ports:
            packet.rewrite(dst=address, dst_port=target)
        else:
            packet.rewrite(dst=address)

    def _restore(self, packet: Packet, now_us: int) -> None:
        inside = packet.dst, packet.dst_port or 0
        key = _Connection(packet.protocol or 0, inside, packet.src_port or 0)
        known = self.asked.get(key)
        if known is None:
            return
        if now_us - known.used_us >= self.config.idle_timeout_s * 1_000_000:
            self.asked.remove(key)
            return
        known.used_us, known.answered = now_us, True
        self.asked.refresh(key)
        if packet.has_ports:
            packet.rewrite(src=known.address, src_port=known.port)
        else:
            packet.rewrite(src=known.address)
