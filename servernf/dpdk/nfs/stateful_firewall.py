"""stateful_firewall: bound, whether other packets than IP pass, timeouts; its tables; rules that choose
their own number, if they deny."""

from __future__ import annotations

import struct
from typing import cast

from servernf.dpdk.conditions import NOTHING, Rule, packed
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
    names: list[str] = []
    ways: list[tuple[list[Rule], int]] = []
    for entered in (True, False):
        listed: list[Rule] = []
        for condition, permits, name in nf.rules[entered]:
            listed.append((condition, NOTHING if permits else len(names)))
            names.append(name)
        ways.append((listed, NOTHING if nf.default[entered] else len(names)))
        names.append("default")
    making.rules = names
    head = struct.pack("=3I", nf.most_connections, nf.non_ip_passes, opened)
    timeouts = struct.pack("=4Q", *(nf.timeouts_us[kind] for kind in _TIMEOUTS))
    tables = struct.pack("=II", connections.number, fragments.number)
    return head + timeouts + tables + packed(*ways[0], *ways[1])
