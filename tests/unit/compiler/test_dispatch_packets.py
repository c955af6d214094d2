"""What the plan says of cores is what packets do: classes, slices, the way back, a NAPT's shares.

Oracle: the plan's shares of load, counted at the workers of a network in memory. Blind spot: time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest
from networks import both_ways, compiled, demand, ids, in_memory, make_graph, napt, topology
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from orchestrator.compile import Compiled
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.model.match import Match, Prefix
from orchestrator.model.plan import Core
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text
from servernf.wire.buckets import bucket_of, bucket_ports

pytestmark = pytest.mark.slow

HOSTS = topology("leaf-spine").hosts
OUTSIDE = str(HOSTS["h3"].addresses[0].ip)
MBIT = 1_000_000


def subnet(number: int) -> Prefix:
    """10.number.0.0/16."""
    return Prefix(4, 10 << 24 | number << 16, 16)


def classes(*mbits: int) -> list[Traffic]:
    """Traffic from 10.1/16, 10.2/16, ... of so many Mbit/s, and all of it back."""
    there = [
        demand(name=f"class{i}", match=Match(src=subnet(i)), rate=rate * MBIT)
        for i, rate in enumerate(mbits, 1)
    ]
    return [*there, demand("outside", "inside", name="back", rate=sum(mbits) * MBIT)]


def graph(traffic: list[Traffic], workers: int, **nf: object) -> ServiceGraph:
    spec = (*ids(), {"min_workers": workers}) if not nf else nf["spec"]
    return make_graph({"i": spec}, both_ways("inside", "i", "outside"), traffic=traffic)  # type: ignore[dict-item]


def frame(host: str, src: str, dst: str, sport: int = 1000, dport: int = 80) -> bytes:
    ether = Ether(src=mac_text(HOSTS[host].mac), dst=mac_text(GATEWAY_MAC))
    return bytes(
        ether
        / IP(src=src, dst=dst)
        / TCP(sport=sport, dport=dport, flags="S" if dport == 80 else "SA")
    )


def address(number: int, chance: random.Random) -> str:
    return f"10.{number}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def met(network: MemoryNetwork, before: Counter[Core]) -> Counter[Core]:
    """Frames that each worker got since."""
    return seen(network) - before


def seen(network: MemoryNetwork) -> Counter[Core]:
    return Counter({core: w.metrics()["frames_in"] for core, w in network.workers.items()})


def send(network: MemoryNetwork, host: str, packets: Iterable[bytes]) -> Counter[Core]:
    before = seen(network)
    for packet in packets:
        network.send(host, packet)
    return met(network, before)


def planned(result: Compiled) -> dict[Core, float]:
    """Each core's share of all planned load."""
    load = {core: result.plan.core_load[core] for core in result.plan.cores_of[0]}
    return {core: share / sum(load.values()) for core, share in load.items()}


def balanced(result: Compiled) -> bool:
    shares = planned(result)
    return max(shares.values()) <= 1.1 / len(shares)


def test_classes_are_whole_where_that_balances() -> None:
    rates = (30, 20, 10)
    result = compiled(graph(classes(*rates), 2))
    maps = result.plan.dispatch[0]
    assert [m.traffics for m in maps[:-1]] == [("back", f"class{i}") for i in (1, 2, 3)]
    assert all(len(m.slices) == 1 for m in maps)
    assert balanced(result)
    network, chance = in_memory(result), random.Random(1)
    packets = [
        frame("h1", address(number, chance), OUTSIDE)
        for number, rate in enumerate(rates, 1)
        for _ in range(rate)
    ]
    got = send(network, "h1", packets)
    assert got == {core: round(60 * share) for core, share in planned(result).items()}


def test_a_class_that_exceeds_a_core_is_divided_by_its_hash() -> None:
    result = compiled(graph(classes(300, 20, 10), 3))
    big, *small = result.plan.dispatch[0]
    assert len({s.core for s in big.slices}) == 3
    assert all(len(m.slices) == 1 for m in small)
    assert balanced(result)
    network, chance = in_memory(result), random.Random(2)
    packets = [
        frame("h1", address(number, chance), OUTSIDE, sport=i)
        for number, count in ((1, 1200), (2, 80), (3, 40))
        for i in range(count)
    ]
    got = send(network, "h1", packets)
    for core, share in planned(result).items():
        assert got[core] / len(packets) == pytest.approx(share, rel=0.12)


def test_both_directions_of_a_flow_meet_one_core() -> None:
    network, chance = in_memory(compiled(graph(classes(300, 20, 10), 3))), random.Random(3)
    cores = set()
    for number in (1, 2, 3, 4):
        for _ in range(12):
            inside = address(number, chance)
            there = send(network, "h1", [frame("h1", inside, OUTSIDE)])
            back = send(network, "h3", [frame("h3", OUTSIDE, inside, 80, 1000)])
            # 10.4/16 is in no traffic from inside, so it does not even enter there.
            assert (there == back) if number < 4 else not there
            cores |= set(back)
    assert len(cores) == 3


def test_a_napts_way_back_meets_its_core() -> None:
    traffic = classes(200, 40)
    spec = napt(("203.0.113.1",), min_workers=3)
    result = compiled(graph(traffic, 3, spec=spec))
    assert len(result.plan.dispatch[0]) == 1
    network, chance = in_memory(result), random.Random(4)
    cores = set()
    for number in (1, 1, 1, 2):
        for _ in range(10):
            inside = address(number, chance)
            before = seen(network)
            (out,) = network.send("h1", frame("h1", inside, OUTSIDE))
            there = met(network, before)
            shown = IP(out.frame[14:])
            assert shown.src == "203.0.113.1"
            answer = frame("h3", OUTSIDE, shown.src, 80, shown.sport)
            before = seen(network)
            network.send("h3", answer)
            assert met(network, before) == there
            cores |= set(there)
            (core,) = there
            bucket = bucket_of(int(IPv4Address(inside)))
            low, high = bucket_ports(1024, 65535, bucket, bucket, 64)
            assert low <= shown.sport <= high
            (owned,) = (s for s in result.plan.dispatch[0][0].slices if s.core == core)
            assert owned.low <= bucket << 10 < owned.high
    assert len(cores) == 3


def test_traffics_that_differ_by_ports_only_are_one_class() -> None:
    """Later fragments and ICMP errors have no ports: they could not follow."""
    web, dns = Match(protocol=6), Match(protocol=17)
    traffic = [demand(name="web", match=web, rate=MBIT), demand(name="dns", match=dns, rate=MBIT)]
    assert [m.regions for m in compiled(graph(traffic, 2)).plan.dispatch[0]] == [()]


def test_one_core_needs_no_classes() -> None:
    result = compiled(graph(classes(3, 2), 1))
    used = {e.table for p in result.bundle.programs.values() for e in p.entries}
    assert "dispatch.classes" not in used
