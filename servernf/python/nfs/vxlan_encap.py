"""VXLAN encapsulation (RFC 7348) over IPv4: the frame, whole, behind Ethernet, IPv4, UDP and VXLAN.

The source port is the flow's, in the dynamic range; there is no UDP checksum; the outer MACs are the
gateway's, so that whoever is next looks at the outer destination address.
"""

from __future__ import annotations

import struct
from zlib import crc32

from servernf.python.checksum import delta16, patch
from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import UDP, PacketView
from servernf.wire.addresses import GATEWAY_MAC
from servernf.wire.fields import Fields

_PORT = 4789
_FIRST_PORT, _PORTS = 0xC000, 0x4000
_IPV4 = struct.Struct("!BBHHHBBHII")
_UDP_VXLAN = struct.Struct("!HHHHB3xI")


@network_function("vxlan_encap")
class VxlanEncap(NetworkFunction):
    """Encapsulates what enters inside; the way back is as it is."""

    def setup(self, config: Fields) -> None:
        self._vni = config.integer("vni", 0, (1 << 24) - 1)
        ends: list[int] = []
        for key in ("local", "remote"):
            address = config.address(key)
            if address is not None and address.version != 4:
                config.problem(key, f"{address} is not an IPv4 address")
            ends.append(0 if address is None else int(address))
        mac = GATEWAY_MAC.to_bytes(6, "big")
        header = bytearray(_IPV4.pack(0x45, 0, 0, 0, 0x4000, 64, UDP, 0xFFFF, *ends))
        for at in range(0, 20, 2):
            if at != 10:
                patch(header, 10, delta16(0, header[at] << 8 | header[at + 1]))
        self._ethernet = mac + mac + b"\x08\x00"
        self._ipv4 = bytes(header)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == OUTSIDE:
            return INSIDE
        flow = b"".join(address.to_bytes(16, "big") for address in packet.flow())
        source_port = _FIRST_PORT + crc32(flow) % _PORTS
        length = 16 + len(packet.data)
        ipv4 = bytearray(self._ipv4)
        ipv4[2:4] = (20 + length).to_bytes(2, "big")
        patch(ipv4, 10, delta16(0, 20 + length))
        rest = _UDP_VXLAN.pack(source_port, _PORT, length, 0, 0x08, self._vni << 8)
        if not packet.replace(b"".join((self._ethernet, ipv4, rest, packet.data))):
            return self.drop("malformed")
        return OUTSIDE
