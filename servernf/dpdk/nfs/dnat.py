"""dnat: version, port (all ones: it stays), bound, idle time, address; its tables."""

from __future__ import annotations

import struct
from typing import cast

from servernf.dpdk.forms import Making, datagrams, form, words
from servernf.python.nfs.dnat import Dnat
from servernf.wire.fields import Fields

MOST_CONNECTIONS = 1 << 20


@form("dnat")
def dnat(config: Fields, making: Making) -> bytes:
    nf = cast("Dnat", making.nf)
    asked = making.table("asked", "asked", MOST_CONNECTIONS)
    fragments, told = datagrams(making)
    making.metrics = lambda: {"connections": asked.counts.count, **told()}
    head = struct.pack("=IiIQ", nf.version, nf.port, nf.most_connections, nf.idle_us)
    return head + words(nf.address) + struct.pack("=I", asked.number) + fragments
