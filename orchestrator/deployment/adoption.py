"""The way out when a journal was lost: what devices have in force is taken into it again, or removed.

Devices hold entries, not bundles, so a graph is adopted from its file: compiled (or as compiled) and
numbered as the devices say, it must be what they have, entry by entry. Its sampling secret is read back.
"""

from __future__ import annotations

from orchestrator.bundle.codec import Packed
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.fitting import for_network
from orchestrator.deployment.journal import Deployed, Lead, Owed, now
from orchestrator.deployment.presence import Presence, Stray, look
from orchestrator.deployment.reconcile import Drift, find_drift, repair
from orchestrator.deployment.specialising import builds_of, with_pipelines
from orchestrator.errors import DeploymentError, SwitchError
from orchestrator.graph.kept import dump_graph
from orchestrator.linker.renumbering import renumbered
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.manifest import MANIFESTS, SamplingSecret
from orchestrator.placement.resources import used_by
from orchestrator.targets.pipelines import Pipelines


def adopt(source: ServiceGraph | Packed, network: ManagedNetwork, lead: Lead) -> Deployed:
    """Take a graph that devices have in force into the journal; no device is changed.

    DeploymentError, and nothing noted, when they have none of that name, or another version of it.
    """
    name = source.bundle.graph if isinstance(source, Packed) else source.name
    presence, deployed = look(network), network.journal.deployed()
    strays = _strays(network, presence)
    stray = next((one for one in strays if one.graph == name), None)
    if stray is None:
        there = "; ".join(map(str, strays)) or "none"
        raise DeploymentError(
            f"{network.name}: no {name} is in force that the journal does not know (there are: {there})"
        )
    bundle = _bundle(source, network, deployed, stray)
    network.access.check_owner({name: bundle.owner})
    manifest = _manifest(network, stray) if bundle.sampling_rate else None
    kept = b"" if isinstance(source, Packed) else dump_graph(network.access.claimed(source))
    graph = Deployed(bundle, manifest, now(), kept)
    drift = find_drift(network.reading(), {name: graph}, away=presence.silent)
    if drift.words():
        raise DeploymentError(
            f"{name}: what is in force on {network.name} is not what the file compiles to: "
            f"{'; '.join(drift.words())}; nothing was changed (give the version that was deployed, by "
            "its bundle if it was placed beside others; or remove it: `orchestrator recover --forget`)"
        )
    lead.rewrite({name: graph})
    return graph


def _bundle(
    source: ServiceGraph | Packed,
    network: ManagedNetwork,
    deployed: dict[str, Deployed],
    stray: Stray,
) -> Bundle:
    from orchestrator.compile import CompileRequest, compile_graph

    topology, made = with_pipelines(network.topology, deployed), builds_of(deployed)
    if isinstance(source, Packed):
        bundle = network.access.claimed(for_network(source, topology, made))
        return renumbered(bundle, stray.graph_id)
    return compile_graph(
        CompileRequest(
            network.access.claimed(source),
            topology,
            graph_id=stray.graph_id,
            used=used_by({name: d.bundle for name, d in deployed.items()}, topology),
            builds=Pipelines.of(made),
        )
    ).bundle


def _manifest(network: ManagedNetwork, stray: Stray) -> SamplingSecret | None:
    """The sampling secret that a switch has for a graph."""
    with network.reading().device(stray.devices[0]) as driver:
        if driver.pipeline_cookie() is None:
            raise SwitchError(f"{stray.devices[0]}: runs no pipeline (has it restarted?)")
        for entry in driver.entries(MANIFESTS):
            if dict(entry.entry.keys).get("graph") == Exact(stray.graph_id):
                secret = dict(entry.entry.params)
                return SamplingSecret(
                    stray.graph_id, secret["below"], secret["key0"], secret["key1"]
                )
    return None


def strays(network: ManagedNetwork) -> tuple[Stray, ...]:
    """Graphs in force that the journal does not know."""
    return _strays(network, look(network))


def _strays(network: ManagedNetwork, presence: Presence) -> tuple[Stray, ...]:
    return presence.strays(network.journal.known_ids())


def forget(network: ManagedNetwork, left: tuple[Stray, ...]) -> Drift:
    """Remove graphs that the journal does not know from all devices; those it knows stay as they are.

    Devices that do not answer are in the result's `waiting` or `unreachable`: they must be cleaned by
    another `forget` when they do.
    """
    switches, cores = tuple(network.topology.switches), network.cores
    owed = tuple(Owed(stray.graph, stray.graph_id, switches, cores) for stray in left)
    return repair(network, network.journal.deployed(), owed=owed)
