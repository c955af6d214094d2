"""Deployed graphs that run elsewhere, with their state: single NFs, and all that is on a device."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from orchestrator.deployment.cordoning import cordon, cordon_of
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.operations import Done, Prepared, deploy_graph, prepare
from orchestrator.deployment.recovery import Note
from orchestrator.errors import DeploymentError, InputError, unknown
from orchestrator.graph.kept import restored
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Prefix
from orchestrator.model.plan import Core, Region
from orchestrator.nfs.values import parse_prefix
from orchestrator.placement.running import Moving, running_of
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


def core_named(network: ManagedNetwork, name: str, graph: str) -> Core:
    """The core of a worker's name, or of a server's the first that a graph can have; InputError when it
    can have none."""
    cores = {network.worker_name(core): core for core in network.cores}
    servers = dict.fromkeys(core.server for core in network.cores)
    if name not in cores and name not in servers:
        raise InputError(f"to: {unknown('core or server', name, (*cores, *servers))}")
    asked = [name] if name in cores else [n for n, core in cores.items() if core.server == name]
    problems = [why for n in asked if (why := _hindrance(network, n, cores[n], graph))]
    if len(problems) == len(asked):
        raise InputError([f"to: {why}" for why in problems])
    able = [cores[n] for n in asked if not _hindrance(network, n, cores[n], graph)]
    deployed = network.journal.deployed().get(graph)
    own = {Core(w.server, w.core) for w in deployed.bundle.workers} if deployed else set[Core]()
    return min(able, key=lambda core: core in own)  # one that it has not yet, where there is one


def on_other_runtimes(network: ManagedNetwork, graph: str, runtime: str) -> tuple[str, ...]:
    """NFs of a graph on servers of other runtimes: one for all that share their cores."""
    _kept(network, graph)
    cores_of = running_of(network.journal.deployed()[graph].bundle).cores_of
    servers = network.topology.servers
    reasons: dict[tuple[Core, ...], str] = {}
    for nf, cores in cores_of.items():
        if servers[cores[0].server].runtime != runtime:
            reasons.setdefault(tuple(cores), nf)
    return tuple(reasons.values())


def core_of_runtime(network: ManagedNetwork, name: str, graph: str) -> Core:
    """The first core that a graph can have of a server of a runtime; InputError when there is none."""
    servers = {server: described.runtime for server, described in network.topology.servers.items()}
    here = [server for server, described in servers.items() if described == name]
    if not here:
        raise InputError(f"runtime: {unknown('runtime', name, sorted(set(servers.values())))}")
    problems: list[str] = []
    for server in here:
        try:
            return core_named(network, server, graph)
        except InputError as error:
            problems += error.problems
    raise InputError(problems)


def _hindrance(network: ManagedNetwork, name: str, core: Core, graph: str) -> str:
    """Why a graph cannot run on a core."""
    if core in cordon_of(network).cores:
        return f"{name} is cordoned (`orchestrator uncordon {name}`)"
    for other, deployed in network.journal.deployed().items():
        if other != graph and core in {Core(w.server, w.core) for w in deployed.bundle.workers}:
            return f"{name} runs {other}, and a core is one graph's"
    return ""


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
    used = {core.server for core in cores} | {network.worker_name(core) for core in cores}
    return used | set(deployed.bundle.plan.device_of.values())


def space_named(inside: str, outside: str) -> Region:
    """The flow space of two prefixes, as NFs name addresses; "": all."""
    prefixes: list[Prefix | None] = []
    problems: list[str] = []
    for name, text in (("inside", inside), ("outside", outside)):
        try:
            prefixes.append(parse_prefix(text) if text else None)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if text and prefixes[-1] and not prefixes[-1].length:
            problems.append(f"{name}: {text} is all flows: leave it out")
    if problems:
        raise InputError(problems)
    return Region(*prefixes)


def nf_named(text: str) -> tuple[str, str]:
    """The graph and the NF of "GRAPH/NF"."""
    graph, _, nf = text.partition("/")
    if not graph or not nf:
        raise InputError(f"nf: '{text}' must be GRAPH/NF")
    return graph, base_name(nf)
