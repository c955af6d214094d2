"""VXLAN decapsulation (RFC 7348): what is not VXLAN of this VNI, for this address, is dropped."""

from __future__ import annotations

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import UDP, PacketView
from servernf.wire.fields import Fields

_PORT = 4789
_HAS_VNI = 0x08
_NSH = bytearray(b"\x89\x4f")


@network_function("vxlan_decap")
class VxlanDecap(NetworkFunction):
    """Decapsulates what enters outside; the way out is as it is."""

    def setup(self, config: Fields) -> None:
        self._vni = config.integer("vni", 0, (1 << 24) - 1)
        local = config.address("local")
        if local is not None and local.version != 4:
            config.problem("local", f"{local} is not an IPv4 address")
        self._local = 0 if local is None else int(local)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == INSIDE:
            return OUTSIDE
        if (
            packet.version != 4
            or packet.protocol != UDP
            or packet.destination_port != _PORT
            or packet.destination != self._local
            or packet.first_fragment
        ):
            return self.drop("not_vxlan")
        data, udp = packet.data, packet.l4
        if (data[udp + 4] << 8 | data[udp + 5]) < 16 or not data[udp + 8] & _HAS_VNI:
            return self.drop("not_vxlan")
        if int.from_bytes(data[udp + 12 : udp + 15], "big") != self._vni:
            return self.drop("other_vni")
        if data[udp + 28 : udp + 30] == _NSH:
            return self.drop("forged_tag")
        if not packet.replace(data[udp + 16 :]):
            return self.drop("malformed")
        return INSIDE
