"""vlan_push: the four bytes of the tag."""

from __future__ import annotations

import struct

from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("vlan_push")
def vlan_push(config: Fields, making: Making) -> bytes:
    kind = config.text("type", "0x8100")
    tci = config.integer("pcp", 0, 7, 0) << 13 | config.integer("vid", 1, 4094)
    return struct.pack("!HH", int(kind, 16), tci)
