"""Hash load balancer: 251 buckets, each a backend; a flow's CRC-32 chooses one. No state is kept.

Fragments, and everything with `hash: addresses`, are hashed by addresses only, so that all fragments of
a datagram come to its backend. An ICMP error has the hash of the flow that it quotes, and is translated
with the quote.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.quotes import Quote, quote_of, translate
from servernf.wire.fields import Address, Fields

BUCKETS = 251
_KEY = Struct("!HHB")


@network_function("hash_lb")
class HashLb(NetworkFunction):
    """Clients are outside; what is neither to a virtual address nor from a backend passes."""

    def setup(self, config: Fields) -> None:
        self.services: dict[tuple[int, int], tuple[bool, list[int]]] = {}
        self.virtual_of: dict[tuple[int, int], int] = {}
        for item in config.objects("virtual"):
            virtual = item.address("address")
            by_ports = item.choice("hash", ("addresses", "ports"), "addresses") == "ports"
            backends: list[tuple[Address, int]] = []
            for backend in item.objects("backends"):
                address, weight = backend.address("address"), backend.integer("weight", 1, 100, 1)
                backend.only_known()
                if address is None or virtual is None:
                    continue
                key = address.version, int(address)
                if address.version != virtual.version:
                    backend.problem(
                        "address", f"{address} is not of the virtual address's IP version"
                    )
                elif key in self.virtual_of:
                    backend.problem("address", f"{address} is an earlier backend")
                self.virtual_of[key] = int(virtual)
                backends.append((address, weight))
            item.only_known()
            if not 0 < len(backends) <= BUCKETS:
                item.problem("backends", f"must be 1 to {BUCKETS}")
            elif virtual is not None:
                key = virtual.version, int(virtual)
                if key in self.services:
                    item.problem("address", f"{virtual} is an earlier virtual address")
                self.services[key] = by_ports, fill(backends)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        quote = quote_of(packet)
        if port == INSIDE:
            virtual = self.virtual_of.get((packet.version, packet.source))
            if virtual is not None:
                packet.set_source(virtual)
            if quote is not None:
                virtual = self.virtual_of.get((packet.version, quote.destination))
                if virtual is not None:
                    translate(packet, quote, virtual, source=False)
            return OUTSIDE
        service = self.services.get((packet.version, packet.destination))
        if service is not None:
            by_ports, buckets = service
            key = b"".join(address.to_bytes(16, "big") for address in packet.flow())
            if by_ports:
                key += _ports_key(packet, quote)
            asked, backend = packet.destination, buckets[crc32(key) % BUCKETS]
            packet.set_destination(backend)
            if quote is not None and quote.source == asked:
                translate(packet, quote, backend, source=True)
        return INSIDE


def _ports_key(packet: PacketView, quote: Quote | None) -> bytes:
    """Ports and protocol of the flow that a packet is of; nothing for fragments and without ports."""
    if quote is not None:
        if quote.source_port < 0 or quote.is_fragment:
            return b""
        return _KEY.pack(quote.destination_port, quote.source_port, quote.protocol)
    if packet.source_port < 0 or packet.first_fragment:
        return b""
    return _KEY.pack(packet.source_port, packet.destination_port, packet.protocol)


def fill(backends: list[tuple[Address, int]]) -> list[int]:
    """Maglev's table: in turn, each backend takes the next bucket of its own order that is free."""
    table = [-1] * BUCKETS
    orders = [_order(address) for address, _ in backends]
    free = BUCKETS
    while free:
        for order, (address, weight) in zip(orders, backends, strict=True):
            for _ in range(min(weight, free)):
                while table[bucket := order.pop()] >= 0:
                    pass
                table[bucket] = int(address)
                free -= 1
    return table


def _order(address: Address) -> list[int]:
    """The buckets as a backend prefers them, the best last."""
    start = crc32(address.packed) % BUCKETS
    step = 1 + crc32(address.packed + b"skip") % (BUCKETS - 1)
    return [(start + turn * step) % BUCKETS for turn in reversed(range(BUCKETS))]
