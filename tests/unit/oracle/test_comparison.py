"""The oracle finds what is wrong and nothing else: systems with one thing changed, in step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.graph import load_graph, load_topology
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.packet import Packet
from orchestrator.nfs.l4_load_balancer import LoadBalancerConfig
from orchestrator.nfs.napt import NaptConfig
from orchestrator.oracle import Comparator, Delivery, Driver, ReferenceNetwork, campaign
from orchestrator.resources import shipped
from servernf.wire.addresses import mac_text

pytestmark = pytest.mark.slow

TOPOLOGY = load_topology("leaf-spine")


def example(name: str) -> ServiceGraph:
    return load_graph(shipped("examples") / name / "graph.json").graph


def with_config(graph: ServiceGraph, nf: str, config: Any) -> ServiceGraph:
    return replace(graph, nfs={**graph.nfs, nf: replace(graph.nfs[nf], config=config)})


def run(
    graph: ServiceGraph,
    other: ServiceGraph | None = None,
    *,
    packets: int = 1500,
    seed: int = 3,
    change: Callable[[Delivery], Delivery] | None = None,
) -> Driver:
    """The graph's reference against that of another graph, or with changed deliveries."""
    expected, actual = ReferenceNetwork(graph, TOPOLOGY), ReferenceNetwork(other or graph, TOPOLOGY)

    def changed(host: str, frame: bytes) -> list[Delivery]:
        delivered = actual.send(host, frame)
        return [change(d) for d in delivered] if change else delivered

    driver = Driver([expected.send, changed], Comparator(graph, TOPOLOGY), seed=seed)
    driver.run(campaign(graph, TOPOLOGY, seed), packets, stop_after=3)
    return driver


@pytest.mark.parametrize("name", ["campus_edge", "web_service", "branch_office"])
def test_a_system_equals_itself(name: str) -> None:
    driver = run(example(name))
    assert driver.differences == []
    assert driver.delivered > driver.packets // 4


def test_another_choice_of_ports_is_equivalent() -> None:
    graph = example("campus_edge")
    pool = graph.nfs["edge_nat"].config.addresses
    other = NaptConfig(addresses=tuple(reversed(pool)))
    driver = run(graph, with_config(graph, "edge_nat", other), packets=6000)
    assert driver.differences == []
    assert driver.uncompared < driver.packets // 5


def test_a_port_out_of_the_pool_is_not() -> None:
    graph = example("campus_edge")
    other = with_config(graph, "edge_nat", NaptConfig(addresses=(0xCB007103,)))
    assert "is not of the pool" in run(graph, other).differences[0].why


def test_a_mapping_that_changes_is_found() -> None:
    graph = example("campus_edge")
    comparator = Comparator(graph, TOPOLOGY)
    reference = ReferenceNetwork(graph, TOPOLOGY)
    driver = Driver([reference.send])
    outputs: list[Delivery] = []

    def keep(host: str, frame: bytes) -> list[Delivery]:
        delivered = reference.send(host, frame)
        outputs.extend(d for d in delivered if Packet.parse(d[1]).src_port)
        return delivered

    driver.systems = [keep]
    driver.run(campaign(graph, TOPOLOGY, 1), 300)
    host, frame = next(d for d in outputs if Packet.parse(d[1]).src in (0xCB007101, 0xCB007102))
    moved = Packet.parse(frame)
    moved.rewrite(src_port=(moved.src_port or 0) ^ 1)
    assert comparator.equivalent([(host, frame)], [(host, frame)])
    why = comparator.difference([(host, frame)], [(host, moved.to_bytes())])
    assert why is not None
    assert "of the reference was" in why


def test_a_mapping_that_has_expired_may_be_given_to_others() -> None:
    """ICMP's after 60 s; in one system sooner than in the other, since both chose their ports."""
    graph = example("campus_edge")
    now_us = 0
    comparator = Comparator(graph, TOPOLOGY, lambda: now_us)

    def echo(number: int) -> list[Delivery]:
        request = IP(src="203.0.113.1", dst="198.51.100.13") / ICMP(type=8, id=number)
        return [("h3", bytes(Ether() / request))]

    assert comparator.equivalent(echo(1025), echo(1073))
    now_us = 59_999_999
    assert not comparator.equivalent(echo(1135), echo(1073)), "of 1025"
    assert not comparator.equivalent(echo(1025), echo(1074)), "was 1073"
    now_us = 60_000_000
    assert comparator.equivalent(echo(1135), echo(1073))
    assert comparator.equivalent(echo(1025), echo(1074))
    assert not comparator.equivalent(echo(1025), echo(1073))


def test_a_reply_of_a_backend_that_one_of_two_has_not_chosen_is_not_compared() -> None:
    graph = example("web_service")
    comparator = Comparator(graph, TOPOLOGY)

    def at_backend(host: str, last: int) -> Delivery:
        packet = IP(src="198.51.100.14", dst=f"10.0.1.{last}") / UDP(sport=9, dport=8443)
        return host, bytes(Ether(dst=mac_text(TOPOLOGY.hosts[host].mac)) / packet)

    def reply(last: int, to: int = 9) -> bytes:
        return bytes(
            Ether() / IP(src=f"10.0.1.{last}", dst="198.51.100.14") / UDP(sport=8443, dport=to)
        )

    assert comparator.translated(reply(11)) is not None
    assert comparator.equivalent([at_backend("h1", 11)], [at_backend("h2", 12)])
    assert comparator.translated(reply(11)) is None
    assert comparator.translated(reply(12)) is None
    assert comparator.translated(reply(12, to=10)) is not None, "another client"


def test_another_choice_of_backends_is_equivalent() -> None:
    graph = example("web_service")
    config: LoadBalancerConfig = graph.nfs["web_lb"].config
    turned = tuple(
        s.model_copy(
            update={
                "backends": tuple(
                    b.model_copy(update={"weight": 1 if b.weight > 1 else 9}) for b in s.backends
                )
            }
        )
        for s in config.virtual
    )
    other = with_config(graph, "web_lb", config.model_copy(update={"virtual": turned}))
    assert run(graph, other, packets=3000).differences == []


def flip(offset: int) -> Callable[[Delivery], Delivery]:
    def change(delivery: Delivery) -> Delivery:
        host, frame = delivery
        bent = bytearray(frame)
        bent[offset] ^= 1
        return host, bytes(bent)

    return change


@pytest.mark.parametrize("offset", [0, 11, 15, 22, 24])
@pytest.mark.parametrize("name", ["campus_edge", "web_service", "branch_office"])
def test_one_wrong_bit_is_found(name: str, offset: int) -> None:
    driver = run(example(name), packets=60, change=flip(offset))
    assert driver.differences
    assert "differ" in driver.differences[0].why or "expected" in driver.differences[0].why


@pytest.mark.parametrize("nf", ["edge_acl", "edge_router", "edge_ids"])
def test_missing_rules_are_found(nf: str) -> None:
    """Every other rule, route or signature is left out: corners and contents must show it."""
    graph = example("campus_edge")
    config = graph.nfs[nf].config.model_copy()
    config._from_file = config._from_file[1::2]
    driver = run(graph, with_config(graph, nf, config), packets=5000, seed=5)
    assert driver.differences


def test_a_difference_says_where_and_what() -> None:
    driver = run(example("branch_office"), packets=60, change=lambda d: ("h9", d[1]))
    first = driver.differences[0]
    assert first.why.startswith("expected at h")
    assert first.why.endswith("got at h9")
    assert str(first).startswith(f"packet {first.number} (")


def test_one_missing_rule_is_found() -> None:
    """The corners of one access list's every rule find the one that is left out."""
    graph = example("branch_office")
    config = graph.nfs["branch_acl"].config
    for index in range(len(config.rules)):
        rules = config.rules[:index] + config.rules[index + 1 :]
        other = with_config(graph, "branch_acl", config.model_copy(update={"rules": rules}))
        assert run(graph, other).differences
