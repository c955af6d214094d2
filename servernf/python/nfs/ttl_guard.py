"""TTL guard (RFC 5082): TTL or hop limit within bounds, else the packet is dropped or gets the bound."""

from __future__ import annotations

from typing import NamedTuple

from servernf.python.network_function import OTHER, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.rules import Rules
from servernf.wire.fields import Fields


class TtlBounds(NamedTuple):
    """Both included."""

    low: int
    high: int
    clamp: bool


@network_function("ttl_guard")
class TtlGuard(NetworkFunction):
    """Packets that are not IP, and those that no rule matches, pass."""

    def setup(self, config: Fields) -> None:
        self._rules = Rules(config, _bounds)
        if self._rules.empty:
            config.problem("rules", "needs at least one rule")

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        bounds = self._rules.choose(packet, port)
        if bounds is not None and packet.version:
            ttl = packet.ttl
            if not bounds.low <= ttl <= bounds.high:
                if not bounds.clamp:
                    return self.drop("ttl")
                packet.set_ttl(bounds.low if ttl < bounds.low else bounds.high)
        return OTHER[port]


def _bounds(rule: Fields) -> TtlBounds:
    low = rule.integer("min", 0, 255, 0)
    high = rule.integer("max", 0, 255, 255)
    if low > high:
        rule.problem("min", f"{low} is above max {high}")
    return TtlBounds(low, high, rule.choice("action", ("drop", "clamp"), "drop") == "clamp")
