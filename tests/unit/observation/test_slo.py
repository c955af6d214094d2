"""SLOs now against target. Oracle: rates and latencies worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from inspection_support import MANIFEST, campus
from processes import WorkerServer
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.bundle.codec import dump, load
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.journal import Deployed
from orchestrator.model.bundle import Slo
from orchestrator.model.entries import ChainHop, ServerChain
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.observation.health import CoreReading, DeviceReading, Reading, core_latencies
from orchestrator.observation.slo import TrafficState, percentile, traffic_states
from servernf.wire.nsh import Tag, encode

MBIT = 1_000_000


def reading(octets: int, at: float, *, latencies: tuple[int, ...] = ()) -> Reading:
    """leaf1 has admitted so many bytes of `web`; leaf2 does not answer."""
    leaf = DeviceReading(
        "leaf1", "switch", "bmv2", traffic={("campus_edge", "web"): (octets // 100, octets)}, at=at
    )
    core = CoreReading("server1", 0, ("campus_edge",), latencies_us={"campus_edge": latencies})
    dead = DeviceReading("leaf2", "switch", "bmv2", "no answer")
    deployed = {"campus_edge": Deployed(campus(), MANIFEST, "now")}
    return Reading(1000 + at, (leaf, dead), (core,), deployed)


def web(now: Reading, before: Reading | None) -> TrafficState:
    return next(row for row in traffic_states(now, before) if row.traffic == "web")


def test_targets_travel_with_the_bundle() -> None:
    slos = load(dump(campus()), "here").slos
    assert slos == campus().slos
    assert slos["web"] == Slo(10 * MBIT, 5 * MBIT, 5000)
    assert slos["other"] == Slo(2 * MBIT, None, None)


def test_the_rate_is_what_was_admitted_since_the_reading_before() -> None:
    row = web(reading(15_000_000, 12.0), reading(1_000_000, 10.0))
    assert row.bits_per_second == 56 * MBIT
    assert (row.min_rate, row.rate_met) == (5 * MBIT, True)
    row = web(reading(2_000_000, 12.0), reading(1_000_000, 10.0))
    assert (row.bits_per_second, row.rate_met) == (4 * MBIT, False)


def test_entries_installed_anew_count_from_their_start() -> None:
    assert web(reading(500_000, 11.0), reading(9_000_000, 10.0)).bits_per_second == 4 * MBIT


def test_one_reading_says_nothing_of_rates() -> None:
    row = web(reading(1_000_000, 10.0), None)
    assert (row.bits_per_second, row.rate_met) == (None, None)
    assert row.planned_latency_us is not None


def test_the_measured_latency_breaks_an_slo_that_the_plan_keeps() -> None:
    fast = reading(0, 10.0, latencies=(10, 20, 30))
    slow = reading(0, 10.0, latencies=(10, 20, 6000))
    assert web(fast, None).latency_met
    assert web(fast, None).server_latency_us == 30
    assert not web(slow, None).latency_met
    other = next(row for row in traffic_states(slow, None) if row.traffic == "other")
    assert other.latency_met is None, "nobody asked"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected
    assert percentile([], share) is None


def test_latencies_are_those_of_sampled_packets_of_a_real_worker(tmp_path: Path) -> None:
    server = WorkerServer("w", 0x020000010001, f"unix:{tmp_path}/w.sock")
    core, cursors = Core("server1", 0), dict[Core, int]()
    frame = bytes(Ether() / IP(src="10.0.0.7", dst="198.51.100.9") / UDP(dport=53))
    one, two, three = (
        encode(Tag(server.mac, 0x020000090000, 5, 9, ttl=63, label=label), frame)
        for label in (1, 2, 3)
    )
    try:
        with WorkerClient("w", server.address) as client:
            everything = SamplingSecret(1, (1 << 32) - 1, 1, 2)
            client.configure("g", {"fw": ("acl", {"default": "permit"})}, everything)
            chain = ServerChain(
                5, 9, (ChainHop("fw", "inside"), ChainHop(mac=2, spi=5, si=8)), ("outside",)
            )
            client.service_chain("g", chain)
            server.worker.process([one])
            assert core_latencies(client, core, cursors) == {}, "samples of before do not count"
            server.worker.process([two, three])
            spent = core_latencies(client, core, cursors)["g"]
            assert len(spent) == 2
            assert all(us >= 0 for us in spent)
            assert core_latencies(client, core, cursors) == {}
    finally:
        server.stop()


def test_a_bundle_without_slos_is_shown_all_the_same() -> None:
    now = reading(0, 10.0)
    bare = Deployed(replace(campus(), slos={}), MANIFEST, "now")
    row = web(replace(now, deployed={"campus_edge": bare}), None)
    assert (row.min_rate, row.max_latency_us, row.latency_met) == (None, None, None)
