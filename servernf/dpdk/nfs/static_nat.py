"""static_nat: the addresses that are written, and by port entered and version whom for."""

from __future__ import annotations

import struct

from servernf.dpdk.forms import Making, addresses, form, words
from servernf.wire.fields import Fields


@form("static_nat")
def static_nat(config: Fields, making: Making) -> bytes:
    written: list[bytes] = []
    tables: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for pair in config.objects("pairs"):
        inside, outside = pair.address("inside"), pair.address("outside")
        assert inside is not None
        assert outside is not None
        for port, own, other in (("inside", inside, outside), ("outside", outside, inside)):
            tables.setdefault((port, own.version), []).append((int(own), len(written)))
            written.append(words(int(other)))
    said = (
        addresses(tables.get((port, version), ()))
        for port in ("inside", "outside")
        for version in (4, 6)
    )
    return struct.pack("=I", len(written)) + b"".join((*written, *said))
