"""router: ports, the gateway's MAC, whom it tells, where prefixes lead to (MACs, whether there are any,
port), by version ranges of destinations, and by version prefixes, if they are many.

A range reaches to where the next one begins; the longest prefix that it lies in is worked out here.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from servernf.dpdk.forms import Making, addresses, form, words
from servernf.python.nfs.router import Router
from servernf.wire.addresses import GATEWAY_MAC, parse_ip
from servernf.wire.fields import Fields, Network

_GATEWAY = GATEWAY_MAC.to_bytes(6, "big")
_NO_ROUTE = 0xFFFF_FFFF
_ROUTE = struct.Struct("=12sBB2x")
_PREFIX = struct.Struct("=QQII")
_WORD = (1 << 64) - 1
MANY_PREFIXES = 20_000
"""Of a version, which are worth what DPDK's tables take of memory (c/fib.h)."""

Prefix = tuple[int, int, int]
"""First address, length, number of where it leads to."""


@form("router")
def router(config: Fields, making: Making) -> bytes:
    macs = {
        parse_ip(text): config.as_mac(text, mac)
        for text, mac in config.mapping("neighbors").items()
    }
    gateway = _GATEWAY
    if config.has("gateway_mac"):
        gateway = config.mac("gateway_mac")
    ports = making.nf.ports
    routes: dict[bytes, int] = {}
    tables: dict[int, dict[Network, int]] = {4: {}, 6: {}}
    for item in config.objects("routes"):
        hop = item.address("next_hop") if item.has("next_hop") else None
        there = macs[hop] + gateway if hop is not None else bytes(12)
        port = ports.index(item.text("port", "outside"))
        route = _ROUTE.pack(there, hop is not None, port)
        prefix = item.prefix("prefix")
        assert prefix is not None
        tables[prefix.version][prefix] = routes.setdefault(route, len(routes))
    head = struct.pack("=II", len(ports), len(routes)) + gateway + _teller(making)
    head += b"".join(routes)
    told = {version: distinct(tables[version]) for version in (4, 6)}
    if any(len(prefixes) >= MANY_PREFIXES for prefixes in told.values()):
        nf = making.nf
        making.metrics = lambda: {
            "fib_prefixes": int.from_bytes(making.stats(b""), sys.byteorder),
            **nf.state.counts,
        }
    searched = [addresses(ranges(told[v], width)) for v, width in ((4, 32), (6, 128))]
    return b"".join((head, *searched, *map(_prefixes, told.values())))


def _prefixes(told: Sequence[Prefix]) -> bytes:
    """As DPDK's tables ask for them, if they are many."""
    many = told if len(told) >= MANY_PREFIXES else ()
    packed = [_PREFIX.pack(first & _WORD, first >> 64, *rest) for first, *rest in many]
    return struct.pack("=I", len(packed)) + b"".join(packed)


def _teller(making: Making) -> bytes:
    """Of which versions senders are told, the MTU, where the pace lies, and from which addresses."""
    nf = cast("Router", making.nf)
    sources = nf.sources
    pace = making.place(nf.pace, ("full_us",))
    versions = (4 in sources) | (6 in sources) << 1
    addresses_told = words(sources.get(4, 0)) + words(sources.get(6, 0))
    return struct.pack("=3I", versions, nf.mtu, pace) + addresses_told


def distinct(prefixes: Mapping[Network, int]) -> list[Prefix]:
    """In order, the prefixes that say another number than the longest around them."""
    # Numbers from here on: what a network's object works out of itself takes six times as long.
    begins = sorted((int(p.network_address), p.prefixlen, prefixes[p]) for p in prefixes)
    width = next((p.max_prefixlen for p in prefixes), 0)
    within = [(1 << width, _NO_ROUTE)]
    """(first address behind, number) of the prefixes that the place is in, the longest last."""
    told: list[Prefix] = []
    for first, length, number in begins:
        while within[-1][0] <= first:
            within.pop()
        if within[-1][1] != number:
            within.append((first + (1 << width - length), number))
            told.append((first, length, number))
    return told


def ranges(prefixes: Iterable[Prefix], width: int) -> Iterator[tuple[int, int]]:
    """(first address, number of the longest prefix) wherever the number changes; all begins at 0.
    Prefixes, of addresses of so many bits, are in order."""
    within: list[tuple[int, int]] = []
    """(first address behind, number) of the prefixes that the place is in, the longest last."""
    changes = {0: _NO_ROUTE}
    """In the order of addresses, since places are come to in it."""

    def leave(before: int) -> None:
        while within and within[-1][0] <= before:
            behind, _ = within.pop()
            changes[behind] = within[-1][1] if within else _NO_ROUTE

    for first, length, number in prefixes:
        leave(first)
        within.append((first + (1 << width - length), number))
        changes[first] = number
    leave(1 << width)
    changes.pop(1 << width, None)
    previous: int | None = None
    for first, number in changes.items():
        if number != previous:
            previous = number
            yield first, number
