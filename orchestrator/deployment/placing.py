"""Where a graph would go on a network: beside what is there, around what is away. Nothing is changed.

Deploying, repairing what died and asking what a failure would mean all come here, so they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.bundle.codec import Packed
from orchestrator.deployment.around import check_bundle, compile_around
from orchestrator.deployment.cordoning import cordon_of
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.fitting import beside, for_network
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.specialising import builds_of, with_pipelines
from orchestrator.memo import Memo
from orchestrator.model.away import Away
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.placement.resources import used_by
from orchestrator.targets.pipelines import Pipelines

if TYPE_CHECKING:
    from orchestrator.placement.resources import Used
    from orchestrator.placement.running import Moving


OnStep = Callable[[str], None]
"""Hears, in words, what is done next."""


def unheard(_step: str) -> None:
    """For whom nobody waits."""


def graph_name(graph: ServiceGraph | Packed) -> str:
    """The name of what is to be placed."""
    return graph.bundle.graph if isinstance(graph, Packed) else graph.name


def placed(
    graph: ServiceGraph | Packed,
    network: ManagedNetwork,
    deployed: Mapping[str, Deployed],
    used: Used | None = None,
    *,
    away: Away,
    warnings: tuple[str, ...] = (),
    pipeline: Build | None = None,
    moving: Moving | None = None,
    memo: Memo | None = None,
    step: OnStep = unheard,
) -> Bundle:
    """The graph compiled for what is free, near its version in `deployed`; a bundle, if it fits there.

    `used` is what others than it hold (`placement.resources.used_by`), if that is known. DeploymentError
    names what is `away` or cordoned where nothing else will do. `pipeline` is for all switches; without
    it they keep what the deployed graphs say that they run. `moving`: what shall run elsewhere. `memo`
    is of whoever places it again. `step` hears what is done next.
    """
    from orchestrator.compile import CompileRequest, compile_graph

    away = replace(away, cordon=cordon_of(network))
    name = graph_name(graph)
    old = deployed.get(name)
    topology = with_pipelines(network.topology, deployed, "" if pipeline is None else pipeline.name)
    made = [*builds_of(deployed), *([] if pipeline is None else [pipeline])]
    if used is None:
        used = used_by({n: d.bundle for n, d in deployed.items() if n != name}, topology)
    free_id = network.journal.free_graph_id(deployed)
    if isinstance(graph, Packed):
        bundle = network.access.claimed(for_network(graph, topology, made))
        bundle = beside(bundle, topology, deployed, used, free_id)
        check_bundle(bundle, away, network)
        return bundle

    def compiled(kept: ServiceGraph, left_out: Away) -> Bundle:
        return compile_graph(
            CompileRequest(
                kept,
                topology,
                graph_id=free_id,
                used=used,
                warnings=warnings,
                beside=None if old is None else old.bundle,
                away=left_out,
                builds=Pipelines.of(made),
                moving=moving,
                memo=Memo() if memo is None else memo,
                step=step,
            )
        ).bundle

    return compile_around(network.access.claimed(graph), away, network, compiled)
