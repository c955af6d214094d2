"""vlan_pop: the VLAN that is taken off (all ones: any), whether others are dropped."""

from __future__ import annotations

import struct

from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields

_ANY = 0xFFFF_FFFF


@form("vlan_pop")
def vlan_pop(config: Fields, making: Making) -> bytes:
    vid = config.integer("vid", 1, 4094) if config.has("vid") else _ANY
    return struct.pack("=II", vid, config.raw("others") == "drop")
