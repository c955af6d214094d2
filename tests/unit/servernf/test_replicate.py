"""A standby goes on as its primary would have: killed at any instant, at any part of what it sends.

Oracle: a worker that is never killed, and treats what the dead one has told its standby of.
Blind spot: threads and sockets (test_replicate_calls.py), the switches' part.
"""

from __future__ import annotations

import random

import pytest
from state_traffic import Traffic
from test_servernf_state import KEY, Case
from test_transfer import BEGIN, DIVIDED, NAPT, WHOLE, site_of, udp
from transfer_support import INSIDE, OF, OUTSIDE, SECRET, Site

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.errors import NotFound, NotPermitted, Unreachable
from servernf.python.runtime.replicas import PERIOD_US
from servernf.python.runtime.standbys import LEASE_US
from servernf.python.variants import VARIANTS
from servernf.wire.errors import InputError

STATUS, START, STOP, PROMOTE = (
    vnf.ReplicateRequest.STATUS,
    vnf.ReplicateRequest.START,
    vnf.ReplicateRequest.STOP,
    vnf.ReplicateRequest.PROMOTE,
)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


class Killed(BaseException):
    """The primary is dead, in the middle of what it does."""


class Play:
    """Traffic by a primary with a standby, and by the worker that nothing happens to."""

    def __init__(self, case: Case, seed: int, variant: str = "per_packet") -> None:
        self.site = site_of(case) if case.by else Site(case.nf, case.config, "")
        self.talk = Traffic(seed, case.place, case.kinds)
        self.buckets = range(OF) if case.by else ()
        self.owner = "a"
        self.site.replicate(START, *self.buckets, variant=variant)

    def run(self, count: int) -> None:
        for port, frame, now_us in self.talk.frames(count):
            self.site.now_us = max(self.site.now_us, 1_000_000_000 + now_us)
            expected = self.site.send("c", port, frame)
            assert self.site.send(self.owner, port, frame) == expected, (port, frame.hex())
            self.talk.told(expected)

    def killed(self, *, is_told: bool) -> None:
        """A packet during which the primary dies, before its standby is told or after."""
        for port, frame, now_us in self.talk.frames(1):
            self.site.now_us = max(self.site.now_us, 1_000_000_000 + now_us)
            if is_told:
                self.site.send("c", port, frame)
                self.site.send("a", port, frame)  # and what left is lost
                continue

            def dies() -> None:
                raise Killed

            self.site.between = dies
            try:
                if self.site.send("a", port, frame) or not is_dirty(self.site):
                    self.site.send("c", port, frame)
            except Killed:
                pass
        self.site.between = lambda: None
        self.take_over()

    def take_over(self) -> None:
        self.site.broken = "a"
        self.site.replicate(PROMOTE, at="b")
        self.site.now_us += LEASE_US
        self.owner = "b"


def is_dirty(site: Site) -> bool:
    """Whether the primary has told less than all."""
    return site.replicate(STATUS).behind > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", [*DIVIDED, *WHOLE], ids=str)
def test_a_standby_goes_on_as_its_primary_would_have(case: Case) -> None:
    if case.nf == "traffic_shaper":
        pytest.skip("what it holds back goes with the primary")
    entered = 0
    for seed in range(2):
        play = Play(case, seed)
        play.run(80 + 13 * seed)
        play.killed(is_told=seed % 2 == 0)
        told = play.site.replicate(STATUS, at="b")
        assert (told.state, told.left_out, told.why) == ("promoted", 0, "")
        entered += told.records
        play.run(60)
        here, control = play.site.of_flows("b"), play.site.of_flows("c")
        assert {n: r.keys() for n, r in here.items()} == {n: r.keys() for n, r in control.items()}
    assert entered


@pytest.mark.exhaustive
def test_a_hundred_kills_at_random_instants_break_nothing() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        play = Play(NAPT, seed)
        play.run(rng.randrange(1, 120))
        play.killed(is_told=rng.random() < 0.5)
        play.run(50)


@pytest.mark.parametrize("variant", VARIANTS["replicate"])
def test_a_standby_sends_nothing_and_counts_nothing(variant: str) -> None:
    play = Play(NAPT, 1, variant)
    play.run(50)
    site = play.site
    assert not any(site.of_flows("b").values())
    for number in range(20):
        assert not site.send("b", INSIDE, udp(0x0A000100 + number))
    assert site.replicate(STATUS, at="b").dropped == 20
    ((_, packets, drops),) = [(n.name, n.packets, n.drops) for n in statuses(site, "b")]
    assert (packets, drops) == (0, 0)


def statuses(site: Site, worker: str) -> list[vnf.NfStatus]:
    return list(site.workers[worker].getStatus(vnf.StatusRequest()).nfs)


@pytest.mark.parametrize("variant", VARIANTS["replicate"])
@pytest.mark.parametrize("asleep_us", [LEASE_US, 3_600_000_000])
def test_a_primary_that_was_asleep_sends_nothing(variant: str, asleep_us: int) -> None:
    play = Play(NAPT, 2, variant)
    play.run(50)
    site = play.site
    site.now_us += asleep_us
    site.replicate(PROMOTE, at="b")
    for number in range(5):
        assert not site.send("a", INSIDE, udp(0x0A000100 + number))
    told = site.replicate(STATUS)
    assert (told.state, told.dropped) == ("fenced", 5)
    assert not site.idle("a")
    assert site.send("b", INSIDE, udp(0x0A000101))


def test_a_promoted_standby_waits_until_its_primary_may_not_send_any_more() -> None:
    site = Play(NAPT, 3, "periodic").site
    site.send("a", INSIDE, udp(0x0A000101))
    site.replicate(PROMOTE, at="b")
    assert site.send("a", INSIDE, udp(0x0A000101))  # it does not know, and need not yet
    assert not site.send("b", INSIDE, udp(0x0A000102))
    wait_us = site.workers["b"].wait_us()
    assert wait_us is not None
    assert 0 < wait_us <= LEASE_US
    site.now_us += wait_us
    assert len(site.idle("b")) == 1
    assert not site.send("a", INSIDE, udp(0x0A000101))


@pytest.mark.parametrize("every", [1, 10, 64])
def test_per_n_loses_updates_of_at_most_n_packets(every: int) -> None:
    site = site_of(NAPT)
    site.replicate(START, *range(OF), variant="per_n", every=every)
    for number in range(200):
        site.send("a", INSIDE, udp(0x0A000100 + number % 50, 1000 + number))
        there = site.replicate(STATUS, at="b").records
        assert number + 1 - there <= every
    assert site.replicate(STATUS).pushes <= 2 * 200 / every + 2


def test_periodic_sends_by_time_although_nothing_comes() -> None:
    site = site_of(NAPT)
    site.replicate(START, *range(OF), variant="periodic")
    for number in range(30):
        site.send("a", INSIDE, udp(0x0A000100 + number))
    assert site.replicate(STATUS, at="b").records == 0
    assert site.replicate(STATUS).behind == 30
    wait_us = site.workers["a"].wait_us()
    assert wait_us is not None
    assert wait_us <= PERIOD_US
    site.now_us += wait_us
    site.idle("a")
    assert site.replicate(STATUS, at="b").records == 30
    assert site.workers["a"].wait_us() is None


def test_on_syn_fin_loses_no_connection_that_was_opened() -> None:
    play = Play(NAPT, 4, "on_syn_fin")
    for _ in range(60):
        play.run(5)
        there, standby = play.site.of_flows("a"), play.site.replicate(STATUS, at="b").records
        assert standby == sum(map(len, there.values()))
    before = play.site.replicate(STATUS).pushes
    assert before < 300


def test_what_is_gone_is_gone_at_the_standby() -> None:
    site = site_of(NAPT)
    site.replicate(START, *range(OF))
    for number in range(40):
        site.send("a", INSIDE, udp(0x0A000100 + number))
    assert site.replicate(STATUS, at="b").records == 40
    site.now_us += 301_000_000  # they expire
    for _ in range(5):
        site.send("a", INSIDE, udp(0x0A0001F0))
        site.now_us += 1_000_000
    assert len(site.of_flows("a")["mappings"]) == 1
    assert site.replicate(STATUS, at="b").records == 1


def test_what_is_there_already_is_copied_and_only_what_is_asked_for() -> None:
    site = site_of(NAPT)
    for number in range(200):
        site.send("a", INSIDE, udp(0x0A000100 + number))
        site.send("c", INSIDE, udp(0x0A000100 + number))
    site.replicate(START, 1, 2)
    mine = sum(site.bucket(INSIDE, udp(0x0A000100 + number)) in (1, 2) for number in range(200))
    assert 0 < site.replicate(STATUS, at="b").records == mine < 200
    site.replicate(PROMOTE, at="b")
    assert len(site.of_flows("b")["mappings"]) == mine


def test_a_dead_standby_is_told_and_stops_nothing() -> None:
    play = Play(NAPT, 5)
    play.run(20)
    play.site.broken = "b"
    play.run(20)
    told = play.site.replicate(STATUS)
    assert (told.state, told.why) == ("lost", "worker b does not answer")
    play.site.broken = ""
    assert play.site.replicate(START, *range(OF)).state == "following"
    play.run(20)
    play.take_over()
    play.run(20)


def test_a_replication_that_is_stopped_leaves_no_trace() -> None:
    play = Play(NAPT, 6)
    play.run(20)
    for _ in range(2):
        assert play.site.replicate(STOP).state == "stopped"
    assert play.site.replicate(STATUS, at="b").state == "none"
    play.run(20)
    site = play.site
    assert site.transfer(BEGIN, 1).state == "ready"
    instance = site.workers["a"].tables.instances[site.instance]
    assert all(d.table.index is None for d in instance.nf.state.tables.values())


def test_state_that_is_followed_does_not_move_meanwhile() -> None:
    site = Play(NAPT, 7).site
    with pytest.raises(InputError, match="replication 'double' of g/napt is under way"):
        site.transfer(BEGIN, 1)
    site.replicate(STOP)
    site.transfer(BEGIN, 1)
    with pytest.raises(InputError, match="transfer 'move' of g/napt is under way"):
        site.replicate(START, 1, 2)
    assert site.replicate(STATUS).state == "stopped"
    assert site.replicate(START, 2).state == "following"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": ""}, "id: must have 1 to 64 bytes, not 0"),
        (
            {"variant": "per_paket"},
            "variant: unknown variant 'per_paket'; did you mean 'per_packet'",
        ),
        ({"destination": "z"}, "destination: 'z' is no peer"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_begun(change: dict[str, str], expected: str) -> None:
    site = site_of(NAPT)
    with pytest.raises((InputError, AttributeError), match=expected):
        site.replicate(START, 1, **change)
    assert site.replicate(STATUS).state == "none"
    assert site.replicate(START, 1).state == "following"


def test_what_does_not_fit_is_refused_and_nothing_begun() -> None:
    site = site_of(NAPT)
    site.broken = "b"
    with pytest.raises(Unreachable):
        site.replicate(START, 1)
    site.broken = ""
    site.workers["b"] = Site("napt", {"addresses": ["203.0.113.9"]}, "inside_address").workers["b"]
    with pytest.raises(InputError, match="nfs: 'g/napt' has another configuration here"):
        site.replicate(START, 1)
    with pytest.raises(NotFound, match="no replication 'double' has this standby"):
        site.replicate(PROMOTE, at="b")
    assert site.send("a", INSIDE, udp(0x0A000101))
    stateless = Site("dscp_marker", {"rules": []}, "")
    with pytest.raises(InputError, match=r"g/dscp_marker \(dscp_marker\) has no state"):
        stateless.replicate(START)


def delta(site: Site) -> vnf.PushStateRequest:
    """What a primary might say of two mappings."""
    site.send("c", INSIDE, udp(0x0A000101))
    nf = site.workers["c"].tables.instances[site.instance].nf
    keys = {name: list(d.table.records) for name, d in nf.state.tables.items()}
    part = vnf.PushStateRequest(id="double", secret=SECRET)
    part.delta.nfs.add(nf=site.instance, batches=nf.state.written(keys, site.now_us))
    return part


def test_a_strange_primary_enters_nothing_that_is_not_of_its_scope() -> None:
    site = site_of(NAPT)
    mine = site.bucket(INSIDE, udp(0x0A000101))
    site.replicate(START, *({0, 1, 2, 3} - {mine}))
    with pytest.raises(InputError, match="is in none of the buckets that were opened"):
        site.workers["b"].push_state(delta(site))
    stranger = delta(site)
    stranger.secret = bytes(32)
    with pytest.raises(NotPermitted, match="no controller has announced"):
        site.workers["b"].push_state(stranger)
    unknown = vnf.PushStateRequest(id="double", secret=SECRET)
    unknown.delta.nfs.add(nf="g/other")
    with pytest.raises(InputError, match=r"delta\.nf: unknown NF 'g/other'"):
        site.workers["b"].push_state(unknown)
    damaged = delta(site)
    damaged.delta.nfs[0].batches[0] += b"x"
    with pytest.raises(InputError, match="1 bytes are too many"):
        site.workers["b"].push_state(damaged)
    assert site.replicate(STATUS, at="b").records == 0


def test_a_group_that_does_not_fit_together_costs_only_itself() -> None:
    play = Play(NAPT, 8)
    play.run(100)
    site = play.site
    sessions = site.of_flows("a")["sessions"]
    assert sessions
    lost = delta(site)
    del lost.delta.nfs[0].batches[:]
    mapping = next(iter(site.of_flows("a")["mappings"]))
    lost.delta.nfs[0].gone.add(table="mappings", keys=[mapping])
    site.workers["b"].push_state(lost)
    told = site.replicate(PROMOTE, at="b")
    assert told.records + told.left_out == sum(map(len, site.of_flows("a").values())) - 1
    assert told.records


def test_port_outside_is_the_same_after_a_take_over() -> None:
    play = Play(NAPT, 9)
    ((_, before),) = play.site.send("a", INSIDE, udp(0x0A000101))
    play.take_over()
    ((port, after),) = play.site.send("b", INSIDE, udp(0x0A000101))
    assert (port, after[26:36]) == (OUTSIDE, before[26:36])
