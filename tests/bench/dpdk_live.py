"""Workers of runtime dpdk in namespaces: updates under load, and a TCP transfer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from figures import Missing, Result, figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rig
import updates
from update_load import POOL, graph_of

from servernf.host.compiling import dpdk_missing

TCP_BYTES = 200_000_000
RULES = rig.ROOT.parent / "shared" / "data" / "classbench" / "acl1_10k.rules"


@figure("dpdk_update_lost_packets", unit="packets", goal=0)
def update_lost_packets() -> Result:
    """`update_lost_packets` with these workers behind softswitches."""
    _needs_dpdk()
    return updates.measure("softswitch", runtime="dpdk")


@figure("dpdk_update_lost_packets_10k", unit="packets", goal=0)
def update_lost_packets_of_many_rules() -> Result:
    """The same while an access list of 9,774 rules and a few more is built anew for each of five."""
    _needs_dpdk()
    if not RULES.is_file():
        raise Missing(f"no {RULES}")
    return updates.measure("softswitch", 5, runtime="dpdk", of=many_rules, files=[RULES])


def many_rules(number: int) -> dict[str, Any]:
    """A list on a worker, of which each version has another first rule."""
    first = {"protocol": "udp", "dst_port": 9000 + number, "action": "deny"}
    config = {"rules": [first], "rules_file": RULES.name, "default": "permit"}
    graph = graph_of({"list": {"type": "acl", "config": config}}, ["list"])
    return {**graph, "placement": {"pin": {"list": "server1"}}}


@figure("dpdk_netns_tcp_gbps", unit="Gbit/s")
def netns_tcp_gbps() -> Result:
    """One TCP transfer through a NAPT in C, between hosts of two leaves; the switches are C, too."""
    _needs_dpdk()
    graph = graph_of({"nat": {"type": "napt", "config": {"addresses": [POOL]}}}, ["nat"])
    with rig.network("dpdk", deploy=False, runtime="dpdk") as state:
        file = Path(state.run_dir) / "nat.json"
        file.write_text(json.dumps(graph))
        rig.orchestrator("deploy", str(file), "--network", "bench")
        mbit = rig.tcp_mbit(state, "h1", "h3", TCP_BYTES)
    return {"value": round(mbit / 1000, 2), "bytes": TCP_BYTES}


def _needs_dpdk() -> None:
    if missing := dpdk_missing():
        raise Missing(missing)
