"""hash_lb: spreads flows over backends by a hash, without state (ECMP, RFC 2992).

A table of 251 buckets is filled as Maglev fills it (Eisenbud et al., NSDI'16, 3.4): every backend has
its turn as often as its weight says, and when one comes or goes few other buckets change hands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from zlib import crc32

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    PASS,
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    HashProgram,
    Leave,
    RewriteProgram,
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
from orchestrator.nfs.editing import flow_addresses
from orchestrator.nfs.values import Address, AddressField, address_text

BUCKETS = 251
"""A prime, so that every skip meets every bucket; the size of blocks/hash_lb.p4."""


class HashBackend(NfConfig):
    """Where flows go; `weight` is its share relative to the others'."""

    address: AddressField
    weight: Annotated[int, Field(ge=1, le=100, strict=True)] = 1


class HashVirtual(NfConfig):
    """An address that stands for its backends."""

    address: AddressField
    backends: Annotated[tuple[HashBackend, ...], Field(min_length=1, max_length=BUCKETS)]
    hash: Literal["addresses", "ports"] = "addresses"

    @model_validator(mode="after")
    def _one_version_each_once(self) -> Self:
        seen: set[Address] = set()
        for index, backend in enumerate(self.backends):
            text = address_text(backend.address)
            if backend.address[0] != self.address[0]:
                raise ValueError(
                    f"backends[{index}]: {text} and {address_text(self.address)} "
                    "are of different IP versions"
                )
            if backend.address in seen:
                raise ValueError(f"backends[{index}]: {text} is there already; use its weight")
            seen.add(backend.address)
        return self


class HashLbConfig(NfConfig):
    """An address is virtual once, or a backend of one virtual address: nothing else tells them apart."""

    virtual: Annotated[tuple[HashVirtual, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_address_once(self) -> Self:
        places: dict[Address, str] = {}
        for index, virtual in enumerate(self.virtual):
            own = [(virtual.address, f"virtual[{index}].address")]
            own += [
                (backend.address, f"virtual[{index}].backends[{number}]")
                for number, backend in enumerate(virtual.backends)
            ]
            for address, place in own:
                if address in places:
                    raise ValueError(
                        f"{place}: {address_text(address)} is {places[address]}, too; without state "
                        "a reply could not be told from the other's"
                    )
                places[address] = place
        return self


@network_function("hash_lb")
class HashLb(NetworkFunction[HashLbConfig]):
    """Elements: outside `virtual`, then one `balanceN` a virtual address; inside `return`."""

    Config = HashLbConfig
    cost = CostProfile(564, 0.0, "Lemur (CoNEXT'20), HashLB, 1500 B at 1.7 GHz")

    def elements(self, port: str) -> ElementGraph:
        if port == "inside":
            pairs = tuple(
                (virtual.address[0], backend.address[1], virtual.address[1])
                for virtual in self.config.virtual
                for backend in virtual.backends
            )
            back = Element("return", RewriteProgram("src", pairs), ("outside",))
            return ElementGraph(
                "return", {"return": back}, {("return", "outside"): Leave("outside")}
            )
        rules: list[FilterRule] = []
        elements: dict[str, Element] = {}
        edges: dict[tuple[str, str], str | Leave] = {("virtual", PASS): Leave("inside")}
        for index, virtual in enumerate(self.config.virtual):
            name, (version, address) = f"balance{index}", virtual.address
            prefix = Prefix(version, address, 32 if version == 4 else 128)
            rules.append(FilterRule(Match(dst=prefix), name, f"virtual[{index}]"))
            program = HashProgram(version, virtual.hash == "ports", bucket_table(virtual))
            elements[name] = Element(name, program, ("inside",))
            edges["virtual", name] = name
            edges[name, "inside"] = Leave("inside")
        choose = Element("virtual", FilterProgram(tuple(rules), PASS), (*elements, PASS))
        return ElementGraph("virtual", {"virtual": choose, **elements}, edges)

    def reference(self) -> Reference:
        return _HashLbReference(self.config)

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        return [("outside", *virtual.address) for virtual in self.config.virtual]

    def runtime_config(self) -> Mapping[str, Any]:
        return {
            "virtual": [
                {
                    "address": address_text(virtual.address),
                    "hash": virtual.hash,
                    "backends": [
                        {"address": address_text(b.address), "weight": b.weight}
                        for b in virtual.backends
                    ],
                }
                for virtual in self.config.virtual
            ]
        }


def bucket_table(virtual: HashVirtual) -> tuple[int, ...]:
    """The backend's address in each bucket.

    A backend prefers buckets offset, offset + skip, ... where offset is the CRC-32 of its address mod
    251, and skip the CRC-32 of the address followed by "skip", mod 250, plus 1. In turn, as often as its
    weight says, each takes the first bucket that it prefers and that is free.
    """
    size = 4 if virtual.address[0] == 4 else 16
    orders: list[tuple[int, int, int, int]] = []
    for backend in virtual.backends:
        packed = backend.address[1].to_bytes(size, "big")
        offset, skip = crc32(packed) % BUCKETS, crc32(packed + b"skip") % (BUCKETS - 1) + 1
        orders.append((backend.address[1], backend.weight, offset, skip))
    table: dict[int, int] = {}
    tried = [0] * len(orders)
    while True:
        for index, (address, weight, offset, skip) in enumerate(orders):
            for _ in range(weight):
                while True:
                    bucket = (offset + tried[index] * skip) % BUCKETS
                    tried[index] += 1
                    if bucket not in table:
                        break
                table[bucket] = address
                if len(table) == BUCKETS:
                    return tuple(table[bucket] for bucket in range(BUCKETS))


class _HashLbReference(Reference):
    def __init__(self, config: HashLbConfig) -> None:
        self._tables = {v.address: (v.hash, bucket_table(v)) for v in config.virtual}
        self._virtual_of = {b.address: v.address[1] for v in config.virtual for b in v.backends}

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        version = packet.version
        quotes = version != 0 and packet.layout.quoted != 0
        if port == "inside":
            if version:
                virtual = self._virtual_of.get((version, packet.src))
                if virtual is not None:
                    packet.rewrite(src=virtual)
            if quotes:
                virtual = self._virtual_of.get((version, packet.quoted_dst))
                if virtual is not None:
                    packet.rewrite_quoted(dst=virtual)
            return (("outside", packet),)
        service = self._tables.get((version, packet.dst)) if version else None
        if service is not None:
            kind, table = service
            asked = packet.dst
            backend = table[_hash(packet, by_ports=kind == "ports") % BUCKETS]
            packet.rewrite(dst=backend)
            if quotes and packet.quoted_src == asked:
                packet.rewrite_quoted(src=backend)
        return (("inside", packet),)


def _hash(packet: Packet, *, by_ports: bool) -> int:
    source, destination = flow_addresses(packet)
    key = source.to_bytes(16, "big") + destination.to_bytes(16, "big")
    if by_ports and packet.quotes_l4 and packet.quoted_protocol in (TCP, UDP):
        quoted_source, quoted_target = packet.quoted_ports
        divided = packet.version == 4 and packet.data[packet.layout.quoted + 6] & 0x20
        if not divided:
            ports = quoted_target.to_bytes(2, "big") + quoted_source.to_bytes(2, "big")
            key += ports + bytes([packet.quoted_protocol])
    elif by_ports and packet.has_ports and not packet.more_fragments:
        at = packet.layout.l4
        key += bytes(packet.data[at : at + 4]) + bytes([packet.protocol or 0])
    return crc32(key)
