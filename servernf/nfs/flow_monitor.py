"""Flow monitor: packets and bytes of every flow, both directions together; all packets pass.

Flows stand in the order of their last packet, so the first is the first to go when the table is full.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from servernf.config import Fields
from servernf.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.packet import PacketView

_Key = tuple[int, int, int, int]
"""Version, protocol, inside and outside (address and port as one number)."""


class _Flow:
    """Also the sum of all flows."""

    __slots__ = ("bytes", "last_us", "packets")

    def __init__(self) -> None:
        self.packets = self.bytes = self.last_us = 0


@network_function("flow_monitor")
class FlowMonitor(NetworkFunction):
    """Counts."""

    def setup(self, config: Fields) -> None:
        self._max_flows = config.integer("max_flows", 1, 1 << 20, 65_536)
        self._idle_us = config.seconds("idle_timeout_s", 60)
        self._top = config.integer("top", 0, 1000, 10)
        self._flows: OrderedDict[_Key, _Flow] = OrderedDict()
        self._total = _Flow()

    def continue_from(self, before: Self) -> bool:
        self._flows, self._total = before._flows, before._total
        return True

    def metrics(self) -> dict[str, int]:
        flows, total = list(self._flows.items()), self._total
        result = {"flows": len(flows), "packets": total.packets, "bytes": total.bytes}
        for key, flow in nlargest(self._top, flows, key=lambda item: item[1].bytes):
            name = _name(key)
            result[f"{name}.packets"] = flow.packets
            result[f"{name}.bytes"] = flow.bytes
        return result

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.version:
            size = len(packet.data)
            source, destination = packet.source << 16, packet.destination << 16
            if packet.source_port >= 0:
                source |= packet.source_port
                destination |= packet.destination_port
            if port != INSIDE:
                source, destination = destination, source
            flow = self._flow((packet.version, packet.protocol, source, destination), now_us)
            flow.packets += 1
            flow.bytes += size
            flow.last_us = now_us
            self._total.packets += 1
            self._total.bytes += size
        return OTHER[port]

    def _flow(self, key: _Key, now_us: int) -> _Flow:
        flows = self._flows
        flow = flows.get(key)
        if flow is None:
            while len(flows) >= self._max_flows:
                flows.popitem(last=False)
            flow = flows[key] = _Flow()
            return flow
        flows.move_to_end(key)
        if flow.last_us + self._idle_us <= now_us:
            flow = flows[key] = _Flow()
        return flow


def _name(key: _Key) -> str:
    version, protocol, inside, outside = key
    address = IPv4Address if version == 4 else IPv6Address
    ends = "-".join(f"{address(end >> 16)}.{end & 0xFFFF}" for end in (inside, outside))
    return f"flow.{protocol}.{ends}"
