"""flow_monitor: its bound, when a flow is idle, its counters and its table; the largest flows are
asked for when somebody wants to know them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from heapq import nlargest
from typing import cast

from servernf.dpdk.forms import Making, form
from servernf.python.nfs.flow_monitor import MOST_FLOWS, FlowMonitor, flow_name
from servernf.wire.fields import Fields

_ASKED = struct.Struct("=IQ")
_COUNTS = struct.Struct(">QQ")


@form("flow_monitor")
def flow_monitor(config: Fields, making: Making) -> bytes:
    nf = cast("FlowMonitor", making.nf)
    flows = making.table("flows", "flows", MOST_FLOWS)
    packets, octets = making.counted("packets"), making.counted("bytes")

    def metrics() -> dict[str, int]:
        counted = {"flows": flows.counts.count, **nf.state.counts}
        for size, key, count in _largest(making, nf.top):
            name = flow_name(key)
            counted |= {f"{name}.packets": count, f"{name}.bytes": size}
        return counted

    making.metrics = metrics
    return struct.pack("=IQ3I", nf.max_flows, nf.idle_us, packets, octets, flows.number)


def _largest(making: Making, top: int) -> list[tuple[int, bytes, int]]:
    """(bytes, key, packets) of the flows with most bytes; a part of them is looked at at a time."""
    best: list[tuple[int, bytes, int]] = []
    at = 0
    while top:
        floor = best[-1][0] if len(best) == top else 0
        answer = making.stats(_ASKED.pack(at, floor))
        (at,) = struct.unpack_from("=I", answer)
        best = nlargest(top, [*best, *_read(answer)])
        if not at:
            break
    return best


def _read(answer: bytes) -> Iterator[tuple[int, bytes, int]]:
    at = 4
    while at < len(answer):
        size = int.from_bytes(answer[at : at + 4], "big")
        key = answer[at + 4 : at + 4 + size]
        at += 4 + size
        packets, octets = _COUNTS.unpack_from(answer, at)
        at += _COUNTS.size
        yield octets, key, packets
