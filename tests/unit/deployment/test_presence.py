"""Success is looked at: dead devices and links that are down are named, and left out where others do.

Real switch processes and served workers. Oracle: which devices the journal's bundle uses afterwards, and
what devices hold. Blind spot: packets (tests/emulated/test_faults.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from finsy.proto import p4r
from networks import campus, topology
from processes import ProcessNetwork, processes

from orchestrator.deployment import adoption
from orchestrator.deployment.journal import sqlite_store
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import (
    Done,
    deploy_graph,
    prepare,
    shortcomings,
    undeploy_graph,
)
from orchestrator.deployment.presence import check_known, look, needed
from orchestrator.deployment.reconciling import inspect, reconcile
from orchestrator.deployment.recovery import changing
from orchestrator.errors import DeploymentError, StoreError
from orchestrator.linker.epochs import epoch_entry
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import PlacementRules, ServiceGraph
from orchestrator.model.plan import Core

pytestmark = pytest.mark.slow

GRAPH = campus(min_workers=1)
REASON = "link is down"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNetwork]:
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("net")
    patch.setenv("XDG_STATE_HOME", str(folder))
    with processes(topology("leaf-spine"), "softswitch", folder) as network:
        yield network
    patch.undo()


@pytest.fixture
def network(running: ProcessNetwork) -> Iterator[ProcessNetwork]:
    """All devices run, and nothing is on them; what a test stopped runs again after it, empty."""
    yield running
    for switch in running.switches.values():
        if switch.process.poll() is not None:
            switch.restart()
    for worker in running.workers.values():
        worker.restart()
    with changing(running.live):
        adoption.forget(running.live, adoption.strays(running.live))
    for name in running.live.journal.deployed():
        reconcile(running.live)
        undeploy_graph(name, running.live)
    reconcile(running.live)
    running.live.journal.clear()
    assert not any(seen.epochs for seen in look(running.live).devices.values())


def deployed(network: ProcessNetwork) -> Bundle:
    return network.live.journal.deployed()["campus"].bundle


def cores(bundle: Bundle) -> set[Core]:
    return {Core(worker.server, worker.core) for worker in bundle.workers}


def deploy(network: ProcessNetwork, graph: ServiceGraph = GRAPH) -> tuple[Done, list[str]]:
    told: list[str] = []
    return deploy_graph(graph, network.live, note=told.append), told


def pinned(server: str) -> ServiceGraph:
    return replace(GRAPH, placement=PlacementRules(pinned={"edge_nat": server}))


class TestWorkers:
    def test_a_dead_one_is_named_and_its_nfs_move(self, network: ProcessNetwork) -> None:
        deploy(network)
        (dead,) = cores(deployed(network))
        network.workers[dead].stop()
        assert any(network.workers[dead].name in line for line in shortcomings(
            network.live, network.live.journal.deployed(), look(network.live)
        ))  # fmt: skip
        planned = prepare(GRAPH, network.live)
        assert planned.summary
        assert dead in planned.presence.away.cores

        done, told = deploy(network)
        assert any(network.workers[dead].name in line for line in told)
        assert any("edge_nat moves from" in line for line in done.moves)
        assert dead not in cores(deployed(network))
        done, told = deploy(network)
        assert not done.summary
        assert any(network.workers[dead].name in line for line in told)

        (debt,) = network.live.journal.owed()
        assert debt.cores == (dead,)
        drift = reconcile(network.live)
        assert network.workers[dead].name in drift.waiting[0]
        assert not drift
        network.workers[dead].restart()
        reconcile(network.live)
        assert not network.live.journal.owed()

    def test_what_it_still_had_is_removed_when_it_answers_again(
        self, network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(network)
        (dead,) = cores(deployed(network))
        worker = network.live.inventory.cores[dead]
        unreachable = replace(worker, address=f"{worker.address}.nowhere")
        with monkeypatch.context() as patch:
            patch.setitem(network.live._workers, dead, unreachable)
            told = undeploy_graph("campus", network.live)
            assert "removed by `orchestrator reconcile" in told[0]
            assert network.live.journal.free_graph_id() == 2
            deploy(network)
            assert dead not in cores(deployed(network))
            assert deployed(network).graph_id == 2
        assert network.workers[dead].worker.tables.instances
        reconcile(network.live)
        assert not network.workers[dead].worker.tables.instances
        assert network.live.journal.free_graph_id() == 1
        assert not inspect(network.live)

    def test_no_other_will_do(self, network: ProcessNetwork) -> None:
        here = [core for core in network.workers if core.server == "server1"]
        deploy(network, pinned("server1"))
        before = deployed(network)
        for core in here:
            network.workers[core].stop()
        for attempt in (
            lambda: deploy(network, pinned("server1")),
            lambda: prepare(pinned("server1"), network.live),
        ):
            with pytest.raises(DeploymentError, match=r"(?s)server1.1: .*net restart server1.1"):
                attempt()
        assert deployed(network) == before

    def test_one_that_forgot_everything_is_no_success(self, network: ProcessNetwork) -> None:
        deploy(network)
        (core,) = cores(deployed(network))
        network.workers[core].restart()
        with pytest.raises(DeploymentError, match=r"must create NF .*orchestrator reconcile"):
            deploy(network)
        reconcile(network.live)
        done, _ = deploy(network)
        assert not done.summary


class TestSwitches:
    def test_a_dead_spine_is_gone_round(self, network: ProcessNetwork) -> None:
        deploy(network)
        network.switches["spine1"].kill()
        _, told = deploy(network)
        assert "spine1: no answer" in told[0]
        presence = look(network.live)
        assert not needed(deployed(network), network.live.topology, presence.away)
        assert reconcile(network.live).unreachable
        network.switches["spine1"].restart()
        with pytest.raises(DeploymentError, match=r"spine1 runs no pipeline .*reconcile"):
            deploy(network)
        reconcile(network.live)
        deploy(network)
        assert not inspect(network.live)

    def test_hosts_behind_a_dead_leaf_are_cut_off(self, network: ProcessNetwork) -> None:
        deploy(network)
        before = deployed(network)
        network.switches["leaf2"].kill()
        with pytest.raises(DeploymentError, match=r"no host of endpoint \w+ can be reached: leaf2"):
            deploy(network)
        assert deployed(network) == before

    def test_undeploying_does_not_wait_for_a_dead_one(self, network: ProcessNetwork) -> None:
        deploy(network)
        network.switches["leaf2"].kill()
        (told,) = undeploy_graph("campus", network.live)
        assert told.startswith("leaf2: no answer")
        assert not network.live.journal.deployed()
        network.switches["leaf2"].restart()
        assert reconcile(network.live).reached_devices == {"leaf2"}
        assert not network.live.journal.owed()

    def test_entries_that_are_gone_are_no_success(self, network: ProcessNetwork) -> None:
        deploy(network)
        with network.live.device("leaf1") as other:
            other.pipeline_cookie()
            assert other.schema is not None
            row = next(iter(other.entries("acl.ipv4")))
            other.write(other.schema.updates([row.entry], row.graph, p4r.Update.DELETE))
        for attempt in (lambda: deploy(network), lambda: prepare(GRAPH, network.live)):
            with pytest.raises(DeploymentError, match=r"leaf1 needs 1 changes.*reconcile"):
                attempt()


class TestLinks:
    def down(self, monkeypatch: pytest.MonkeyPatch, *pairs: set[str]) -> None:
        links = {link: REASON for link in topology("leaf-spine").links if {link.a, link.b} in pairs}
        assert len(links) == len(pairs)
        monkeypatch.setattr(LiveNetwork, "links_down", lambda _: links)

    def test_another_tree_does(
        self, network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(network)
        spine = next(
            node
            for hop in deployed(network).plan.hops
            for node in ("spine1", "spine2")
            if {hop.source, hop.target} == {"leaf1", "leaf2"} and hop.tree == int(node[-1]) - 1
        )
        self.down(monkeypatch, {"leaf1", spine})
        presence = look(network.live)
        (lacking,) = shortcomings(network.live, network.live.journal.deployed(), presence)
        assert lacking.startswith(REASON)
        done, told = deploy(network)
        assert told == [REASON]
        assert done.summary
        assert not shortcomings(network.live, network.live.journal.deployed(), look(network.live))

    def test_a_server_is_reached_by_its_link_alone(
        self, network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(network)
        (core,) = cores(deployed(network))
        leaf = network.live.topology.servers[core.server]
        at = next(x for x in network.live.topology.links if leaf.name in (x.a, x.b))
        self.down(monkeypatch, {at.a, at.b})
        deploy(network)
        assert core.server not in {core_there.server for core_there in cores(deployed(network))}
        with pytest.raises(DeploymentError, match="links are to be brought up again"):
            deploy(network, pinned(core.server))

    def test_a_host_comes_and_goes_but_not_all_of_an_endpoint(
        self, network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(network)
        at = {
            link.a if link.a in ("h1", "h2") else link.b: link
            for link in network.live.topology.links
        }
        self.down(monkeypatch, {at["h1"].a, at["h1"].b})
        done, told = deploy(network)
        assert told == [f"{REASON}: host h1 cannot be reached"]
        assert not done.summary
        self.down(monkeypatch, {at["h1"].a, at["h1"].b}, {at["h2"].a, at["h2"].b})
        with pytest.raises(DeploymentError, match="no host of endpoint inside can be reached"):
            deploy(network)


class TestLostJournal:
    def lose(self, network: ProcessNetwork) -> None:
        path = sqlite_store(network.live.name).path
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.touch()

    def test_it_is_told_by_all(self, network: ProcessNetwork) -> None:
        deploy(network)
        self.lose(network)
        said = r"campus \(id 1\) on leaf1, leaf2.*--adopt FILE.*--forget"
        for attempt in (
            lambda: deploy(network),
            lambda: prepare(GRAPH, network.live),
            lambda: undeploy_graph("campus", network.live),
            lambda: check_known(network.live, look(network.live)),
        ):
            with pytest.raises(StoreError, match=said):
                attempt()

    def test_adopting_changes_no_device(self, network: ProcessNetwork) -> None:
        deploy(network)
        before = network.live.journal.deployed()["campus"]
        self.lose(network)
        with network.live.leading() as lead:
            other = replace(GRAPH, nfs={**GRAPH.nfs}, edges=GRAPH.edges, name="other")
            with pytest.raises(DeploymentError, match="no other is in force"):
                adoption.adopt(other, network.live, lead)
            with pytest.raises(DeploymentError, match="not what the file compiles to"):
                adoption.adopt(pinned("server2"), network.live, lead)
            adopted = adoption.adopt(GRAPH, network.live, lead)
        assert adopted.manifest == before.manifest
        assert not inspect(network.live)
        done, _ = deploy(network)
        assert not done.summary

    def test_forgetting_leaves_other_graphs_alone(self, network: ProcessNetwork) -> None:
        deploy(network)
        ghost = epoch_entry(7, 0)
        with network.live.device("leaf2") as other:
            other.pipeline_cookie()
            assert other.schema is not None
            other.write(other.schema.updates([ghost], "ghost", p4r.Update.INSERT))
        with pytest.raises(StoreError, match=r"ghost \(id 7\) on leaf2"):
            undeploy_graph("ghost", network.live)
        with changing(network.live):
            drift = adoption.forget(network.live, adoption.strays(network.live))
        assert [len(device.difference) for device in drift.devices if device] == [1]
        assert not inspect(network.live)

    def test_forgetting_all_leaves_nothing(self, network: ProcessNetwork) -> None:
        deploy(network)
        self.lose(network)
        with changing(network.live):
            adoption.forget(network.live, adoption.strays(network.live))
        assert not adoption.strays(network.live)
        assert not any(worker.worker.tables.instances for worker in network.workers.values())
        with network.live.device("leaf1") as switch:
            switch.pipeline_cookie()
            assert not list(switch.entries())
