"""Updates that change the cores of an NF: its state goes along, and what was open stays open.

Oracle: by hand: connections that were opened before go on after, with the same outside port.
Blind spot: packets in flight on a network, threads (tests/unit/servernf/test_transfer_calls.py).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from networks import Spec, topology
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from test_state_across_updates import POOL, WHERE, Site, firewall, graph, napt
from update_support import update

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.handover import Moved, carry_out
from orchestrator.deployment.moves import StateMove, state_moves, without_state
from orchestrator.deployment.planning import COPY_STATE, HAND_OVER, Version
from orchestrator.deployment.scopes import MovedScope
from orchestrator.deployment.summary import summarise
from orchestrator.deployment.transaction import MoveState
from orchestrator.errors import DeploymentError, InputError, ServerError, ServerGone, SwitchError
from orchestrator.model.match import Prefix
from orchestrator.model.plan import ClassMap, Core, HashSlice, Region
from orchestrator.placement.running import Moving, running_of
from orchestrator.placement.running import moved as placed_elsewhere
from servernf.proto import vnf_pb2

pytestmark = pytest.mark.slow

HOSTS = [f"10.0.1.{n}" for n in range(11, 75)]
DATAGRAM = UDP(sport=4000, dport=53) / b"12345678"


def on(spec: Spec, workers: int) -> Spec:
    return (*spec[:2], {"min_workers": workers})


def mapped(site: Site) -> dict[str, int]:
    """The outside port of each host."""
    ports: dict[str, int] = {}
    for host in HOSTS:
        out = site.out(DATAGRAM, source=host)
        assert out
        ports[host] = out[UDP].sport
    return ports


def answered(site: Site, ports: dict[str, int]) -> None:
    """What comes back finds its mapping: no NF drops it (few of the hosts are there to get it)."""
    for port in ports.values():
        site.back(UDP(sport=53, dport=port) / b"12345678", POOL)
    assert not any(instance.nf.drops for instance in instances(site))


def instances(site: Site) -> list[Any]:
    workers = site.network.memory.workers.values()
    return [i for w in workers for i in w.worker.tables.instances.values()]


def moved(site: Site, **nfs: Any) -> tuple[str, ...]:
    """What the plan of an update says that moves, once it is done."""
    new = site.next(**nfs)
    transaction = update(site.running, new)
    told = summarise(transaction, Version(site.running, None), Version(new, None))
    assert told.lost == ()
    assert {COPY_STATE, HAND_OVER} <= {stage.title for stage in transaction.stages}
    site.network.run(transaction)
    site.running = new
    return told.moved


def test_mappings_go_along_with_their_buckets() -> None:
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    for workers in (2, 3, 1):
        told = moved(site, nat=on(napt(), workers))
        assert told
        assert all(line.startswith("nat: ") and " buckets from " in line for line in told)
        answered(site, ports)
        assert mapped(site) == ports
    records = [len(d.table.records) for i in instances(site) for d in i.nf.state.tables.values()]
    assert sum(records) == len(HOSTS)


def test_connections_of_a_pair_go_along() -> None:
    site = Site(fw=on(firewall(), 1))
    for host in HOSTS:
        assert site.out(TCP(sport=4000, dport=22, flags="S"), source=host)
        site.back(TCP(sport=22, dport=4000, flags="SA", ack=1), host)
    for workers in (3, 2):
        assert moved(site, fw=on(firewall(), workers))
        for host in HOSTS:
            site.back(TCP(sport=22, dport=4000, flags="A", seq=1, ack=1), host)
            assert site.out(TCP(sport=4000, dport=22, flags="A", seq=1, ack=1), source=host)
        assert not any(instance.nf.drops for instance in instances(site))


def test_a_failure_at_any_change_leaves_one_owner_and_all_state() -> None:
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    failures = 0
    for fails_at in range(1, 200):
        calls = 0

        def strike(fails_at: int = fails_at) -> None:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise SwitchError("the controller's way to it is cut")

        transaction = update(site.running, site.next(nat=on(napt(), 2)))
        site.network.after = strike
        try:
            site.network.run(transaction)
        except DeploymentError:
            failures += 1
            site.network.after = lambda: None
            answered(site, ports)
            assert mapped(site) == ports
            continue
        assert failures > 10
        site.network.after = lambda: None
        answered(site, ports)
        return
    raise AssertionError("it never succeeded")


def test_what_another_configuration_does_not_go_on_with_stays() -> None:
    site = Site(nat=on(napt(), 1))
    new = site.next(nat=on(napt(ipv6="drop"), 2))
    assert not state_moves(site.running, new)
    told = summarise(update(site.running, new), Version(site.running, None), Version(new, None))
    assert told.moved == ()


def test_an_instance_of_another_configuration_is_called_alike_on_all_cores() -> None:
    """So that state goes from one that had an earlier configuration to one that had none, and back."""
    site = Site(nat=on(napt(), 1))
    later = napt(ipv6="drop")
    new = site.next(nat=on(later, 2))
    site.network.run(update(site.running, new))
    site.running = new
    assert {name for worker in new.workers for name in worker.nfs if "nat" in name} == {"nat~2"}
    ports = mapped(site)
    for workers in (1, 3):
        assert moved(site, nat=on(later, workers))
        answered(site, ports)
        assert mapped(site) == ports


def test_named_buckets_move_and_stay_where_they_were_put() -> None:
    site = Site(nat=on(napt(), 2))
    ports = mapped(site)
    cores = running_of(site.running).cores_of["nat"]
    new = site.next(nat=on(napt(), 2), moving=Moving("nat", cores[1], tuple(range(10))))
    (move,) = state_moves(site.running, new)
    assert (move.source, move.target, move.scope.buckets) == (*cores, tuple(range(10)))
    site.network.run(update(site.running, new))
    site.running = new
    answered(site, ports)
    assert mapped(site) == ports
    graph_again = compile_graph(
        CompileRequest(graph(nat=on(napt(), 2)), topology(WHERE), beside=new)
    )
    assert not state_moves(new, graph_again.bundle), "an update leaves them there"


def test_all_buckets_move_to_another_core() -> None:
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    (core,) = running_of(site.running).cores_of["nat"]
    other = Core(core.server, core.index + 1)
    site_next = site.next(nat=on(napt(), 1), moving=Moving("nat", other))
    site.network.run(update(site.running, site_next))
    site.running = site_next
    assert running_of(site_next).cores_of["nat"] == (other,)
    answered(site, ports)
    assert mapped(site) == ports


def test_it_moves_to_another_server_and_back() -> None:
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    for server in ("server1", "server2", "server1"):
        core = Core(server, 2)
        new = site.next(nat=on(napt(), 1), moving=Moving("nat", core))
        assert running_of(new).cores_of["nat"] == (core,)
        site.network.run(update(site.running, new))
        site.running = new
        answered(site, ports)
        assert mapped(site) == ports


def test_buckets_that_come_elsewhere_without_their_state_are_told() -> None:
    site = Site(nat=on(napt(), 1))
    new = site.next(nat=on(napt(ipv6="drop"), 2))
    told = summarise(update(site.running, new), Version(site.running, None), Version(new, None))
    assert told.moved == ()
    ((nf, why),) = [line.split(": ", 1) for line in told.lost]
    assert nf == "nat"
    assert why.endswith(
        " of 64 buckets come to another core without their state (under another configuration)"
    )


def test_buckets_of_which_some_classes_stay_are_told() -> None:
    a, b = Core("s", 0), Core("s", 1)
    half = 1 << 15
    regions = (Region(Prefix(4, 0x0A000000, 8), None),)

    def classes(one: tuple[HashSlice, ...], other: tuple[HashSlice, ...]) -> tuple[ClassMap, ...]:
        return ClassMap(("x",), regions, one), ClassMap((), (), other)

    whole, split = (
        (HashSlice(a, 0, 2 * half),),
        (HashSlice(a, 0, half), HashSlice(b, half, 2 * half)),
    )
    assert without_state(classes(whole, whole), classes(whole, split)) == (
        "32 of 64 buckets come to another core without their state"
        " (some of their traffic classes do, and others stay)"
    )
    assert without_state(classes(whole, whole), classes(split, split)) == ""
    assert "its classes are others" in without_state(
        classes(whole, split), classes(split, split)[1:]
    )


def test_what_cannot_be_moved_is_told() -> None:
    running = running_of(Site(nat=on(napt(), 1)).running)
    (core,) = running.cores_of["nat"]
    for moving, expected in (
        (Moving("natt", core), "unknown NF on a server 'natt'; did you mean 'nat'"),
        (
            Moving("nat", Core("server9", 0), (1,)),
            "to: nat is on .*, and a group's buckets are on one server",
        ),
        (Moving("nat", core, (64,)), r"buckets: 64 is not among 64 \(0 to 63\)"),
    ):
        with pytest.raises(InputError, match=expected):
            placed_elsewhere(running, moving)
    with pytest.raises(InputError, match="buckets: nat has none"):
        placed_elsewhere(replace(running, spread={"nat": "one"}), Moving("nat", core, (1,)))


def test_packets_that_come_meanwhile_wait_and_none_is_lost() -> None:
    site = Site(nat=on(napt(), 1))
    ports = mapped(site)
    sent = 0
    come: list[int] = []

    def talk() -> None:
        nonlocal sent
        if site.network.holds_back:
            for host in HOSTS[:8]:
                sent += 1
                out = site.out(DATAGRAM, source=host)
                come.extend([out[UDP].sport] if out else [])

    site.network.after = talk
    moved(site, nat=on(napt(), 2))
    site.network.after = lambda: None
    site.network.memory.advance(0)
    late = [Ether(d.frame)[UDP].sport for d in (*site.network.late, *site.network.memory.taken())]
    assert late
    assert sorted([*come, *late]) == sorted(
        port for host in HOSTS[:8] for port in [ports[host]] * (sent // 8)
    )


class Answering:
    """A network whose workers say in turn that a transfer is so far; the last one goes on saying it."""

    def __init__(self, *states: str) -> None:
        self._states = list(states)
        self.pauses = 0

    def worker(self, core: Core) -> Any:
        return nullcontext(self)

    def transfer(self, request: vnf_pb2.TransferRequest) -> vnf_pb2.TransferResponse:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return vnf_pb2.TransferResponse(state=state)

    def pause(self, seconds: float) -> None:
        self.pauses += 1


MOVE = StateMove("g", Core("s1", 0), Core("s1", 1), ("nat",), MovedScope("pair", 64, (1,)))


def carried(network: Answering, *, begins: bool = False) -> list[Moved]:
    return carry_out(network, MoveState(MOVE, begins, not begins), 0, nobody)  # type: ignore[arg-type]


def nobody(device: str) -> Any:
    raise AssertionError("no switch is asked")


def test_a_change_whose_target_has_ended_does_not_go_on_as_if_it_had_the_state() -> None:
    with pytest.raises(ServerGone, match=r"s1\.2 has ended; its state is where it was"):
        carried(Answering("aborted"))


def test_what_another_controller_has_begun_is_waited_for() -> None:
    network = Answering("copying", "copying", "copying", "ready")
    assert carried(network, begins=True) == []
    assert network.pauses == 2
    with pytest.raises(ServerError, match="another controller began it, and it came to nothing"):
        carried(Answering("copying", "copying", "none"), begins=True)
