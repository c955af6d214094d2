"""State that moves from worker to worker while packets come: as if it had never moved.

Oracle: a worker that nothing leaves, which treats the same packets in the order in which they were sent.
Blind spot: threads and sockets (test_transfer_calls.py), the switches' part.
"""

from __future__ import annotations

import random
from functools import partial

import pytest
from state_traffic import Traffic
from test_servernf_state import CASES, KEY, Case
from transfer_support import INSIDE, OF, OUTSIDE, SECRET, Site

from orchestrator.oracle import frames
from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arriving import MOST_FRAMES
from servernf.python.runtime.errors import ChainExists, NotFound, Unreachable
from servernf.wire.buckets import bucket_of
from servernf.wire.errors import InputError
from servernf.wire.records import unpack

STATUS, BEGIN, FINISH, ABORT, ADOPT = (
    vnf.TransferRequest.STATUS,
    vnf.TransferRequest.BEGIN,
    vnf.TransferRequest.FINISH,
    vnf.TransferRequest.ABORT,
    vnf.TransferRequest.ADOPT,
)
KEYS = {"inside": "inside_address", "outside": "outside_address"}
DIVIDED = [case for case in CASES if case.by and not case.is_full]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


def site_of(case: Case) -> Site:
    config, pool = dict(case.config), ()
    if case.nf == "napt":
        config["buckets"] = OF
        pool = (0xCB007101, 0xCB007102)
    return Site(case.nf, config, KEYS[case.by], pool)


class Play:
    """Traffic through the site; what leaves is what leaves where nothing moves."""

    def __init__(self, case: Case, site: Site, seed: int) -> None:
        self.site = site
        self.talk = Traffic(seed, case.place, case.kinds)
        self.waiting: list[list[tuple[str, bytes]]] = []
        """What should leave for packets that are held back."""
        self.transit: list[tuple[str, bytes, list[tuple[str, bytes]]]] = []
        self.moving: set[int] = set()

    def run(self, count: int, *, late: bool = False) -> None:
        """`late`: packets of the buckets that move are on their way to their first owner."""
        for port, frame, now_us in self.talk.frames(count):
            if not self.moving:
                self.site.now_us = max(self.site.now_us, 1_000_000_000 + now_us)
            expected = self.site.send("c", port, frame)
            bucket = self.site.bucket(port, frame)
            owner = self.site.owner[bucket]
            if late and bucket in self.moving:
                self.transit.append((port, frame, expected))
            else:
                got = self.site.send(owner, port, frame)
                if bucket in self.moving and owner == "b":
                    assert not got
                    self.waiting.append(expected)
                else:
                    assert got == expected, (port, frame.hex())
            self.talk.told(expected)

    def arrive(self) -> None:
        """What was in transit comes."""
        for port, frame, expected in self.transit:
            assert self.site.send("a", port, frame) == expected
        self.transit.clear()

    def flip(self, *buckets: int) -> None:
        for bucket in buckets:
            self.site.owner[bucket] = "b"

    def move_two_buckets(self, seed: int) -> tuple[int, int]:
        """Have two move from `a` to `b` while packets come, as if they had not; how many records came
        and how many frames waited."""
        site = self.site
        self.run(150)
        buckets = random.Random(seed).sample(range(OF), 2)
        self.moving = set(buckets)
        site.between = lambda: self.run(3)
        assert site.transfer(BEGIN, *buckets).state == "ready"
        self.run(10, late=True)
        self.flip(*buckets)
        site.between = lambda: None
        self.run(20)
        self.arrive()
        done = site.transfer(FINISH, *buckets)
        assert done.state == "done"
        assert done.held == len(self.waiting)
        assert site.idle("b") == [frame for frames_ in self.waiting for frame in frames_]
        self.moving = set()
        self.run(60)
        here, there, control = (site.of_flows(name) for name in "abc")
        for name, records in control.items():
            assert here[name] | there[name] == records
            assert not here[name].keys() & there[name].keys()
        return sum(map(len, there.values())), done.held


@pytest.mark.slow
@pytest.mark.parametrize("case", DIVIDED, ids=str)
def test_buckets_move_as_if_they_had_not(case: Case) -> None:
    moved = [Play(case, site_of(case), seed).move_two_buckets(seed) for seed in range(3)]
    assert all(map(sum, zip(*moved, strict=True)))


NAPT = next(case for case in CASES if case.nf == "napt")
WHOLE = [c for c in CASES if not c.by and not c.is_full and not c.nf.startswith("aes")]


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_what_cannot_be_divided_moves_as_a_whole(case: Case) -> None:
    for seed in range(2):
        site = Site(case.nf, case.config, "")
        play = Play(case, site, seed)
        play.run(100)
        assert site.transfer(BEGIN).state == "ready"
        site.owner = ["b"] * OF
        expected = [
            out for port, frame, _ in play.talk.frames(10) for out in site.send("c", port, frame)
        ]
        assert site.transfer(FINISH).state == "done"
        assert site.idle("b") == []
        assert not any(map(len, site.of_flows("a").values()))
        assert expected is not None
        assert set(site.records("b")) == set(site.records("c"))


@pytest.mark.slow
@pytest.mark.parametrize("case", DIVIDED, ids=str)
def test_all_flows_move_while_packets_come(case: Case) -> None:
    """Most is copied before anything waits; what is of no flow, and the counters, go last."""
    site = site_of(case)
    play = Play(case, site, 1)
    play.run(150)
    begun = site.transfer(BEGIN)
    assert begun.state == "ready"
    assert begun.records >= sum(map(len, site.of_flows("b").values())) > 0
    play.run(20)
    assert site.transfer(FINISH).state == "done"
    assert site.records("b") == site.records("c")
    assert not any(site.of_flows("a").values())
    counts = [site.workers[name].tables.instances[site.instance].nf.state.counts for name in "bc"]
    assert counts[0] == counts[1]
    site.owner = ["b"] * OF
    play.run(60)


def busy(seed: int = 1, count: int = 150) -> tuple[Site, Play]:
    site = site_of(NAPT)
    play = Play(NAPT, site, seed)
    play.run(count)
    return site, play


def udp(host: int, number: int = 5000) -> bytes:
    datagram = frames.with_checksum(4, host, 0xC6336401, 17, frames.udp(number, 53, b"x"))
    return frames.ethernet(frames.ip(4, host, 0xC6336401, 17, datagram), 0x0800, src=1)


@pytest.mark.parametrize("variant", ["order_preserving", "loss_free", "forward", "stop_copy"])
def test_every_variant_moves_all_and_only_that(variant: str) -> None:
    site, play = busy()
    before, kept = site.of_flows("a"), site.of_flows("c")
    assert site.transfer(BEGIN, 1, 2, variant=variant).state == "ready"
    done = site.transfer(FINISH, 1, 2, variant=variant)
    here, there = site.of_flows("a"), site.of_flows("b")
    assert (done.state, done.records) == ("done", sum(map(len, there.values())))
    for name, records in kept.items():
        assert here[name] | there[name] == before[name] == records
    play.flip(1, 2)
    play.run(50)


def test_a_transfer_that_is_aborted_never_was() -> None:
    site, play = busy()
    play.moving = {0, 1}
    site.transfer(BEGIN, 0, 1)
    play.flip(0, 1)
    play.run(30)
    assert play.waiting
    site.owner = ["a"] * OF
    assert site.transfer(ABORT, 0, 1).state == "aborted"
    assert site.idle("a") == [frame for held in play.waiting for frame in held]
    assert not any(site.of_flows("b").values())
    play.moving = set()
    play.run(50)
    assert site.of_flows("a") == site.of_flows("c")
    assert site.transfer(ABORT, 0, 1).state == "aborted"
    assert site.transfer(STATUS, id="other").state == "none"


def test_each_phase_may_be_repeated() -> None:
    site, _ = busy()
    for _ in range(2):
        assert site.transfer(BEGIN, 3).state == "ready"
    first = site.transfer(FINISH, 3)
    assert site.transfer(FINISH, 3) == first
    assert site.transfer(ABORT, 3).state == "done"
    assert site.transfer(STATUS, 3).state == "done"


def test_there_and_back() -> None:
    site, play = busy()
    for source, destination in ("ab", "ba", "ab", "ba"):
        for phase in (BEGIN, FINISH):
            site.transfer(phase, 0, source=source, destination=destination, id=f"to {destination}")
        site.owner[0] = destination
        play.run(30)
        site.workers[source].process([])
    assert not site.of_flows("a")["mappings"].keys() & site.of_flows("b")["mappings"].keys()


def begin_and_finish(site: Site) -> None:
    for phase in (BEGIN, FINISH):
        site.transfer(phase, 0, 1)


def test_a_destination_that_dies_leaves_everything_as_it_was() -> None:
    for dies_at in range(1, 4):
        site, play = busy()
        parts = 0

        def between(site: Site = site, dies_at: int = dies_at) -> None:
            nonlocal parts
            parts += 1
            if parts == dies_at:
                site.broken = "b"

        site.between = between
        with pytest.raises(Unreachable):
            begin_and_finish(site)
        site.between = lambda: None
        play.run(20)
        assert site.transfer(STATUS, 0, 1).state in ("aborted", "none")


def test_a_source_that_dies_leaves_what_it_had_sent() -> None:
    site, play = busy()
    site.transfer(BEGIN, 0, 1)
    sent = site.of_flows("b")
    assert any(sent.values())
    play.moving = {0, 1}
    play.flip(0, 1)
    play.run(5)
    site.now_us += 3_600_000_000
    frame = next(f for h in range(64) if site.bucket(INSIDE, f := udp(0x0A000100 + h)) < 2)
    assert not site.send("b", INSIDE, frame), "a silent source may be alive"
    assert site.workers["b"].transfer(site.request(ADOPT, 0, 1)).state == "done"
    assert site.idle("b")
    with pytest.raises(ChainExists, match="its state is owned here"):
        site.workers["b"].push_state(vnf.PushStateRequest(id="move", pull=1, secret=SECRET))


def test_what_is_held_back_is_bounded() -> None:
    site = site_of(NAPT)
    site.transfer(BEGIN, *range(OF))
    many = [site.frame("b", INSIDE, udp(0x0A000101))] * 1000
    for _ in range(MOST_FRAMES // 1000 - 32):
        assert not site.workers["b"].process(many)
    told = site.transfer(STATUS)
    assert told.held > MOST_FRAMES // 2
    assert told.forwarded == told.held - MOST_FRAMES // 2
    assert len(site.idle("a")) == told.forwarded


def test_packets_that_come_too_late_go_after_their_state() -> None:
    site = site_of(NAPT)
    site.transfer(BEGIN, *range(OF))
    site.transfer(FINISH, *range(OF))
    assert not site.send("a", INSIDE, udp(0x0A000101))
    assert site.transfer(STATUS).late == 1
    ((port, _),) = site.idle("b")
    assert port == OUTSIDE


def test_records_expire_when_they_would_have() -> None:
    site = site_of(NAPT)
    site.send("a", INSIDE, udp(0x0A000101))
    site.now_us += 200_000_000
    site.transfer(BEGIN, *range(OF))
    site.transfer(FINISH, *range(OF))
    mapping = site.workers["b"].tables.instances["g/napt"].nf
    site.now_us += 99_999_000
    mapping.tidy(site.now_us + 77_000_000_123)
    assert len(site.of_flows("b")["mappings"]) == 1
    site.now_us += 2_000
    mapping.tidy(site.now_us + 77_000_000_123)
    assert not site.of_flows("b")["mappings"]


def test_a_signature_that_is_split_by_a_move_is_found() -> None:
    ids = next(case for case in CASES if case.nf == "ids")
    site = site_of(ids)
    client, server = 0x0A000101, 0xC6336401

    def segment(port: str, seq: int, ack: int, flags: int, data: bytes = b"") -> bytes:
        a, b = (client, server) if port == INSIDE else (server, client)
        numbers = (5000, 80) if port == INSIDE else (80, 5000)
        l4 = frames.tcp(*numbers, seq=seq, ack=ack, flags=flags, data=data)
        l4 = frames.with_checksum(4, a, b, 6, l4)
        return frames.ethernet(frames.ip(4, a, b, 6, l4), 0x0800, src=1)

    assert site.send("a", INSIDE, segment(INSIDE, 1, 0, 2))
    assert site.send("a", OUTSIDE, segment(OUTSIDE, 9, 2, 18))
    assert site.send("a", INSIDE, segment(INSIDE, 2, 10, 16))
    assert site.send("a", INSIDE, segment(INSIDE, 2, 10, 24, b"so EV"))
    for phase in (BEGIN, FINISH):
        site.transfer(phase, *range(OF))
    assert not site.send("b", INSIDE, segment(INSIDE, 7, 10, 24, b"IL it was"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": ""}, "id: must have 1 to 64 bytes, not 0"),
        ({"id": "x" * 65}, "id: must have 1 to 64 bytes, not 65"),
        ({"variant": "ordre"}, "variant: unknown variant 'ordre'"),
        ({"destination": "z"}, "destination: 'z' is no peer"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_begun(change: dict[str, str], expected: str) -> None:
    site, play = busy()
    with pytest.raises((InputError, AttributeError), match=expected):
        site.transfer(BEGIN, 1, **change)
    play.run(20)
    assert site.of_flows("a") == site.of_flows("c")


def test_bad_scopes_are_told() -> None:
    site, _ = busy()
    for change, expected in (
        ({"key": "inside"}, "scope.key: unknown key 'inside'"),
        ({"of": 3}, "scope.of: must be a power of two up to 1024, not 3"),
        ({"of": 2}, r"scope.buckets: 3 is not among 2 \(0 to 1\)"),
        ({"key": "pair"}, "napt's 'mappings' is not kept by outside"),
    ):
        request = site.request(BEGIN, 3)
        for name, value in change.items():
            setattr(request.scope, name, value)
        with pytest.raises(InputError, match=expected):
            site.workers["a"].transfer(request)
    request = site.request(BEGIN, 3)
    request.nfs.append("g/other")
    with pytest.raises(NotFound, match="no NF instance 'g/other'"):
        site.workers["a"].transfer(request)
    assert not any(site.of_flows("b").values())


def test_another_configuration_is_refused() -> None:
    site, play = busy()
    site.workers["b"] = Site("napt", {"addresses": ["203.0.113.9"]}, "inside_address").workers["b"]
    with pytest.raises(InputError, match="nfs: 'g/napt' has another configuration here"):
        site.transfer(BEGIN, 1)
    play.run(20)


def _of_version(batch: bytes, version: int) -> bytes:
    """A batch that says another version of its layout: behind the encoding, type and table."""
    at = 1
    for _ in range(2):
        at += 1 + batch[at]
    return batch[:at] + version.to_bytes(2, "big") + batch[at + 2 :]


def test_another_type_is_refused() -> None:
    site, play = busy()
    other = Site("dnat", {"address": "192.0.2.1"}, "inside_address").workers["b"]
    request = vnf.ConfigureRequest(graph="g")
    request.nfs.add(name="g/napt", type="dnat", config_json='{"address":"192.0.2.1"}')
    other.configure(request)
    site.workers["b"] = other
    with pytest.raises(InputError, match=r"nfs: 'g/napt' \('napt'\): is dnat here"):
        site.transfer(BEGIN, 1)
    play.run(20)


def test_records_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    site, play = busy()
    real = site.workers["b"].push_state

    def newer(request: vnf.PushStateRequest, *by: str) -> vnf.PushStateResponse:
        for at, batch in enumerate(request.chunk.batches):
            request.chunk.batches[at] = _of_version(batch, 7)
        return real(request, *by)

    monkeypatch.setattr(site.workers["b"], "push_state", newer)
    with pytest.raises(InputError, match=r"version 7 is not known \(known: 1\)"):
        site.transfer(BEGIN, *range(OF))
    play.run(20)
    assert not any(site.of_flows("b").values())


def test_what_there_is_no_room_for_is_refused() -> None:
    site = Site("dnat", {"address": "192.0.2.1", "max_connections": 4}, "inside_address")
    for worker, host, numbers in (("a", 0x0A000101, (1, 2, 3)), ("b", 0x0A000103, (4, 5))):
        for number in numbers:
            site.send(worker, INSIDE, udp(host, number))
    before = site.of_flows("a"), site.of_flows("b")
    bucket = bucket_of(0x0A000101, OF)
    assert bucket != bucket_of(0x0A000103, OF), "what is of others stays"
    with pytest.raises(InputError, match="records, and there is room for"):
        site.transfer(BEGIN, bucket)
    assert (site.of_flows("a"), site.of_flows("b")) == before


def test_transfers_that_meet_are_refused_and_others_run_together() -> None:
    site, play = busy()
    site.transfer(BEGIN, 0, 1)
    with pytest.raises(InputError, match="transfer 'move' of g/napt is under way"):
        site.transfer(BEGIN, 1, 2, id="second")
    with pytest.raises(InputError, match="transfer 'move' of g/napt is under way"):
        site.transfer(BEGIN, id="all")
    assert site.transfer(BEGIN, 2, id="second").state == "ready"
    for name in ("move", "second"):
        assert site.transfer(FINISH, id=name).state == "done"
    play.flip(0, 1, 2)
    play.run(40)


def test_what_changes_while_two_leave_goes_along_with_each() -> None:
    site = site_of(NAPT)
    hosts = range(0x0A000100, 0x0A010100, 997)
    for host in hosts[::2]:
        site.send("a", INSIDE, udp(host))
    site.transfer(BEGIN, 0, 1, id="one")
    site.transfer(BEGIN, 2, 3, id="two", destination="c")
    site.now_us += 1_000_000
    for host in hosts:
        site.send("a", INSIDE, udp(host))
    before = site.of_flows("a")["mappings"]
    assert site.transfer(FINISH, id="one").state == "done"
    for host in hosts:
        if site.bucket(INSIDE, udp(host)) > 1:
            site.send("a", INSIDE, udp(host, 6000))
    after = site.of_flows("a")["mappings"]
    assert site.transfer(FINISH, id="two").state == "done"
    one, two = (site.of_flows(name)["mappings"] for name in "bc")
    assert not site.of_flows("a")["mappings"]
    assert one | after == one | two
    assert one.items() <= before.items()
    assert len(one) + len(two) == len(before) + len(after) - len(before.keys() & after.keys())


def test_a_strange_peer_enters_nothing_outside_its_scope() -> None:
    site, _ = busy()
    nf = site.workers["a"].tables.instances["g/napt"].nf
    keys = {name: list(d.table.records) for name, d in nf.state.tables.items()}
    batches = nf.state.written(keys, site.now_us)
    site.announce(site.request(BEGIN, 1, id="x"))
    opening = vnf.PushStateRequest(id="x", secret=SECRET)
    opening.open.variant = "stop_copy"
    opening.open.scope.CopyFrom(site.request(BEGIN, 1).scope)
    for status in site.workers["b"].getStatus(vnf.StatusRequest()).nfs:
        opening.open.nfs.add(name=status.name, type=status.type, config_digest=status.config_digest)
    site.workers["b"].push_state(opening)
    for groups in ((), (0,), (1 << 14,)):
        part = vnf.StateChunk(nf="g/napt", groups=groups, batches=batches)
        with pytest.raises(InputError, match="chunk"):
            site.workers["b"].push_state(vnf.PushStateRequest(id="x", chunk=part, secret=SECRET))
    assert not any(site.of_flows("b").values())


def test_variants_are_those_that_transfer_takes() -> None:
    from servernf.python.variants import VARIANTS

    assert set(VARIANTS["transfer"]) == {"order_preserving", "loss_free", "forward", "stop_copy"}
    for measures in zip(*VARIANTS["transfer"].values(), strict=True):
        assert len(set(measures)) > 1


def test_a_witness_is_told_what_moved() -> None:
    site, _ = busy()
    told: dict[str, list[bytes]] = {"a": [], "b": []}

    def sink(name: str, data: bytes) -> bool:
        told[name].append(data)
        return True

    for name in told:
        site.workers[name].record_to(partial(sink, name))
    begin_and_finish(site)
    moved = site.transfer(STATUS)
    said = {name: unpack(last_records[-1]).event() for name, last_records in told.items()}
    assert said == {
        "a": {"event": "moved", "nfs": [site.instance], "records": moved.records},
        "b": {"event": "arrived", "nfs": [site.instance]},
    }
