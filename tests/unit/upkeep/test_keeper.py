"""A network kept while its devices die: real switch processes and served workers, no packets.

Oracle: what was foreseen for the same failure, and what devices hold. Blind spot: packets
(tests/emulated/test_devices_die.py).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from networks import campus, make_graph, one_way, permits, topology
from processes import ProcessNetwork, processes
from support import eventually

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph, undeploy_graph
from orchestrator.deployment.reconciling import inspect, reconcile
from orchestrator.errors import InputError, NetworkError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph, StandbyRule
from orchestrator.model.plan import Core
from orchestrator.network.fabric import Fabric
from orchestrator.network.facilities import Restarter
from orchestrator.network.inventory import forget_inventory, load_inventory, save_inventory
from orchestrator.observation.conditions import recorded
from orchestrator.observation.liveness import DOWN, UP, Subject
from orchestrator.oracle import frames
from orchestrator.upkeep.events import Event, PlacedAnew, RepairProblem, Restarted, SubjectChanged
from orchestrator.upkeep.foresight import failing, foresee
from orchestrator.upkeep.keeper import NetworkKeeper
from servernf.python.runtime.tables import ToNf
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh

pytestmark = pytest.mark.slow

GRAPH = campus(min_workers=1)
INTERVAL_S = 0.3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNetwork]:
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        with processes(topology("leaf-spine"), "softswitch", folder) as network:
            save_inventory(network.inventory)
            yield network


@pytest.fixture
def network(running: ProcessNetwork) -> Iterator[ProcessNetwork]:
    """The campus graph is deployed; what a test stopped runs again after it."""
    deploy_graph(GRAPH, running.live)
    yield running
    for switch in running.switches.values():
        switch.process.send_signal(signal.SIGCONT)
        if switch.process.poll() is not None:
            switch.restart()
    for worker in running.workers.values():
        worker.restart()
    reconcile(running.live)
    for name in running.live.journal.deployed():
        undeploy_graph(name, running.live)
    reconcile(running.live)


class Starter:
    """Starts the workers of a network again, or cannot."""

    def __init__(self, network: ProcessNetwork, *, can: bool = True) -> None:
        self.network, self.can = network, can

    def restart(self, worker: str) -> None:
        if not self.can:
            raise NetworkError("its server does not answer")
        next(w for w in self.network.workers.values() if w.name == worker).restart()


class Kept:
    """The events so far of a keeper that runs."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def comes(self, kind: type[Any], count: int = 1) -> Any:
        return eventually(
            lambda: self.of(kind)[count - 1 : count], what=f"{kind.__name__} {self.events}"
        )[0]


@contextmanager
def kept(network: ProcessNetwork, restarter: Restarter | None = None) -> Generator[Kept]:
    """Keep a network; all devices are known to be up when the block begins."""
    name, log = network.live.name, Kept()
    opened: Callable[[], LiveNetwork] = lambda: LiveNetwork(load_inventory(name))  # noqa: E731
    keeper = NetworkKeeper(opened, restarter, INTERVAL_S)
    told: list[str] = []

    def keep() -> None:
        try:
            log.events.extend(keeper.run())
        except NetworkError as error:
            told.append(str(error))

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    count = len(network.switches) + len(network.workers) + len(network.live.topology.links)
    eventually(lambda: len(recorded(network.inventory.folder)) == count, what="first answers")
    try:
        yield log
    finally:
        forget_inventory(name)  # as `net down` does
        thread.join(60)
        save_inventory(network.inventory)
    assert told == [f"{name}: the network is gone (its inventory was removed)"]


def deployed(network: ProcessNetwork) -> Bundle:
    return network.live.journal.deployed()["campus"].bundle


def core_of(network: ProcessNetwork) -> Core:
    (worker,) = deployed(network).workers
    return Core(worker.server, worker.core)


def foreseen(network: ProcessNetwork, *fail: str) -> Bundle:
    names = {network.live.worker_name(core): core for core in network.live.cores}
    away = failing(network.live.topology, names, fail)
    return foresee(network.live, away)["campus"].bundle


def state_of(network: ProcessNetwork, subject: Subject) -> str:
    return recorded(network.inventory.folder)[subject].state


def test_a_dead_worker_is_started_again_and_configured(network: ProcessNetwork) -> None:
    before, core = deployed(network), core_of(network)
    instances = set(network.workers[core].worker.tables.instances)
    with kept(network, Starter(network)) as keeper:
        network.workers[core].stop()
        assert keeper.comes(Restarted) == Restarted(network.workers[core].name)
        assert set(network.workers[core].worker.tables.instances) == instances
        eventually(
            lambda: keeper.of(SubjectChanged)[-1].change.now.state == UP, what="the worker is up"
        )
        assert not keeper.of(PlacedAnew)
        assert not keeper.of(RepairProblem)
    assert deployed(network) == before
    states = [event.change.now.state for event in keeper.of(SubjectChanged)]
    assert states == ["suspect", "down", "up"]


def test_one_that_does_not_start_is_left_as_foreseen(network: ProcessNetwork) -> None:
    core = core_of(network)
    name = network.workers[core].name
    wanted = foreseen(network, f"node:{name}")
    with kept(network, Starter(network, can=False)) as keeper:
        network.workers[core].stop()
        assert keeper.comes(Restarted) == Restarted(name, "its server does not answer")
        placed = keeper.comes(PlacedAnew)
        assert any("edge_nat moves from" in move for move in placed.moves)
        assert deployed(network).plan == wanted.plan
        assert core_of(network) != core
        assert network.live.journal.owed()
        network.workers[core].restart()  # by hand
        eventually(lambda: not network.live.journal.owed(), what="what is owed")
        assert len(keeper.of(PlacedAnew)) == 1, "what is back moves nothing"


def test_a_lost_server_is_left_as_foreseen(network: ProcessNetwork) -> None:
    server = core_of(network).server
    wanted = foreseen(network, f"node:{server}")
    with kept(network, Starter(network, can=False)) as keeper:
        for core, worker in network.workers.items():
            if core.server == server:
                worker.stop()
        keeper.comes(PlacedAnew)
        assert deployed(network).plan == wanted.plan
        assert core_of(network).server != server


def doubled(graph: ServiceGraph, server: str) -> ServiceGraph:
    """What has state has a standby."""
    rule = StandbyRule("per_packet", server)
    nfs = {
        name: replace(nf, standby=rule) if name in ("edge_nat", "edge_ids") else nf
        for name, nf in graph.nfs.items()
    }
    return replace(graph, nfs=nfs)


def mapped(worker: Worker, host: int) -> bytes:
    """What leaves a worker for a datagram from an inside address."""
    tables = worker.tables
    enters = ToNf("campus/edge_nat", "inside")
    path = next(at for at, to in tables.entries.items() if to == enters)
    datagram = frames.with_checksum(4, host, 0xC6336401, 17, frames.udp(5000, 53, b"12345678"))
    frame = frames.ethernet(frames.ip(4, host, 0xC6336401, 17, datagram), 0x0800, src=1)
    tag = nsh.Tag(worker.core_mac, 0x020000000001, path >> 8, path & 255)
    (left,) = worker.process([nsh.encode(tag, frame)])
    return left[-8 - len(datagram) :]


def test_a_standby_takes_over_at_once_and_follows_again(network: ProcessNetwork) -> None:
    deploy_graph(doubled(GRAPH, "server2"), network.live)
    standby = deployed(network).plan.standbys[0].core
    core = deployed(network).plan.cores_of[0][0]
    assert (core.server, standby.server) == ("server1", "server2")
    ports = [mapped(network.workers[core].worker, 0x0A000100 + n) for n in range(20)]
    assert not inspect(network.live)
    with kept(network, Starter(network)) as keeper:
        network.workers[core].stop()
        placed = keeper.comes(PlacedAnew)
        took = [line for line in placed.moves if "its standby takes over" in line]
        assert ["with 22 records" in line for line in took] == [True], placed.moves
        owner = network.workers[standby].worker
        eventually(lambda: not owner.process([]) and not owner.gates.all, what="its own scope")
        assert [mapped(owner, 0x0A000100 + n) for n in range(20)] == ports
        # The worker is started again, so that there is room for a standby.
        keeper.comes(PlacedAnew, 2)
        assert deployed(network).plan.cores_of[0][0].server == "server1"
        assert deployed(network).plan.standbys[0].core.server == "server2"
    primary = network.workers[deployed(network).plan.cores_of[0][0]].worker
    assert [mapped(primary, 0x0A000100 + n) for n in range(20)] == ports
    assert not inspect(network.live)


def test_a_standby_that_was_lost_follows_again(network: ProcessNetwork) -> None:
    deploy_graph(doubled(GRAPH, "server2"), network.live)
    standby = deployed(network).plan.standbys[0].core
    network.workers[standby].stop()
    network.workers[standby].restart()
    primary = network.workers[deployed(network).plan.cores_of[0][0]].worker
    mapped(primary, 0x0A000100)
    lines = inspect(network.live).words()
    assert any("server2.1 must create NF campus/edge_" in line for line in lines), lines
    assert any("edge_nat: server2.1 follows" in line and "lost" in line for line in lines)
    reconcile(network.live)
    assert not inspect(network.live)


def test_hosts_that_were_cut_off_are_taken_in_again(network: ProcessNetwork) -> None:
    graph = make_graph(
        {"fw": permits()},
        one_way("inside", "fw", "outside"),
        name="spread",
        endpoints={"inside": ("h1", "h3"), "outside": ("h2",)},
    )
    undeploy_graph("campus", network.live)
    deploy_graph(graph, network.live)

    def hosts() -> tuple[str, ...]:
        return network.live.journal.deployed()["spread"].bundle.endpoints["inside"]

    with kept(network) as keeper:
        network.switches["leaf2"].kill()
        keeper.comes(PlacedAnew)
        assert hosts() == ("h1",)
        network.switches["leaf2"].restart()
        keeper.comes(PlacedAnew, 2)
        assert hosts() == ("h1", "h3")
    assert not inspect(network.live)


def test_one_that_is_silent_holds_nobody_up(network: ProcessNetwork) -> None:
    """A switch that is stopped takes connections and says nothing: it is not asked by the repair."""
    core = core_of(network)
    with kept(network) as keeper:
        network.switches["spine2"].process.send_signal(signal.SIGSTOP)
        eventually(
            lambda: state_of(network, Subject("switch", "spine2")) == DOWN, what="spine2 is down"
        )
        count = len(keeper.of(PlacedAnew))
        network.workers[core].stop()
        keeper.comes(PlacedAnew, count + 1)
        assert core_of(network) != core
        network.switches["spine2"].process.send_signal(signal.SIGCONT)
        eventually(
            lambda: state_of(network, Subject("switch", "spine2")) == UP, what="spine2 is up"
        )


def test_one_that_dies_while_it_is_written_to_is_left_out(
    network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is begun there is undone without it, and the graph placed around it, while it is silent."""
    graph = make_graph(
        {"fw": permits()},
        one_way("inside", "fw", "outside"),
        name="spread",
        endpoints={"inside": ("h1", "h3"), "outside": ("h2",)},
    )
    undeploy_graph("campus", network.live)
    deploy_graph(graph, network.live)
    topology, bundle = network.live.topology, network.live.journal.deployed()["spread"].bundle
    hops = [Fabric(topology).path(h.source, h.target, h.tree) for h in bundle.plan.hops]
    (spine,) = {name for path in hops for name in path if name.startswith("spine")}
    written, real = threading.Event(), SwitchClient.write

    def write(session: SwitchClient, *updates: Any, **options: Any) -> int:
        if session.name == "leaf2" and not written.is_set():
            network.switches["leaf2"].process.send_signal(signal.SIGSTOP)
            written.set()
        return real(session, *updates, **options)

    with kept(network) as keeper:
        monkeypatch.setattr(SwitchClient, "write", write)
        network.switches[spine].kill()
        placed = keeper.comes(PlacedAnew)
        assert placed.graph == "spread"
        assert written.is_set()
        assert network.live.journal.deployed()["spread"].bundle.endpoints["inside"] == ("h1",)
        network.switches["leaf2"].process.send_signal(signal.SIGCONT)
        keeper.comes(PlacedAnew, 2)
    hosts = network.live.journal.deployed()["spread"].bundle.endpoints["inside"]
    assert hosts == ("h1", "h3")


def test_what_nothing_can_replace_is_told_once(network: ProcessNetwork) -> None:
    before = deployed(network)
    with kept(network) as keeper:
        network.switches["leaf2"].kill()
        problem = keeper.comes(RepairProblem)
        assert "no host of endpoint outside can be reached: leaf2" in problem.text
        assert deployed(network) == before


def test_what_a_dead_controller_left_is_finished_first(network: ProcessNetwork) -> None:
    before, core = deployed(network), core_of(network)
    other = network.live.journal.deployed()["campus"]
    with network.live.journal.lead() as lead:  # which ends here, before anything was done
        lead.intend("campus", replace(other, bundle=replace(before, sampling_rate=0.5)))
    network.workers[core].stop()
    with kept(network) as keeper:
        keeper.comes(PlacedAnew)
    assert network.live.journal.intent() is None
    assert core_of(network) != core
    assert deployed(network).sampling_rate == before.sampling_rate


def test_names_of_what_fails(network: ProcessNetwork) -> None:
    names = {network.live.worker_name(core): core for core in network.live.cores}
    with pytest.raises(
        InputError, match=r"node:spine3: unknown node 'spine3'; did you mean 'spine"
    ):
        failing(network.live.topology, names, ["node:spine3"])
    with pytest.raises(InputError, match=r"say link:a-b or node:name"):
        failing(network.live.topology, names, ["spine1"])
    away = failing(network.live.topology, names, ["node:server1.2", "link:leaf1-spine1"])
    assert list(away.cores) == [Core("server1", 1)]
    assert [{link.a, link.b} for link in away.links] == [{"leaf1", "spine1"}]
