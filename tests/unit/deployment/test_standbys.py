"""A graph whose NFs have standbys: deployed, its server killed, and on again elsewhere.

Oracle: by hand: what was open stays open, with the same outside port, from whatever worker.
Blind spot: processes and threads (test_replicate_calls.py), detection (tests/unit/upkeep).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from networks import topology
from scapy.layers.inet import TCP, UDP
from test_state_across_updates import POOL, WHERE, Site, firewall, graph, napt

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.following import StateReplication, state_of
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.standbys import followings
from orchestrator.deployment.summary import summarise
from orchestrator.errors import InfeasibleError, InputError
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph, StandbyRule
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from servernf.python.runtime.standbys import LEASE_US

HOSTS = [f"10.0.1.{n}" for n in range(11, 51)]
DATAGRAM = UDP(sport=4000, dport=53) / b"12345678"


def doubled(graph: ServiceGraph, server: str = "server2", **variants: str) -> ServiceGraph:
    """A graph whose NFs have standbys; per_packet where no other variant is said."""
    rules = {
        nf: StandbyRule(variants.get(nf, "per_packet"), server) for nf in variants or graph.nfs
    }
    return replace(
        graph,
        nfs={n: replace(nf, standby=rules.get(n)) for n, nf in graph.nfs.items()},
    )


def compiled(graph: ServiceGraph, old: Bundle | None = None, away: Away | None = None) -> Bundle:
    request = CompileRequest(graph, topology(WHERE), beside=old, away=away or Away())
    return compile_graph(request).bundle


class Doubled(Site):
    """A network in memory with a graph that has standbys; servers of it die."""

    def __init__(self, wanted: ServiceGraph) -> None:
        self.dead: dict[Core, str] = {}
        self.graph = wanted
        from update_support import WatchedNetwork

        self.network = WatchedNetwork(WHERE)
        self.running = compiled(wanted)
        self.told: tuple[str, ...] = ()
        self.network.run(plan(None, Version(self.running, None, True)))

    def change(self, wanted: ServiceGraph | None = None) -> Bundle:
        """Deploy the graph anew around what is dead; `told` is what moved, in words."""
        from orchestrator.deployment.execution import Executor

        away = Away(cores=self.dead)
        new = compiled(wanted or self.graph, self.running, away)
        before, after = Version(self.running, None, True), Version(new, None, True)
        transaction = plan(before, after)
        assert summarise(transaction, before, after).lost == ()
        executor = Executor(self.network, away=away)  # type: ignore[arg-type]
        done = executor.run(transaction)
        assert not done.amiss
        self.told = tuple(map(str, done.moved))
        self.running = new
        return new

    def kill(self, server: str) -> None:
        """Its workers are gone, with all that they had."""
        for core in self.network.memory.workers:
            if core.server == server:
                self.network.memory.renew_worker(core)
                self.dead[core] = f"{server} is dead"

    def mapped(self) -> dict[str, int]:
        """The outside port of each host."""
        ports: dict[str, int] = {}
        for host in HOSTS:
            out = self.out(DATAGRAM, source=host)
            assert out, host
            ports[host] = out[UDP].sport
        return ports

    def states(self) -> list[str]:
        return [state_of(self.network, following) for following in followings(self.running)]  # type: ignore[arg-type]


def servers(bundle: Bundle) -> list[str]:
    return [core.server for cores in bundle.plan.cores_of for core in cores]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_standby_takes_over_and_another_one_follows_it(workers: int) -> None:
    nat = (*napt()[:2], {"min_workers": workers})
    site = Doubled(doubled(graph(nat=nat)))
    assert servers(site.running) == ["server1"] * workers
    assert site.states() == ["following"] * workers
    ports = site.mapped()
    site.kill("server1")
    new = site.change()
    assert servers(new) == ["server2"]
    assert new.plan.standbys == ()
    assert "nat: no standby: they run on server2 themselves" in new.plan.notes
    assert len(site.told) == workers
    assert all("its standby takes over" in line for line in site.told)
    site.network.pause(LEASE_US / 1e6)
    assert site.mapped() == ports
    for port in ports.values():
        site.back(UDP(sport=53, dport=port) / b"12345678", POOL)
    site.dead.clear()  # server1 is back, with nothing on it
    again = site.change()
    assert set(servers(again)) == {"server1"}
    assert [standby.core.server for standby in again.plan.standbys] == ["server2"]
    assert site.states() == ["following"] * workers
    assert site.mapped() == ports


@pytest.mark.slow
def test_connections_through_a_chain_outlive_their_server() -> None:
    site = Doubled(doubled(graph(fw=firewall(), nat=napt()), nat="on_syn_fin", fw="per_packet"))
    assert len(followings(site.running)) == 2
    for sport in range(4000, 4020):
        out = site.out(TCP(sport=sport, dport=22, flags="S", seq=9))
        assert out
        assert site.back(TCP(sport=22, dport=out[TCP].sport, flags="SA", ack=10), POOL)
        assert site.out(TCP(sport=sport, dport=22, flags="A", seq=10, ack=1))
    site.kill("server1")
    site.change()
    site.network.pause(LEASE_US / 1e6)
    for sport in range(4000, 4020):
        assert site.out(TCP(sport=sport, dport=22, flags="A", seq=10, ack=1))


@pytest.mark.exhaustive
def test_servers_that_die_again_and_again_lose_no_mapping() -> None:
    rng = random.Random(1)
    site = Doubled(doubled(graph(nat=napt())))
    ports = site.mapped()
    for _ in range(20):
        site.kill(servers(site.running)[0])
        site.change()
        site.network.pause(LEASE_US / 1e6)
        for host in rng.sample(HOSTS, 10):
            out = site.out(DATAGRAM, source=host)
            assert out
            assert out[UDP].sport == ports[host]
        site.dead.clear()
        site.change()
    assert site.mapped() == ports


@pytest.mark.slow
def test_a_standby_follows_another_configuration_and_ends_with_its_graph() -> None:
    site = Doubled(doubled(graph(nat=napt())))
    (first,) = followings(site.running)
    assert state_of(site.network, first) == "following"  # type: ignore[arg-type]
    site.change(doubled(graph(nat=napt("203.0.113.1", "203.0.113.2"))))
    (second,) = followings(site.running)
    assert first != second
    assert site.states() == ["following"]
    site.network.run(plan(Version(site.running, None, True), None))
    workers = site.network.memory.workers.values()
    assert not any(w.worker.getStatus(_status()).nfs for w in workers)


def _status() -> Any:
    from servernf.proto import vnf_pb2

    return vnf_pb2.StatusRequest()


@pytest.mark.slow
def test_a_standby_that_dies_leaves_the_graph_where_it_is() -> None:
    site = Doubled(doubled(graph(nat=napt())))
    ports = site.mapped()
    site.kill("server2")
    new = site.change()
    assert servers(new) == ["server1"]
    assert new.plan.standbys == ()
    assert site.mapped() == ports
    site.dead.clear()
    site.change()
    assert site.states() == ["following"]
    StateReplication(site.network, followings(site.running)[0]).start()  # type: ignore[arg-type]
    assert site.states() == ["following"]


class TestPlacement:
    def test_a_standby_has_a_core_of_its_own_and_memory(self) -> None:
        bundle = compiled(doubled(graph(nat=napt())))
        (standby,) = bundle.plan.standbys
        assert standby.core.server == "server2"
        one, two = (bundle.block_use[name]["memory_bytes"] for name in ("server1", "server2"))
        assert one == two > 0
        on = [w for w in bundle.workers if w.server == "server2"]
        assert [(list(w.nfs), w.chains) for w in on] == [(["nat"], ())]

    def test_nfs_do_not_run_where_their_standby_is(self) -> None:
        for server, other in (("server1", "server2"), ("server2", "server1")):
            assert servers(compiled(doubled(graph(nat=napt()), server))) == [other]

    def test_without_room_there_is_none_and_the_plan_says_why(self) -> None:
        where = topology(WHERE)
        full = replace(where.servers["server2"], memory_bytes=1 << 20)
        small = replace(where, servers={**where.servers, "server2": full})
        plan = planned(doubled(graph(nat=napt())), small)
        assert plan.standbys == ()
        assert "nat: no standby: server2 has not so much memory" in plan.notes
        alone = replace(where, servers={"server1": where.servers["server1"]})
        plan = planned(doubled(graph(nat=napt()), "server1"), alone)
        assert "nat: no standby: they run on server1 themselves" in plan.notes

    def test_another_server_is_an_error(self) -> None:
        with pytest.raises(InputError, match=r"nfs.nat.state.on: unknown server .* 'server9'"):
            compiled(doubled(graph(nat=napt()), "server9"))
        mixed = doubled(graph(fw=firewall(), nat=napt()))
        rule = StandbyRule("periodic", "server1")
        mixed = replace(mixed, nfs={**mixed.nfs, "fw": replace(mixed.nfs["fw"], standby=rule)})
        with pytest.raises(
            (InputError, InfeasibleError), match="have their standbys on one server"
        ):
            compiled(mixed)


def planned(wanted: ServiceGraph, where: Topology) -> Any:
    return compile_graph(CompileRequest(wanted, where)).bundle.plan
