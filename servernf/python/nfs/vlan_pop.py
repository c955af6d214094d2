"""Takes the outermost VLAN tag off; a frame with more than two is dropped. Back: unchanged."""

from __future__ import annotations

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

_UNTAGGED_L3 = 14
_VLAN_TYPES = (0x8100, 0x88A8)


@network_function("vlan_pop")
class VlanPop(NetworkFunction):
    """Pops what enters inside."""

    def setup(self, config: Fields) -> None:
        self._vid = config.integer("vid", 1, 4094) if config.has("vid") else None
        self._drops_others = config.choice("others", ("pass", "drop"), "pass") == "drop"

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == OUTSIDE:
            return INSIDE
        data = packet.data
        tagged = packet.l3 > _UNTAGGED_L3
        if not tagged or self._vid not in (None, (data[14] & 0x0F) << 8 | data[15]):
            return self.drop("other_vlan") if self._drops_others else OUTSIDE
        if packet.ether_type in _VLAN_TYPES:
            return self.drop("third_tag")
        packet.replace(data[:12] + data[16:])
        return OUTSIDE
