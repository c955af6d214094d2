"""A flow space moves to another core than the rest of its buckets, and comes back with them.

Oracle: by hand: connections that were opened before go on after, each on the core that was asked for,
and packets between any two writes pass. Blind spot: packets in flight (tests/emulated/test_moves.py).
"""

from __future__ import annotations

from typing import Any

import pytest
from networks import topology
from scapy.layers.inet import TCP
from test_state_across_updates import WHERE, Site, firewall, graph, napt
from test_state_moves import HOSTS, on
from update_support import update

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.moves import state_moves
from orchestrator.deployment.planning import Version
from orchestrator.deployment.summary import summarise
from orchestrator.errors import DeploymentError, InputError, SwitchError
from orchestrator.model.match import Prefix
from orchestrator.model.plan import ClassMap, Core, HashSlice, Region
from orchestrator.placement.running import Moving, moved, running_of
from orchestrator.placement.spaces import with_space
from servernf.wire.buckets import MOST_SPACES

pytestmark = pytest.mark.slow

SPACE = Region(Prefix(4, 0x0A000110, 28), None)
"""10.0.1.16/28: sixteen of the hosts."""
FEW = HOSTS[:24]


def site() -> Site:
    made = Site(fw=on(firewall(), 2))
    for host in FEW:
        assert made.out(TCP(sport=4000, dport=22, flags="S"), source=host)
        made.back(TCP(sport=22, dport=4000, flags="SA", ack=1), host)
    return made


def is_inside(host: str) -> bool:
    return 16 <= int(host.rpartition(".")[2]) < 32


def talk(made: Site, hosts: list[str] = FEW) -> None:
    """All connections go on: packets pass, or wait, and no firewall meets one it does not know."""
    for host in hosts:
        made.back(TCP(sport=22, dport=4000, flags="A", seq=1, ack=1), host)
        gone = made.out(TCP(sport=4000, dport=22, flags="A", seq=1, ack=1), source=host)
        assert gone or made.network.holds_back, "no switch drops it"
    drops = [
        i.nf.drops
        for w in made.network.memory.workers.values()
        for i in w.worker.tables.instances.values()
    ]
    assert not any(drops), drops


def where(made: Site) -> dict[str, Core]:
    """The core that has the connection of each host."""
    owners: dict[str, Core] = {}
    for core, driver in made.network.memory.workers.items():
        for instance in driver.worker.tables.instances.values():
            declared = instance.nf.state.tables["connections"]
            for key, record in declared.table.records.items():
                assert declared.kind.flow_of is not None
                inside = declared.kind.flow_of(key, record).inside
                host = ".".join(map(str, inside[-4:]))
                assert host not in owners, "one owner each"
                owners[host] = core
    return owners


def move(made: Site, moving: Moving) -> tuple[str, ...]:
    """Carry it out; what the plan says that moves."""
    new = made.next(fw=on(firewall(), 2), moving=moving)
    transaction = update(made.running, new)
    told = summarise(transaction, Version(made.running, None), Version(new, None))
    assert told.lost == ()
    made.network.run(transaction)
    made.running = new
    return told.moved


def cores(made: Site) -> tuple[Core, ...]:
    return running_of(made.running).cores_of["fw"]


def spaces(made: Site) -> list[Any]:
    return [c for c in running_of(made.running).dispatch["fw"] if c.is_space]


def test_a_space_moves_and_the_rest_of_its_buckets_stays() -> None:
    made = site()
    before, target = where(made), cores(made)[1]
    assert any(is_inside(host) and core != target for host, core in before.items())
    told = move(made, Moving("fw", target, space=SPACE))
    assert [line.partition(" in ")[0] for line in told] == ["fw: inside 10.0.1.16/28"]
    assert where(made) == {h: target if is_inside(h) else c for h, c in before.items()}
    talk(made)
    (only,) = spaces(made)
    assert only.regions == (SPACE,)
    again = compile_graph(
        CompileRequest(graph(fw=on(firewall(), 2)), topology(WHERE), beside=made.running)
    )
    assert not state_moves(made.running, again.bundle), "an update leaves it there"
    assert not update(made.running, again.bundle).stages


def test_its_buckets_take_it_along_when_they_move_as_a_whole() -> None:
    made = site()
    before = where(made)
    one, other = cores(made)
    move(made, Moving("fw", other, space=SPACE))
    mine = running_of(made.running).dispatch["fw"][-1].slices
    buckets = tuple(range(mine[0].low >> 10, mine[0].high >> 10))
    assert mine[0].core == one
    told = move(made, Moving("fw", one, buckets))
    assert [line.partition(" in ")[0] for line in told] == ["fw: inside 10.0.1.16/28"]
    assert (where(made), spaces(made)) == (before, [])
    talk(made)


def test_all_of_both_come_to_one_core() -> None:
    """The rest from one core and the space from another, at once, to a third."""
    made = site()
    one, other = cores(made)
    move(made, Moving("fw", other, space=SPACE))
    third = next(Core(one.server, n) for n in range(3) if Core(one.server, n) not in (one, other))
    told = move(made, Moving("fw", third))
    assert sum("(but for 1 flow spaces)" in line for line in told) == 2
    assert sum("inside 10.0.1.16/28 in " in line for line in told) == 1
    assert set(where(made).values()) == {third}
    assert (spaces(made), cores(made)) == ([], (third,))
    talk(made)


def test_packets_pass_between_any_two_writes() -> None:
    made = site()
    target = cores(made)[1]
    some = [host for host in FEW if is_inside(host)][:4] + FEW[:2]
    made.network.after = lambda: talk(made, some)
    move(made, Moving("fw", target, space=SPACE))
    move(made, Moving("fw", cores(made)[0], space=SPACE))
    made.network.after = lambda: None
    made.network.memory.advance(0)
    talk(made)


def test_a_failure_at_any_change_leaves_one_owner_and_all_state() -> None:
    made = site()
    before, target = where(made), cores(made)[1]
    transaction = update(
        made.running, made.next(fw=on(firewall(), 2), moving=Moving("fw", target, space=SPACE))
    )
    for fails_at in range(1, 200):
        left = fails_at

        def strike() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise SwitchError("the controller's way to it is cut")

        made.network.after = strike
        try:
            made.network.run(transaction)
        except DeploymentError:
            made.network.after = lambda: None
            assert where(made) == before
            talk(made)
            continue
        finally:
            made.network.after = lambda: None
        assert fails_at > 8
        talk(made)
        return
    raise AssertionError("it never succeeded")


def test_what_cannot_be_carried_is_refused_with_the_reason() -> None:
    made = site()
    one, other = cores(made)
    move(made, Moving("fw", other, space=SPACE))
    running = running_of(made.running)
    smaller = Region(Prefix(4, 0x0A000112, 32), None)
    nat = running_of(Site(nat=on(napt(), 2)).running)
    (home, *_) = nat.cores_of["nat"]
    beyond = Region(None, Prefix(4, 0xC6336400, 24))
    for where_, moving, pools, doubled, expected in (
        (
            running,
            Moving("fw", one, space=smaller),
            "",
            "",
            "inside 10.0.1.18/32 meets inside 10.0.1.16/28",
        ),
        (running, Moving("fw", one, space=beyond), "", "", "outside 198.51.100.0/24 meets inside"),
        (
            running,
            Moving("fw", Core("server9", 0), space=smaller),
            "",
            "",
            "a group's buckets are on one server",
        ),
        (
            nat,
            Moving("nat", home, space=SPACE),
            "nat",
            "",
            "what answers nat from outside shows its bucket",
        ),
        (
            nat,
            Moving("nat", home, space=beyond),
            "",
            "",
            "may have another address outside: name none",
        ),
        (running, Moving("fw", one, space=SPACE), "", "fw", "a standby follows buckets of fw"),
    ):
        with pytest.raises(InputError, match=expected):
            moved(where_, moving, {pools}, {doubled})


def test_a_space_of_several_classes_needs_one_owner_and_one_within_a_class_has_it() -> None:
    a, b = Core("s", 0), Core("s", 1)
    whole = 1 << 16
    classes = (
        ClassMap(("x",), (Region(Prefix(4, 0x0A010000, 16), None),), (HashSlice(a, 0, whole),)),
        ClassMap((), (), (HashSlice(b, 0, whole),)),
    )
    within = Region(Prefix(4, 0x0A010200, 24), None)
    divided = with_space(classes, within, range(16), 64, b)
    assert [c.is_space for c in divided] == [True, False, False]
    assert divided[0].slices == (HashSlice(b, 0, whole // 4), HashSlice(a, whole // 4, whole))
    assert with_space(divided, within, range(64), 64, a) == classes, "none any more"
    across = Region(None, Prefix(4, 0xC6336400, 24))
    with pytest.raises(InputError, match="is of several traffic classes on other cores each"):
        with_space(classes, across, range(64), 64, b)


def test_their_number_is_bounded_and_told() -> None:
    running = running_of(site().running)
    target = running.cores_of["fw"][1]
    for number in range(MOST_SPACES):
        space = Region(Prefix(4, 0x0A000200 + number, 32), Prefix(4, 0xC6336400, 24))
        chosen = moved(running, Moving("fw", target, space=space))
        # One that is where the rest of its buckets is, is none.
        if chosen.dispatch["fw"] == running.dispatch["fw"]:
            chosen = moved(running, Moving("fw", running.cores_of["fw"][0], space=space))
        running = chosen
    assert sum(c.is_space for c in running.dispatch["fw"]) == MOST_SPACES
    with pytest.raises(InputError, match="64 of 64 are taken"):
        moved(running, Moving("fw", target, space=SPACE))
