"""A flow space within buckets moves, or is doubled: its flows and no other ones.

Oracle: a worker that nothing leaves, and by hand which records are of the space. Blind spot: the
switches' entries, which nobody makes yet.
"""

from __future__ import annotations

import pytest
from state_traffic import HOSTS, Traffic
from test_servernf_state import KEY, Case
from test_transfer import BEGIN, DIVIDED, FINISH, NAPT, site_of
from transfer_support import INSIDE, OF, Site

from servernf.proto import vnf_pb2 as vnf
from servernf.python.packet import PacketView
from servernf.python.scope import Buckets
from servernf.wire.buckets import MOST_SPACES
from servernf.wire.errors import InputError

SPACE = "10.0.1.4/30"
FIREWALL = next(case for case in DIVIDED if case.nf == "stateful_firewall")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)


def is_inside(port: str, frame: bytes) -> bool:
    """Whether a frame is of the flow space."""
    view = PacketView()
    assert view.load(frame)
    source, destination = view.flow()
    return (source if port == INSIDE else destination) >> 2 == 0x0A000104 >> 2


def request(
    site: Site, phase: vnf.TransferRequest.Phase.ValueType, inside: str = SPACE, name: str = "move"
) -> vnf.TransferRequest:
    made = site.request(phase, *range(OF), id=name)
    made.scope.inside = inside
    if phase == BEGIN:
        site.announce(made)
    return made


def busy(case: Case, seed: int) -> tuple[Site, Traffic]:
    site, talk = site_of(case), Traffic(seed, case.place, case.kinds)
    run(site, talk, 200, moved=False)
    return site, talk


def run(site: Site, talk: Traffic, count: int, *, moved: bool) -> None:
    for port, frame, now_us in talk.frames(count):
        site.now_us = max(site.now_us, 1_000_000_000 + now_us)
        owner = "b" if moved and is_inside(port, frame) else "a"
        expected = site.send("c", port, frame)
        assert site.send(owner, port, frame) == expected
        talk.told(expected)


@pytest.mark.slow
def test_its_flows_move_and_no_other_ones() -> None:
    assert sum(host >> 2 == 0x0A000104 >> 2 for host in HOSTS) == 4
    moved = 0
    for seed in range(3):
        site, talk = busy(FIREWALL, seed)
        for phase in (BEGIN, FINISH):
            site.workers["a"].transfer(request(site, phase))
        here, there, control = (site.of_flows(name) for name in "abc")
        for name, records in control.items():
            assert here[name] | there[name] == records
            assert not here[name].keys() & there[name].keys()
        moved += sum(map(len, there.values()))
        run(site, talk, 100, moved=True)
    assert moved


def test_it_is_doubled_alone() -> None:
    site, _ = busy(FIREWALL, 5)
    start = vnf.ReplicateRequest(
        phase=vnf.ReplicateRequest.START, id="double", destination="b", variant="per_packet"
    )
    start.nfs.append(site.instance)
    start.scope.CopyFrom(request(site, FINISH).scope)
    site.announce(start)
    assert site.workers["a"].replicate(start).state == "following"
    site.replicate(vnf.ReplicateRequest.PROMOTE, at="b")
    here, there = site.of_flows("a"), site.of_flows("b")
    for name, records in there.items():
        assert records.items() <= here[name].items()
    total = sum(map(len, here.values()))
    assert 0 < sum(map(len, there.values())) < total


def test_spaces_that_meet_are_refused_and_others_run_together() -> None:
    site, _ = busy(FIREWALL, 6)
    site.workers["a"].transfer(request(site, BEGIN))
    with pytest.raises(InputError, match="some of its state is the same"):
        site.workers["a"].transfer(request(site, BEGIN, "10.0.1.6/31", "second"))
    with pytest.raises(InputError, match="some of its state is the same"):
        site.transfer(BEGIN, 1, id="third")
    apart = request(site, BEGIN, "10.0.1.0/30", "fourth")
    assert site.workers["a"].transfer(apart).state == "ready"


def test_their_number_is_bounded_and_told() -> None:
    site, _ = busy(FIREWALL, 7)
    for number in range(MOST_SPACES):
        made = request(site, BEGIN, f"10.0.2.{number}/32", f"m{number}")
        assert site.workers["a"].transfer(made).state == "ready"
    with pytest.raises(InputError, match="scope: 64 flow spaces are taken"):
        site.workers["a"].transfer(request(site, BEGIN))


@pytest.mark.parametrize(
    ("case", "inside", "expected"),
    [
        (FIREWALL, "10.0.1.5/30", "scope.inside: '10.0.1.5/30' is no prefix: .* has host bits set"),
        (FIREWALL, "x", "scope.inside: 'x' is no prefix"),
        (NAPT, SPACE, "what answers g/napt from outside shows its bucket, and no flow space"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_begun(case: Case, inside: str, expected: str) -> None:
    site, talk = busy(case, 8)
    made = site.request(BEGIN, *range(OF))
    made.scope.inside = inside

    def transfer() -> None:
        site.announce(made)
        site.workers["a"].transfer(made)

    with pytest.raises(InputError, match=expected):
        transfer()
    assert site.of_flows("a") == site.of_flows("c")
    run(site, talk, 20, moved=False)


def test_the_rest_of_a_bucket_is_what_is_in_no_space() -> None:
    rest = Buckets.checked("pair", 1, [0], without=[("10.0.1.4/30", "")])
    space = Buckets.checked("pair", 1, [0], inside="10.0.1.4/31", outside="198.51.100.0/24")
    assert (rest.is_narrow, rest.is_space) == (True, False)
    assert not rest.meets(space)
    assert not space.meets(rest)
    assert rest.meets(Buckets.checked("pair", 1, [0], inside="10.0.1.0/29"))
    assert rest.group(0x0A000103, 1) is not None
    assert rest.group(0x0A000105, 1) is None
    with pytest.raises(InputError, match=r"scope.without\[1\].outside: 'x' is no prefix"):
        Buckets.checked("pair", 1, [0], without=[("", ""), ("", "x")])
    with pytest.raises(InputError, match=r"scope.without\[0\]: is everything"):
        Buckets.checked("pair", 1, [0], without=[("", "")])
    with pytest.raises(InputError, match="has 65 flow spaces, more than 64"):
        Buckets.checked("pair", 1, [0], without=[("10.0.0.0/8", "")] * (MOST_SPACES + 1))


def test_the_rest_and_the_space_come_from_two_workers_to_a_third_at_once() -> None:
    site, _ = busy(FIREWALL, 9)
    for phase in (BEGIN, FINISH):
        site.workers["a"].transfer(request(site, phase))
    before = [site.of_flows(name) for name in "ab"]
    site.workers["c"] = site.worker("c", 2)
    rest = request(site, FINISH, "", "rest")
    rest.scope.without.add(inside=SPACE)
    space = request(site, FINISH, name="space")
    for phase in (BEGIN, FINISH):
        for source, made in (("a", rest), ("b", space)):
            made.destination, made.phase = "c", phase
            if phase == BEGIN:
                site.announce(made)
            site.workers[source].transfer(made)
    for name, records in site.of_flows("c").items():
        assert records == before[0][name] | before[1][name]
    assert not any(any(records.values()) for records in map(site.of_flows, "ab"))


def test_what_an_earlier_owner_has_left_is_in_nobodys_way() -> None:
    """State stays behind when an update brings flows elsewhere without it: they may come back."""
    site, _ = busy(FIREWALL, 10)
    here = {name: set(records) for name, records in site.of_flows("a").items()}
    site.workers["b"] = site.workers["c"]  # has the same flows, that it has treated itself
    for phase in (BEGIN, FINISH):
        site.transfer(phase, *range(OF))
    assert {name: set(records) for name, records in site.of_flows("b").items()} == here
    assert not any(site.of_flows("a").values())


def test_prefixes_of_either_version_tell_flows_apart() -> None:
    four = Buckets.checked("pair", 1, [0], inside="10.0.1.0/24")
    six = Buckets.checked("pair", 1, [0], inside="2001:db8::/32", outside="2001:db8:1::/48")
    assert not four.meets(six)
    assert four.meets(Buckets.checked("pair", 1, [0], outside="198.51.100.0/24"))
    assert four.group(0x0A000105, 1) is not None
    assert four.group(0x0A000205, 1) is None
    assert six.group(0x20010DB8 << 96, 0x20010DB80001 << 80) is not None
    assert six.group(0x20010DB8 << 96, 0x20010DB80002 << 80) is None
