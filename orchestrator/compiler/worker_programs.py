"""NF configs and service chains of the server workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from orchestrator.compiler.wiring import Wiring
from orchestrator.memo import Memo
from orchestrator.model.entries import RulePlaces
from orchestrator.model.symbolic import SymbolicChain, SymbolicWorker, WayOut
from orchestrator.nfs.base import NetworkFunction
from orchestrator.nfs.values import address_text
from servernf.wire.addresses import GATEWAY_MAC, device_mac, mac_text


def worker_programs(wiring: Wiring, memo: Memo) -> Iterator[SymbolicWorker]:
    """What every worker that the graph was given runs: NF configs and chains, as all of its group."""
    neighbors = tuple((address_text(at), mac_text(mac)) for at, mac in wiring.neighbors)
    for index, group in enumerate(wiring.cuts.groups):
        cores = wiring.plan.cores_of[index]
        chains = tuple(_chains(wiring, group.units))
        what = ("spec", len(cores), neighbors)
        spec = partial(_spec, len(cores), neighbors)
        nfs = {name: memo.of(what, wiring.functions[name], spec) for name in group.nfs}
        places_of = {name: memo.of("places", wiring.functions[name], _places) for name in group.nfs}
        places = {name: listed for name, listed in places_of.items() if listed}
        for core in cores:
            yield SymbolicWorker(core.server, core.index, nfs, chains, places)
        # Nothing leads to a standby before it takes over.
        for core in {s.core for s in wiring.plan.standbys if s.nf in group.nfs}:
            yield SymbolicWorker(core.server, core.index, nfs, (), places)


def _places(function: NetworkFunction[Any]) -> RulePlaces:
    return function.rule_places()


def _spec(
    replicas: int,
    neighbors: tuple[tuple[str, str], ...],
    function: NetworkFunction[Any],
) -> tuple[str, dict[str, Any]]:
    """Type and config of each of an NF's replicas."""
    config = dict(function.runtime_config())
    buckets = function.pool_buckets(replicas)
    if buckets is not None:
        config["buckets"] = buckets
    if function.type == "router":
        # A next hop that is nobody's has MAC 0: no delivery knows it, so it is dropped.
        hops = {route["next_hop"] for route in config["routes"] if route.get("next_hop")}
        config |= {
            "neighbors": dict.fromkeys(sorted(hops), mac_text(0)) | dict(neighbors),
            "gateway_mac": mac_text(GATEWAY_MAC),
        }
    return function.type, config


def _chains(wiring: Wiring, units: Iterable[str]) -> Iterator[SymbolicChain]:
    for name in units:
        door = (wiring.device(name), name)
        if door not in wiring.paths:
            continue
        for nfs, out, outputs in _walk(wiring, name):
            yield SymbolicChain(wiring.paths[door], nfs, out, outputs)


_Walked = tuple[tuple[tuple[str, str], ...], WayOut | None, tuple[str, ...]]
"""(NF, port) in order, the way out, and the ports by which they are left."""


def _walk(wiring: Wiring, name: str) -> Iterator[_Walked]:
    """Every way from an NF to where packets leave the server."""
    unit = wiring.units[name]
    me = (unit.nf, unit.port)
    following = wiring.cuts.successors(name)
    if not following:
        yield (me,), None, ()
    for arc in following:
        if arc.target in wiring.group_of:
            for nfs, out, outputs in _walk(wiring, arc.target):
                yield (me, *nfs), out, (arc.output, *outputs)
        else:
            switch = wiring.device_of[arc.target]
            tree = wiring.tree_of.get((name, arc.target), 0)
            mac = device_mac(wiring.fabric.device_id(switch), tree=tree)
            yield (me,), WayOut(mac, wiring.paths[switch, arc.target]), (arc.output,)
