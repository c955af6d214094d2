"""stateful_firewall: bound, whether other packets than IP pass, timeouts; its tables; rules that choose
0 (deny) or 1 (permit)."""

from __future__ import annotations

import struct
from typing import cast

from servernf.dpdk.conditions import packed
from servernf.dpdk.forms import Making, form
from servernf.python.nfs.stateful_firewall import ESTABLISHED_TCP, MAX_FRAGMENTS, StatefulFirewall
from servernf.python.packet import ICMP, TCP, UDP
from servernf.wire.fields import Fields

MOST_CONNECTIONS = 1 << 20
_TIMEOUTS = (UDP, ESTABLISHED_TCP, TCP, ICMP)


@form("stateful_firewall")
def stateful_firewall(config: Fields, making: Making) -> bytes:
    nf = cast("StatefulFirewall", making.nf)
    connections = making.table("connections", "connections", MOST_CONNECTIONS)
    fragments = making.table("fragments", "passed_fragments", MAX_FRAGMENTS)
    opened = making.counted("opened")
    making.metrics = lambda: {
        "connections": connections.counts.count,
        **nf.state.counts,
        "evicted": connections.counts.evicted,
        "fragments": fragments.counts.count,
    }
    inside, outside = (
        [(condition, int(permits)) for condition, permits, _ in nf.rules[entered]]
        for entered in (True, False)
    )
    head = struct.pack("=3I", nf.most_connections, nf.non_ip_passes, opened)
    timeouts = struct.pack("=4Q", *(nf.timeouts_us[kind] for kind in _TIMEOUTS))
    tables = struct.pack("=II", connections.number, fragments.number)
    rules = packed(inside, int(nf.default[True]), outside, int(nf.default[False]))
    return head + timeouts + tables + rules
