"""State that moves under load, between cores of one server and between two servers.

Oracle: every datagram has a number, the TCP transfer a digest, and a signature whose halves come before
and after a move does not get through. Blind spot: rates near what a worker can do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
from commands import orchestrator_json
from live import NEEDS_EMULATION, SWITCHES, Live, network
from move_load import HALVES, SERVICE, Halves, balancing, divided, moving, open_flows
from update_load import POOL, Load, Report

from orchestrator.deployment.relocating import move
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving, running_of

pytestmark = [NEEDS_EMULATION, pytest.mark.slow]

GRAPH = "updated"
TARGETS = [Core("server1", 0), Core("server2", 1), Core("server1", 2), Core("server2", 0)]


@pytest.fixture(scope="module", params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, "moves") as started:
        (started.folder / "graph.json").write_text(json.dumps(moving()))
        orchestrator_json("deploy", str(started.folder / "graph.json"), "-n", started.name)
        yield started


def core(live: Live) -> Core:
    bundle = live.network.journal.deployed()[GRAPH].bundle
    (only,) = running_of(bundle).cores_of["nat"]
    return only


def is_whole(report: Report | None) -> None:
    """Nothing has become of the load that had not without moves."""
    assert report is not None
    assert (report.lost, report.misrouted, report.repeated, report.reordered) == (0, 0, 0, 0), (
        report
    )
    assert report.sources == 1, "the same NAPT port for all of a flow"
    assert report.tcp_intact, report
    assert report.tcp_bytes > 100_000, report


def are_judged(halves: Halves) -> None:
    """The signature that came in two halves did not get through, and what has none did."""
    assert halves.received["good"] == b"".join(HALVES["good"])
    assert halves.received["evil"] == HALVES["evil"][0]


def moves(live: Live, count: int) -> list[str]:
    """What so many moves between the servers tell."""
    told: list[str] = []
    targets = cycle(t for t in TARGETS)
    for target in islice((t for t in targets if t != core(live)), count):
        done = move(live.network, GRAPH, Moving("nat", target))
        assert done.state_lost == ()
        assert core(live) == target
        told += done.applied.moved
    return told


def test_nothing_is_lost_and_no_signature_gets_through(live: Live) -> None:
    with Halves(live.state) as halves:
        with Load(live.state, 250, POOL) as load:
            open_flows(live.state, 2_000)
            first = orchestrator_json("move", f"{GRAPH}/nat", "--to", "server2", "-n", live.name)
            told = [*first["graphs"][GRAPH]["state_moved"], *moves(live, 3)]
            halves.finish()
        is_whole(load.report)
    are_judged(halves)
    assert len(told) >= 3
    assert all("records" in line for line in told)
    assert max(int(line.split(": ")[2].split()[0].replace(",", "")) for line in told) >= 2_000


def test_a_flow_space_moves_to_another_core_and_back_with_its_buckets(live: Live) -> None:
    """All of the load's flows: they are of one host."""
    (live.folder / "divided.json").write_text(json.dumps(divided()))
    orchestrator_json("deploy", str(live.folder / "divided.json"), "-n", live.name)
    bundle = live.network.journal.deployed()[GRAPH].bundle
    names = [live.network.worker_name(c) for c in running_of(bundle).cores_of["firewall"]]
    assert len(names) == 2
    words = ("move", f"{GRAPH}/firewall", "-n", live.name)
    told: list[str] = []
    with Halves(live.state) as halves:
        with Load(live.state, 250) as load:
            open_flows(live.state, 1_000)
            for name in (*names, *names):
                done = orchestrator_json(*words, "--inside", "10.0.1.11/32", "--to", name)
                told += done["graphs"][GRAPH]["state_moved"]
            spaces = orchestrator_json("status", "-n", live.name)["flow_spaces"]
            assert {space["inside"] for space in spaces} == {"10.0.1.11/32"}
            told += orchestrator_json(*words, "--to", names[0])["graphs"][GRAPH]["state_moved"]
            halves.finish()
        is_whole(load.report)
    are_judged(halves)
    assert sum("inside 10.0.1.11/32 in " in line for line in told) >= 3, told
    assert not any("stays behind" in line for line in told), told
    assert orchestrator_json("status", "-n", live.name)["flow_spaces"] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_hundred_moves_with_ten_thousand_flows(live: Live, service: str) -> None:
    file = live.folder / "graph.json"
    file.write_text(json.dumps(balancing() if service else moving()))
    orchestrator_json("deploy", str(file), "-n", live.name)
    with Load(live.state, 1_000, POOL, service) as load:
        for _ in range(20):
            with Halves(live.state) as halves:
                open_flows(live.state, 10_000)
                assert moves(live, 5)
                halves.finish()
            are_judged(halves)
    is_whole(load.report)
    assert load.report is not None
    assert load.report.backends == bool(service), "the same backend for all of a flow"
