"""C and DPDK over veth pairs: packets beside BMv2's, and a TCP transfer through a network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import rig
from figures import Missing, Result, figure
from softswitch import BMV2, _bmv2_rate, _edge, _frames, _samples, oracle

from orchestrator.targets import lookup

TURNS, TURN_S = 4, 1.5
TCP_PORT, TCP_BYTES = 8_080, 200_000_000
ROUTED: dict[str, Any] = {
    "name": "routed",
    "endpoints": {"in": {"hosts": ["h1"]}, "out": {"hosts": ["h3"]}},
    "nfs": {
        "filter": {
            "type": "acl",
            "config": {
                "rules": [{"dst_port": str(TCP_PORT), "protocol": "tcp", "action": "permit"}]
            },
        },
        "route": {
            "type": "router",
            "config": {"routes": [{"prefix": "10.0.1.0/24"}, {"prefix": "198.51.100.0/24"}]},
        },
    },
    "edges": [
        {"from": a, "to": b}
        for a, b in (
            ("in", "filter.inside"),
            ("filter.outside", "route.inside"),
            ("route.outside", "out"),
            ("out", "filter.outside"),
            ("filter.inside", "in"),
        )
    ],
    "traffic": [
        {"name": name, "from": a, "to": b, "rate": "1 Gbit/s", "packet_size": 1000}
        for name, a, b in (("up", "in", "out"), ("down", "out", "in"))
    ],
}


def _needs_dpdk() -> None:
    if missing := lookup("dpdk").engine.missing():
        raise Missing(missing)
    if os.geteuid() != 0:
        raise Missing("veth interfaces need root")


@figure("engine_veth_gain", unit="ratio")
def engine_veth_gain() -> Result:
    """Packets a second over BMv2's, both on veth pairs: at most 32 under way, the two in turns."""
    _needs_dpdk()
    if BMV2 is None:
        raise Missing("simple_switch_grpc is not installed")
    lookup("dpdk").engine.prepare()
    target = _edge()
    setup = [u for u in target.setup if not _samples(u, target)]
    # Straight to a host of this switch: one packet out for one in.
    frames = [bytes(5) + b"\1" + f[6:30] + bytes([10, 2, 0, 1]) + f[34:] for f in _frames(1024)]
    rates: dict[str, list[float]] = {"bmv2": [], "dpdk": []}
    for _ in range(TURNS):
        for engine, measured in rates.items():
            with oracle(engine) as switch:
                switch.load(target.raw, target.info)
                switch.write(setup)
                measured.append(_bmv2_rate(switch, frames, TURN_S))
    best = {engine: max(measured) for engine, measured in rates.items()}
    return {
        "value": round(best["dpdk"] / best["bmv2"], 2),
        "compared_with": {f"{engine}_pps": round(pps) for engine, pps in best.items()},
    }


@figure("engine_tcp_veth_mbit", unit="Mbit/s")
def engine_tcp_veth_mbit() -> Result:
    """One TCP transfer between hosts of two leaves: an access list and routes in three switches."""
    _needs_dpdk()
    with rig.network("dpdk", deploy=False) as state:
        graph = Path(state.run_dir) / "routed.json"
        graph.write_text(json.dumps(ROUTED))
        rig.orchestrator("deploy", str(graph), "--network", "bench")
        return {"value": round(rig.tcp_mbit(state, "h1", "h3", TCP_BYTES)), "bytes": TCP_BYTES}
