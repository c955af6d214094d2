"""Flow monitor: packets and bytes of every flow, both directions together; all packets pass.

Inside addresses share the table: when it is full, a flow of the address with most of them goes.
"""

from __future__ import annotations

from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import FLOW, FLOW_KEY_BYTES, flow_key, flow_of_key, host_of
from servernf.python.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.state import EntryKind
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField


class _Flow(FairEntry):
    __slots__ = ("bytes", "last_us", "packets")

    def __init__(self) -> None:
        self.packets = self.bytes = self.last_us = 0


MOST_FLOWS = 1 << 20
_FLOWS = EntryKind(
    "flows",
    _Flow,
    (RecordField("packets", "u64"), RecordField("bytes", "u64"), RecordField("last_us", "age")),
    key_sizes=FLOW_KEY_BYTES,
    flow_of=lambda key, _flow: flow_of_key(key),
    looks_at=FLOW,
)


@network_function("flow_monitor")
class FlowMonitor(NetworkFunction):
    """Counts."""

    _flows: FairTable[_Flow]

    def setup(self, config: Fields) -> None:
        self.max_flows = config.integer("max_flows", 1, MOST_FLOWS, 65_536)
        self.idle_us = config.seconds("idle_timeout_s", 60)
        self.top = config.integer("top", 0, 1000, 10)
        self.state.declare("_flows", _FLOWS, FairTable[_Flow](self.max_flows))
        self.state.counts |= {"packets": 0, "bytes": 0}

    def bound(self) -> None:
        self._total = self.state.counts

    def metrics(self) -> dict[str, int]:
        flows = self._flows.items()
        result = {"flows": len(flows), **self._total}
        for key, flow in nlargest(self.top, flows, key=lambda item: (item[1].bytes, item[0])):
            name = flow_name(key)
            result[f"{name}.packets"] = flow.packets
            result[f"{name}.bytes"] = flow.bytes
        return result

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.version:
            size = len(packet.data)
            flow = self._flow(flow_key(packet, inside=port == INSIDE), now_us)
            flow.packets += 1
            flow.bytes += size
            flow.last_us = now_us
            self._total["packets"] += 1
            self._total["bytes"] += size
        return OTHER[port]

    def _flow(self, key: bytes, now_us: int) -> _Flow:
        flows = self._flows
        flow = flows.get(key)
        if flow is None:
            flow = _Flow()
            flows.size = self.max_flows
            flows.add(key, flow, host_of(key[1:]))
            return flow
        flows.refresh(flow)
        if flow.last_us + self.idle_us <= now_us:
            flow.packets = flow.bytes = 0
        return flow


def flow_name(key: bytes) -> str:
    """A flow, as indicators name it."""
    size = len(key) // 2
    address = IPv4Address if size == 6 else IPv6Address
    inside, outside = key[1 : size + 1], key[size + 1 :]
    ends = "-".join(
        f"{address(end[:-2])}.{int.from_bytes(end[-2:], 'big')}" for end in (inside, outside)
    )
    return f"flow.{key[0]}.{ends}"
