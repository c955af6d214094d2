"""Label filter: by the NF context label that an NF before this one gave the packet (0: none)."""

from __future__ import annotations

from servernf.python.network_function import OTHER, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

_ACTIONS = ("permit", "deny")


@network_function("label_filter")
class LabelFilter(NetworkFunction):
    """Permits or denies."""

    def setup(self, config: Fields) -> None:
        self._permits: dict[int, bool] = {}
        for item in config.objects("rules"):
            label = item.integer("label", 0, 0xFFFF_FFFF)
            self._permits[label] = item.choice("action", _ACTIONS) == "permit"
            item.only_known()
        self._default = config.choice("default", _ACTIONS, "permit") == "permit"

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if self._permits.get(packet.context, self._default):
            return OTHER[port]
        return self.drop("label")
