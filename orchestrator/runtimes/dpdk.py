"""The DPDK runtime (`servernf.dpdk`): the NFs that it has in C, at what each was measured to cost.

A group with an NF that is not here stands on servers of another runtime, as a whole.
"""

from __future__ import annotations

from typing import Any

from orchestrator.model.elements import CostProfile
from orchestrator.nfs.base import NetworkFunction
from orchestrator.runtimes.base import Runtime, entries_of, register

NAME = "dpdk"
MANY_ROUTES = 20_000
"""Of one router, which then looks them up by DPDK's tables (docs/decisions/0141)."""
DPDK_BYTES = 512 << 20
"""Of a worker's process, without huge pages."""
_SOURCE = (
    "measured: make bench ONLY=dpdk_nf_ns (98-byte frames with NSH, 4,096 flows, null to null)"
)
_FORWARD_CYCLES = 50
"""Tag, path lookup and counters. A chain pays it once, each of its NFs is charged with it."""
_CYCLES = {
    "acl": 20,
    "dnat": 90,
    "dscp_marker": 30,
    "flow_monitor": 60,
    "hash_lb": 80,
    "ids": 1850,
    "l4_load_balancer": 120,
    "napt": 70,
    "policer": 30,
    "router": 60,
    "stateful_firewall": 55,
    "static_nat": 40,
    "ttl_guard": 20,
    "vlan_pop": 20,
    "vlan_push": 20,
    "vxlan_decap": 20,
    "vxlan_encap": 60,
}
"""Of one packet, beside its port and its tag: few rules, 3,000 routes; ids: 1,500 bytes, 10,000
signatures (dpdk_ids_ratio). Those of load balancers and of vxlan_decap are an estimate: the bench enters
NFs inside only."""


def _cost(nf: type[NetworkFunction[Any]]) -> CostProfile | None:
    cycles = _CYCLES.get(nf.type)
    return None if cycles is None else CostProfile(cycles + _FORWARD_CYCLES, 0.0, _SOURCE)


def _table_bytes(nf: NetworkFunction[Any]) -> int:
    """At most: routers of that many routes share what DPDK has of memory in a worker's process."""
    return DPDK_BYTES if nf.type == "router" and entries_of(nf.config) >= MANY_ROUTES else 0


register(Runtime(NAME, _cost, _table_bytes))
