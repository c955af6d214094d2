"""Adds a VLAN tag in front of those that a frame has; a frame with two is dropped. Back: unchanged."""

from __future__ import annotations

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

_UNTAGGED_L3 = 14


@network_function("vlan_push")
class VlanPush(NetworkFunction):
    """Pushes what enters inside."""

    def setup(self, config: Fields) -> None:
        kind = config.choice("type", ("0x8100", "0x88a8"), "0x8100")
        tci = config.integer("pcp", 0, 7, 0) << 13 | config.integer("vid", 1, 4094)
        self._tag = int(kind, 16).to_bytes(2, "big") + tci.to_bytes(2, "big")

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == OUTSIDE:
            return INSIDE
        if packet.l3 > _UNTAGGED_L3 + 4:
            return self.drop("two_tags")
        packet.replace(b"".join((packet.data[:12], self._tag, packet.data[12:])))
        return OUTSIDE
