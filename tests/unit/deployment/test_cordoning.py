"""What is cordoned is kept with the journal, and placement keeps off it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from networks import campus, compiled, topology

from orchestrator.deployment.access import Access
from orchestrator.deployment.cordoning import cordon, cordon_of, uncordon
from orchestrator.deployment.journal import Deployed, Journal, Lead
from orchestrator.deployment.placing import placed
from orchestrator.errors import DeploymentError, InputError
from orchestrator.model.away import Away, Cordon
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric

GRAPH = campus(min_workers=1)


@dataclass
class Network:
    """As much of a network as placement asks of it."""

    name: str = "net"
    topology: Topology = field(default_factory=lambda: topology("leaf-spine"))
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        self.journal = Journal(self.name)

    @property
    def cores(self) -> tuple[Core, ...]:
        return tuple(Core(s, i) for s in ("server1", "server2") for i in range(3))

    def worker_name(self, core: Core) -> str:
        return str(core)

    @contextmanager
    def leading(self, wait_s: float = 1.0) -> Generator[Lead]:
        with self.journal.lead(wait_s) as lead:
            yield lead


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Network()


def place(network: Network, there: Bundle | None = None) -> Bundle:
    deployed = {} if there is None else {there.graph: Deployed(there, None, "now")}
    return placed(GRAPH, network, deployed, away=Away())  # type: ignore[arg-type]


def cores(bundle: Bundle) -> set[Core]:
    return {Core(worker.server, worker.core) for worker in bundle.workers}


def test_they_are_kept_and_let_go(network: Network) -> None:
    assert cordon(network, ["server2", "server1.2", "spine1"]) == (  # type: ignore[arg-type]
        "server1.2",
        "server2",
        "spine1",
    )
    kept = cordon_of(network)  # type: ignore[arg-type]
    assert kept == Cordon(
        frozenset({"spine1"}),
        frozenset({Core("server1", 1), *(Core("server2", i) for i in range(3))}),
    )
    assert uncordon(network, ["server2"]) == ("server1.2", "spine1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown cordoned device or core 'server2'"):
        uncordon(network, ["server2"])  # type: ignore[arg-type]
    network.journal.clear()
    assert not cordon_of(network)  # type: ignore[arg-type]


def test_a_wrong_name_changes_nothing(network: Network) -> None:
    with pytest.raises(InputError, match=r"'server1.9'; did you mean 'server1\.\d'"):
        cordon(network, ["spine1", "server1.9"])  # type: ignore[arg-type]
    assert network.journal.cordoned() == ()


def test_placement_keeps_off_a_core_and_a_deployed_graph_leaves_it(network: Network) -> None:
    first = place(network)
    (core,) = cores(first)
    assert cores(place(network, first)) == {core}
    cordon(network, [network.worker_name(core)])  # type: ignore[arg-type]
    assert core not in cores(place(network))
    moved = place(network, first)
    assert core not in cores(moved)
    assert {c.server for c in cores(moved)} == {core.server}, "no farther than it must"


def test_packets_go_round_a_cordoned_spine(network: Network) -> None:
    cordon(network, ["spine1"])  # type: ignore[arg-type]
    fabric = Fabric(network.topology)
    for hop in place(network).plan.hops:
        assert "spine1" not in fabric.path(hop.source, hop.target, hop.tree)


def test_a_leaf_goes_on_serving_its_hosts_only(network: Network) -> None:
    first = place(network)
    cordon(network, ["leaf2"])  # type: ignore[arg-type]
    bundle = place(network)
    assert first.endpoints == bundle.endpoints
    placed_there = [u for u, s in bundle.plan.device_of.items() if s == "leaf2"]
    assert all(unit.startswith("deliver.") for unit in placed_there)


def test_where_nothing_else_will_do_it_is_said(network: Network) -> None:
    cordon(network, ["server1", "server2"])  # type: ignore[arg-type]
    with pytest.raises(DeploymentError, match=r"(?s)server1\.1 is cordoned.*uncordon server1\.1"):
        place(network)


def test_a_bundle_that_needs_it_is_refused(network: Network) -> None:
    from orchestrator.deployment.around import check_bundle

    bundle = compiled(GRAPH).bundle
    (core,) = cores(bundle)
    away = Away(cordon=Cordon(cores=frozenset({core})))
    with pytest.raises(DeploymentError, match=r"server\d\.\d is cordoned"):
        check_bundle(bundle, away, network)  # type: ignore[arg-type]
    check_bundle(bundle, Away(cordon=Cordon(frozenset({"spine1"}))), network)  # type: ignore[arg-type]
