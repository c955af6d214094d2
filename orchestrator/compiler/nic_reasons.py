"""Why units are on a SmartNIC: placement puts them there only where switches cannot have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.model.cuts import Cuts, Unit
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.network.fabric import Fabric
from orchestrator.targets.pipelines import Pipeline, footprint


def why_on_nics(
    cuts: Cuts,
    plan: Plan,
    graph: ServiceGraph,
    fabric: Fabric,
    free: Callable[[], Mapping[str, Mapping[str, int]]],
    pipelines: Mapping[str, Pipeline],
) -> dict[str, str]:
    """By unit that is on a NIC. `free` tells what this graph may take of devices, by 'block.table'."""
    nics = {n: s for n, s in fabric.topology.switches.items() if s.server}
    if nics.keys().isdisjoint(plan.device_of.values()):
        return {}
    before: dict[str, list[str]] = {}
    for arc in cuts.arcs:
        before.setdefault(arc.target, []).append(arc.source)

    def why(unit: Unit, nic: str) -> str:
        if plan_of.get(unit.nf) == nic:
            return f"placement.pin says {nic}"
        for switch in (unit.ingress, *fabric.before(nics[nic].server)):
            if not switch or switch == nic:
                continue
            for (block, table), need in footprint(unit, [pipelines[switch]]).items():
                room = rooms[switch].get(f"{block}.{table}", 0)
                if need > room:
                    return (
                        f"{switch} has room for {room} entries of {block}.{table}, not for {need}"
                    )
        for source in before.get(unit.id, ()):
            if plan.device_of.get(source) == nic:
                return f"behind {source}, which is there"
        return "no switch on the way holds it beside what is there, within all limits"

    plan_of, rooms = graph.placement.pinned, free()
    return {
        name: f"on a NIC: {why(cuts.units[name], device)}"
        for name, device in plan.device_of.items()
        if device in nics
    }
