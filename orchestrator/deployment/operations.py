"""Deploy and undeploy graphs on a network that keeps a journal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.deployment.apply import Applied, applied
from orchestrator.deployment.execution import Progress
from orchestrator.deployment.interrupts import held_interrupts
from orchestrator.deployment.journal import Deployed, Lead, now
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.overlap import check_overlap
from orchestrator.deployment.recovery import Note, carry_out, changing
from orchestrator.errors import DeploymentError, OrchestratorError, unknown
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core
from orchestrator.verification.manifest import new_manifest

if TYPE_CHECKING:
    from orchestrator.pipeline import Compiled


@dataclass(frozen=True, slots=True)
class Done:
    """A finished deployment; `synthesis_delay_s` is the compiler's and the solver's time."""

    compiled: Compiled
    applied: Applied
    synthesis_delay_s: float


def deploy_graph(
    graph: ServiceGraph,
    network: LiveNetwork,
    *,
    replace: bool = False,
    warnings: tuple[str, ...] = (),
    progress: Progress | None = None,
    note: Note | None = None,
) -> Done:
    """Compile for what is free on the network and put it there, or leave all as it was (Ctrl-C, too).

    `note` hears of changes that others left unfinished.
    """
    with changing(network, note=note) as lead:
        return _deploy(graph, network, lead, replace, warnings, progress)


def _deploy(
    graph: ServiceGraph,
    network: LiveNetwork,
    lead: Lead,
    replace: bool,
    warnings: tuple[str, ...],
    progress: Progress | None,
) -> Done:
    from orchestrator.pipeline import compile_graph, used_by

    graph = network.access.claimed(graph)
    deployed = network.journal.deployed()
    if graph.name in deployed:
        network.access.check_owner({graph.name: deployed[graph.name].bundle.owner})
        if not replace:
            raise DeploymentError(
                f"{graph.name} is already deployed on {network.name}; "
                f"undeploy it first, or say --replace"
            )
        _undeploy(graph.name, network, lead)
        deployed = network.journal.deployed()
    started = time.monotonic()
    compiled = compile_graph(
        graph,
        network.topology,
        graph_id=network.journal.free_graph_id(),
        used=used_by({name: d.bundle for name, d in deployed.items()}, network.topology),
        warnings=warnings,
    )
    synthesis = time.monotonic() - started
    bundle = compiled.bundle
    check_overlap(bundle, {name: d.bundle for name, d in deployed.items()})
    manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
    with held_interrupts() as check:

        def report(switch: str, count: int) -> None:
            check()
            if progress is not None:
                progress(switch, count)

        new = Deployed(bundle, manifest, now())
        executed = carry_out(network, lead, graph.name, new, progress=report)
    return Done(compiled, applied(executed), synthesis)


def undeploy_graph(name: str, network: LiveNetwork, *, note: Note | None = None) -> tuple[str, ...]:
    """Take a graph off; the last one takes the fabric's entries with it.

    Returns what was amiss: workers that did not answer, and so have nothing left to remove.
    """
    with changing(network, note=note) as lead:
        return _undeploy(name, network, lead)


def _undeploy(name: str, network: LiveNetwork, lead: Lead) -> tuple[str, ...]:
    deployed = network.journal.deployed()
    if name not in deployed:
        raise DeploymentError(f"{network.name}: {unknown('graph', name, tuple(deployed))}")
    with held_interrupts():
        return tuple(carry_out(network, lead, name, None, forgiving=True).amiss)


def deployed_graphs(network: LiveNetwork) -> dict[str, Deployed]:
    """Graphs that the journal says are deployed."""
    return network.journal.deployed()


def worker_metrics(
    network: LiveNetwork, deployed: dict[str, Deployed]
) -> dict[str, dict[str, int]]:
    """queryMetrics of every worker that runs a deployed graph; a dead one says so with -1."""
    cores = {Core(w.server, w.core) for d in deployed.values() for w in d.bundle.workers}
    metrics: dict[str, dict[str, int]] = {}
    for core in sorted(cores, key=lambda c: (c.server, c.index)):
        name = f"{core.server}.{core.index + 1}"
        try:
            with network.worker(core) as worker:
                metrics[name] = worker.metrics()
        except OrchestratorError:
            metrics[name] = {"unreachable": -1}
    return metrics
