"""vxlan_encap: the headers in front of a frame, with all that does not depend on it."""

from __future__ import annotations

import struct

from servernf.dpdk.forms import Making, form
from servernf.python.checksum import checksum
from servernf.python.packet import UDP
from servernf.wire.addresses import GATEWAY_MAC
from servernf.wire.fields import Fields

_MAC = GATEWAY_MAC.to_bytes(6, "big")
_IPV4 = struct.Struct("!BBHHHBBHII")
_UDP_VXLAN = struct.Struct("!HHHHB3xI")
_PORT, _DONT_FRAGMENT, _HAS_VNI = 4789, 0x4000, 0x08


@form("vxlan_encap")
def vxlan_encap(config: Fields, making: Making) -> bytes:
    local, remote = config.address("local"), config.address("remote")
    assert local is not None
    assert remote is not None
    words = [0x45, 0, 0, 0, _DONT_FRAGMENT, 64, UDP, 0, int(local), int(remote)]
    words[7] = checksum(_IPV4.pack(*words))
    udp = _UDP_VXLAN.pack(0, _PORT, 0, 0, _HAS_VNI, config.integer("vni", 0, (1 << 24) - 1) << 8)
    return _MAC + _MAC + b"\x08\x00" + _IPV4.pack(*words) + udp
