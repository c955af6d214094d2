"""static_nat: one-to-one address translation, also of what ICMP errors quote; ports and ids stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    Leave,
    RewriteProgram,
)
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.values import Address, AddressField, address_text


class NatPair(NfConfig):
    """An inside address and the one that stands for it outside."""

    inside: AddressField
    outside: AddressField

    @model_validator(mode="after")
    def _same_version(self) -> Self:
        if self.inside[0] != self.outside[0]:
            raise ValueError(
                f"{address_text(self.inside)} and {address_text(self.outside)} "
                "are of different IP versions"
            )
        return self


class StaticNatConfig(NfConfig):
    """Every address is in one pair."""

    pairs: Annotated[tuple[NatPair, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_to_one(self) -> Self:
        for side in ("inside", "outside"):
            addresses: list[Address] = [getattr(pair, side) for pair in self.pairs]
            for index, address in enumerate(addresses):
                if address in addresses[:index]:
                    first = addresses.index(address)
                    raise ValueError(
                        f"{side} address {address_text(address)} is in "
                        f"pairs[{first}] and pairs[{index}]"
                    )
        return self


@network_function("static_nat")
class StaticNat(NetworkFunction[StaticNatConfig]):
    """Stateless: one element `rewrite` for each entered port."""

    Config = StaticNatConfig
    cost = CostProfile(519, 0.0, "Lemur (CoNEXT'20), NAT, 1500 B at 1.7 GHz")

    def elements(self, port: str) -> ElementGraph:
        if port == "inside":
            left, field = "outside", "src"
            pairs = [(p.inside, p.outside) for p in self.config.pairs]
        else:
            left, field = "inside", "dst"
            pairs = [(p.outside, p.inside) for p in self.config.pairs]
        program = RewriteProgram(field, tuple((old[0], old[1], new[1]) for old, new in pairs))
        return ElementGraph(
            "rewrite",
            {"rewrite": Element("rewrite", program, (left,))},
            {("rewrite", left): Leave(left)},
        )

    def reference(self) -> Reference:
        outward = {p.inside: p.outside[1] for p in self.config.pairs}
        inward = {p.outside: p.inside[1] for p in self.config.pairs}
        return _StaticNatReference(outward, inward)

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        return [("outside", *pair.outside) for pair in self.config.pairs]


class _StaticNatReference(Reference):
    def __init__(self, outward: Mapping[Address, int], inward: Mapping[Address, int]) -> None:
        self._outward = outward
        self._inward = inward

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        left = "outside" if port == "inside" else "inside"
        version = packet.version
        if not version:
            return ((left, packet),)
        table = self._outward if port == "inside" else self._inward
        new = table.get((version, packet.src if port == "inside" else packet.dst))
        if new is not None and port == "inside":
            packet.rewrite(src=new)
        elif new is not None:
            packet.rewrite(dst=new)
        if packet.layout.quoted:  # that went the other way
            quoted = packet.quoted_dst if port == "inside" else packet.quoted_src
            new = table.get((version, quoted))
            if new is not None and port == "inside":
                packet.rewrite_quoted(dst=new)
            elif new is not None:
                packet.rewrite_quoted(src=new)
        return ((left, packet),)
