"""vxlan_decap: the VNI, and the address that what is encapsulated is for."""

from __future__ import annotations

import struct

from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("vxlan_decap")
def vxlan_decap(config: Fields, making: Making) -> bytes:
    local = config.address("local")
    assert local is not None
    return struct.pack("=II", config.integer("vni", 0, (1 << 24) - 1), int(local))
