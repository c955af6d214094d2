"""What there is to explain: a running network's switches and bundles, or a saved bundle's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.bundle.codec import read
from orchestrator.deployment.desired import desired_entries
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError
from orchestrator.graph import load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import TableEntry
from orchestrator.model.topology import Topology
from orchestrator.observation.at_once import at_once
from orchestrator.observation.journey import NetworkModel
from orchestrator.observation.sessions import reader
from orchestrator.observation.snapshot import (
    Snapshot,
    bundle_snapshots,
    read_snapshot,
    snapshot_of,
)


def should_be(deployed: Mapping[str, Deployed], switch: str) -> list[tuple[str, TableEntry]]:
    """(graph, entry) of all that the journal says is on a switch."""
    return list(desired_entries(deployed.values(), switch))


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network to explain: its replicas-to-be, and the bundles that its workers run."""

    topology: Topology
    snapshots: dict[str, Snapshot]
    bundles: tuple[Bundle, ...]

    def model(self) -> NetworkModel:
        """Replicas in this process."""
        return NetworkModel(self.topology, self.snapshots, self.bundles)

    def snapshot(self, switch: str) -> Snapshot:
        """One switch."""
        return snapshot_of(self.snapshots, switch)


def see_live(network: LiveNetwork) -> NetworkView:
    """Every switch of a running network as it is now."""

    def one(name: str) -> Snapshot:
        with reader(network, name) as client:
            return read_snapshot(client)

    names = list(network.topology.switches)
    snapshots = dict(zip(names, at_once(one, names), strict=True))
    bundles = tuple(d.bundle for d in network.journal.deployed().values())
    return NetworkView(network.topology, snapshots, bundles)


def see_bundle(path: Path, topology: str = "") -> NetworkView:
    """The network that a saved bundle would make."""
    packed = read(path)
    bundle = packed.bundle
    own = None if topology else packed.topology
    physical = own or load_topology(topology or bundle.topology)
    missing = set(bundle.pipeline_of) - set(physical.switches)
    if missing:
        raise InputError(
            f"{path}: topology {physical.name} has no switch {', '.join(sorted(missing))}; "
            "say which one the bundle was compiled for with --topology"
        )
    return NetworkView(physical, bundle_snapshots([bundle], str(path)), (bundle,))
