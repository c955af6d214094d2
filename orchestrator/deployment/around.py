"""A graph compiled around what of a network is away, or the reason why that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.presence import needed
from orchestrator.errors import CompileError, DeploymentError, InfeasibleError, InputError
from orchestrator.model.away import Away, Cordon
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core
from orchestrator.network.fabric import Fabric
from orchestrator.placement.running import running_of


def compile_around(
    graph: ServiceGraph,
    away: Away,
    network: ManagedNetwork,
    compiled: Callable[[ServiceGraph, Away], Bundle],
) -> Bundle:
    """What `compiled` makes of the graph without what is away.

    DeploymentError that names it when the graph could be placed with it, but not without; else
    whatever error the graph has anyhow.
    """
    if not away:
        return compiled(graph, away)
    kept = reachable(graph, away, network)
    try:
        return compiled(kept, away)
    except (InfeasibleError, CompileError, InputError) as error:
        compiled(graph, Away())
        raise DeploymentError(
            f"{graph.name}: cannot be placed without what does not answer, is down or cordoned: "
            f"{'; '.join(away.words())}; without it: {error}; nothing was changed "
            f"({advice(away, network)})"
        ) from error


def reachable(graph: ServiceGraph, away: Away, network: ManagedNetwork) -> ServiceGraph:
    """The graph without hosts behind switches that are away; those with a link that is down stay in it.

    DeploymentError when no host of an endpoint is left.
    """
    topology = network.topology
    attached, at = Fabric(topology).attachments, Fabric(topology, away).attachments
    for endpoint in graph.endpoints.values():
        if endpoint.hosts and all(h in away.hosts or h not in at for h in endpoint.hosts):
            behind = (attached[h].switch for h in endpoint.hosts if h in attached)
            why = [away.hosts[h] for h in endpoint.hosts if h in away.hosts]
            why += [away.devices[s] for s in dict.fromkeys(behind) if s in away.devices]
            raise DeploymentError(
                f"{graph.name}: no host of endpoint {endpoint.name} can be reached: "
                f"{'; '.join(why)}; nothing was changed ({advice(away, network)})"
            )
    endpoints = {
        name: replace(e, hosts=tuple(h for h in e.hosts if h in at))
        for name, e in graph.endpoints.items()
    }
    return replace(graph, endpoints=endpoints)


def check_bundle(bundle: Bundle, away: Away, network: ManagedNetwork) -> None:
    """DeploymentError when a bundle, whose placement is fixed, needs what is away."""
    missing = needed(bundle, network.topology, away)
    taken = away.cordon.cores & {Core(worker.server, worker.core) for worker in bundle.workers}
    taken_switches = away.cordon.switches & set(bundle.plan.device_of.values())
    missing = replace(missing, cordon=Cordon(taken_switches, taken))
    if missing:
        raise DeploymentError(
            f"{bundle.graph}: the bundle's placement needs what does not answer, is down or cordoned: "
            f"{'; '.join(missing.words())}; nothing was changed (deploying graph.json places it anew; "
            f"or {advice(missing, network)})"
        )


def moves(old: Bundle, new: Bundle, away: Away) -> Iterator[str]:
    """What leaves devices that are away, in words."""
    before, after = running_of(old), running_of(new)
    for nf, cores in before.cores_of.items():
        if not away.cores.keys().isdisjoint(cores) and nf in after.cores_of:
            here, there = (", ".join(map(str, side)) for side in (cores, after.cores_of[nf]))
            yield f"{nf} moves from {here} to {there}"
    for unit, switch in before.device_of.items():
        if switch in away.devices and unit in after.device_of:
            yield f"{unit} moves from {switch} to {after.device_of[unit]}"


def advice(away: Away, network: ManagedNetwork) -> str:
    """What to do about it."""
    devices = [*away.devices, *(network.worker_name(c) for c in network.cores if c in away.cores)]
    told: list[str] = []
    if devices:
        told.append(
            f"`orchestrator net restart {devices[0]} -n {network.name}` starts a device again, and then "
            f"`orchestrator reconcile {network.name}` gives it what it had"
        )
    if away.links or away.hosts:
        told.append("links are to be brought up again")
    if away.cordon:
        cores = map(network.worker_name, away.cordon.cores)
        names = " ".join(sorted((*away.cordon.switches, *cores)))
        told.append(
            f"`orchestrator uncordon {names} -n {network.name}` lets placement use them again"
        )
    return "; ".join(told)
