"""Deployed graphs that run elsewhere, with their state: single NFs, and all that is on a device."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from orchestrator.deployment.cordoning import cordon
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.operations import Done, Prepared, deploy_graph, prepare
from orchestrator.deployment.recovery import Note
from orchestrator.errors import DeploymentError, InputError, unknown
from orchestrator.graph.kept import restored
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving
from servernf.wire.instances import base_name


def move(network: ManagedNetwork, name: str, moving: Moving, *, note: Note | None = None) -> Done:
    """Have buckets of a deployed graph's NF run on another core, as one update of the graph."""
    return deploy_graph(_kept(network, name), network, note=note, moving=moving)


def foreseen(network: ManagedNetwork, name: str, moving: Moving) -> Prepared:
    """What `move` would change; nothing is."""
    return prepare(_kept(network, name), network, moving=moving)


def drain(
    network: ManagedNetwork, names: Collection[str], *, note: Note | None = None
) -> Iterator[tuple[str, Done]]:
    """Cordon devices or cores, then have each graph that runs there run elsewhere.

    What cannot go elsewhere stays, and DeploymentError says so; what is cordoned stays that, until
    `uncordon`.
    """
    cordon(network, names)
    for graph, deployed in network.journal.deployed().items():
        if set(names) & _used(network, deployed):
            yield graph, deploy_graph(_kept(network, graph), network, note=note)


def core_named(network: ManagedNetwork, name: str) -> Core:
    """The core of a worker's name; InputError when there is none."""
    known = {network.worker_name(core): core for core in network.cores}
    if name not in known:
        raise InputError(f"to: {unknown('core', name, tuple(known))}")
    return known[name]


def _kept(network: ManagedNetwork, name: str) -> ServiceGraph:
    deployed = network.journal.deployed()
    if name not in deployed:
        raise DeploymentError(f"{network.name}: {unknown('graph', name, tuple(deployed))}")
    if not deployed[name].source:
        raise DeploymentError(
            f"{name}: was deployed from a bundle, which is not placed anew: deploy its graph.json"
        )
    return restored(deployed[name].source, f"{network.name}: {name}")


def _used(network: ManagedNetwork, deployed: Deployed) -> set[str]:
    """Devices and workers that a graph runs on."""
    cores = [Core(worker.server, worker.core) for worker in deployed.bundle.workers]
    found = {core.server for core in cores} | {network.worker_name(core) for core in cores}
    return found | set(deployed.bundle.plan.device_of.values())


def nf_named(text: str) -> tuple[str, str]:
    """The graph and the NF of "GRAPH/NF"."""
    graph, _, nf = text.partition("/")
    if not graph or not nf:
        raise InputError(f"nf: '{text}' must be GRAPH/NF")
    return graph, base_name(nf)
