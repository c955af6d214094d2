"""hash_lb: services (whether ports count, a backend a bucket), addresses that are written, and by
version those of services and of backends."""

from __future__ import annotations

import struct
from typing import cast

from servernf.dpdk.forms import Making, addresses, form, words
from servernf.python.nfs.hash_lb import BUCKETS, HashLb
from servernf.wire.fields import Fields

_SERVICE = struct.Struct(f"={1 + BUCKETS}I")


@form("hash_lb")
def hash_lb(config: Fields, making: Making) -> bytes:
    nf = cast("HashLb", making.nf)
    written: dict[int, int] = {}

    def number(address: int) -> int:
        return written.setdefault(address, len(written))

    services = [
        _SERVICE.pack(by_ports, *map(number, buckets)) for by_ports, buckets in nf.services.values()
    ]
    tables: list[bytes] = []
    for version in (4, 6):
        virtual = ((a, n) for n, (v, a) in enumerate(nf.services) if v == version)
        backends = ((a, number(to)) for (v, a), to in nf.virtual_of.items() if v == version)
        tables += (addresses(virtual), addresses(backends))
    head = struct.pack("=II", len(services), len(written))
    return b"".join((head, *map(words, written), *services, *tables))
