"""A pipeline of their own under the graphs of a network; those that are there already move with it.

A switch forgets its entries when a pipeline is loaded, so a change of pipeline interrupts every graph:
it is announced, and made only when that is allowed. The other graphs' bundles then name the new
pipeline, in which their tables are as before, and reconciling installs what they ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.journal import Deployed, Lead
from orchestrator.deployment.reconcile import repair
from orchestrator.errors import DeploymentError
from orchestrator.model.away import Away
from orchestrator.model.builds import Build
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.placement.resources import used_by


def with_pipelines(
    topology: Topology, deployed: Mapping[str, Deployed], pipeline: str = ""
) -> Topology:
    """The topology with the pipelines that run, as deployed graphs say, or with this one everywhere."""
    running = {s: p for d in deployed.values() for s, (p, _) in d.bundle.pipeline_of.items()}
    switches = {
        name: replace(switch, pipeline=pipeline or running.get(name, switch.pipeline))
        for name, switch in topology.switches.items()
    }
    return replace(topology, switches=switches)


def builds_of(deployed: Mapping[str, Deployed]) -> tuple[Build, ...]:
    """The pipelines made for a network that graphs run on."""
    return tuple(dict.fromkeys(b for d in deployed.values() for b in d.bundle.builds))


def specialise(
    graph: ServiceGraph,
    network: ManagedNetwork,
    lead: Lead,
    away: Away,
    *,
    allow_change: bool,
    undeploy: Callable[[str], object],
    note: Callable[[str], None] | None = None,
) -> Build:
    """Make the pipeline that a graph and those beside it need, and load it where graphs are deployed.

    DeploymentError, and nothing changed, when that would interrupt graphs and is not
    allowed. An older version of the graph itself is removed before.
    """
    from orchestrator.compile import CompileRequest
    from orchestrator.compile_specialised import compile_specialised

    deployed = network.journal.deployed()
    others = {name: d for name, d in deployed.items() if name != graph.name}
    bundles = {name: d.bundle for name, d in others.items()}
    request = CompileRequest(
        graph,
        network.topology,
        graph_id=network.journal.free_graph_id(),
        used=used_by(bundles, network.topology),
        away=away,
    )
    compiled = compile_specialised(request, tuple(bundles.values()))
    pipeline_of = compiled.bundle.pipeline_of
    (pipeline,) = compiled.bundle.builds
    if all(d.bundle.pipeline_of == pipeline_of for d in deployed.values()):
        return pipeline
    told = (
        f"{graph.name}: switches {', '.join(pipeline_of)} get pipeline {pipeline.name}, which "
        f"interrupts {', '.join(sorted(deployed))}"
    )
    if not allow_change:
        raise DeploymentError(
            f"{told}; nothing was changed (--allow-pipeline-change loads it and installs their entries "
            "anew; without --specialise the pipeline that runs serves)"
        )
    if note is not None:
        note(told)
    if graph.name in deployed:
        undeploy(graph.name)
    moved = {
        name: replace(
            d, bundle=replace(d.bundle, devices=compiled.bundle.devices, builds=(pipeline,))
        )
        for name, d in others.items()
    }
    _move(network, lead, others, moved)
    return pipeline


def _move(
    network: ManagedNetwork,
    lead: Lead,
    before: Mapping[str, Deployed],
    after: Mapping[str, Deployed],
) -> None:
    """Load the pipeline of some graphs and install their entries; or everything is as it was."""
    if not after:
        return
    lead.rewrite(after)
    failures = repair(network, after).unreachable
    if not failures:
        return
    lead.rewrite(before)
    left = repair(network, before).unreachable
    raise DeploymentError(
        f"the pipeline cannot be changed: {'; '.join(failures)}; "
        + (
            f"`orchestrator reconcile` must repair {'; '.join(left)}"
            if left
            else "all is as before"
        )
    )
