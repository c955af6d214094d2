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
        self._permits: dict[int, tuple[bool, str]] = {}
        for index, item in enumerate(config.objects("rules")):
            label = item.integer("label", 0, 0xFFFF_FFFF)
            permits = item.choice("action", _ACTIONS) == "permit"
            self._permits[label] = permits, f"rules[{index}]"
            item.only_known()
        self._default = config.choice("default", _ACTIONS, "permit") == "permit", "default"

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        permits, rule = self._permits.get(packet.context, self._default)
        return OTHER[port] if permits else self.drop("label", rule)
