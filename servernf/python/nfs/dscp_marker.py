"""DSCP marker (RFC 2474): the first rule that holds gives its DSCP; the two bits of ECN stay."""

from __future__ import annotations

from servernf.python.network_function import OTHER, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.rules import Rules
from servernf.wire.fields import Fields


@network_function("dscp_marker")
class DscpMarker(NetworkFunction):
    """Marks; drops nothing."""

    def setup(self, config: Fields) -> None:
        default = config.integer("default", 0, 63) if config.has("default") else None
        self._rules = Rules(config, lambda rule: rule.integer("dscp", 0, 63), default)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        dscp = self._rules.choose(packet, port)
        if dscp is not None:
            packet.set_dscp(dscp)
        return OTHER[port]
