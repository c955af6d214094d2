"""l4_load_balancer: backends that do not answer get no new connections until they do."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nf_bench import Both, ether
from scapy.layers.inet import IP, TCP, UDP

from orchestrator.nfs.backend_health_reference import HealthReference
from servernf.python.backend_health import BackendHealth, HealthChecks
from servernf.wire.fields import Fields

VIP, CLIENT, SECOND = "203.0.113.80", "198.51.100.13", 1_000_000
HEALTH = {"misses": 2, "timeout_s": 2, "retry_s": 10}


def balancer(backends: int = 1, protocol: str = "tcp", **health: Any) -> Both:
    """One backend is enough to see which way the choice goes: reference and runtime hash differently."""
    ends = [{"address": f"10.0.1.{11 + n}", "port": 8080} for n in range(backends)]
    service = {"address": VIP, "protocol": protocol, "port": 80, "backends": ends}
    return Both("l4_load_balancer", virtual=[service], health=HEALTH | health)


def health_of(both: Both) -> BackendHealth:
    (only,) = both.runtime.health.records.values()  # type: ignore[attr-defined]
    return only


def is_up(both: Both) -> bool:
    """As both see it: they must agree."""
    reference = both.bench.reference._health.is_up((4, 0x0A00010B, 8080), both.now_us)  # type: ignore[attr-defined]
    assert health_of(both).is_up(both.now_us) == reference
    return reference


def opening(port: int, flags: str = "S") -> Any:
    return ether(IP(src=CLIENT, dst=VIP) / TCP(sport=port, dport=80, flags=flags))


def answer(port: int, flags: str = "SA") -> Any:
    return ether(IP(src="10.0.1.11", dst=CLIENT) / TCP(sport=8080, dport=port, flags=flags))


def test_who_lets_connections_go_unanswered_is_down_and_tried_again() -> None:
    both = balancer()
    both.one("outside", opening(1))
    both.one("outside", opening(2))
    both.now_us += 2 * SECOND - 1
    assert is_up(both)
    both.now_us += 1
    assert not is_up(both)
    assert both.runtime.metrics()["backends_down"] == 1
    both.now_us += 10 * SECOND
    assert is_up(both), "one may try it"
    both.one("outside", opening(3))
    assert not is_up(both), "no second one while it does"
    both.one("inside", answer(3))
    assert is_up(both)
    assert both.runtime.metrics()["backends_down"] == 0


def test_a_trial_without_answer_takes_it_down_again() -> None:
    both = balancer()
    for port in (1, 2):
        both.one("outside", opening(port))
    both.now_us += 12 * SECOND
    assert is_up(both)
    both.one("outside", opening(3))
    both.now_us += 2 * SECOND
    assert not is_up(both)
    both.now_us += 10 * SECOND
    assert is_up(both)


def test_a_refusal_counts_at_once_and_a_later_reset_does_not() -> None:
    both = balancer()
    for port in (1, 2):
        both.one("outside", opening(port))
        both.one("inside", answer(port, "RA"))
    assert not is_up(both)
    both = balancer()
    for port in (1, 2, 3):
        both.one("outside", opening(port))
        both.one("inside", answer(port))
        both.one("inside", answer(port, "R"))
    assert is_up(both)


def test_who_says_anything_is_not_taken_down_by_strangers() -> None:
    both = balancer()
    both.one("outside", opening(1))
    both.one("inside", answer(1))
    for port in range(10, 30):
        both.one("outside", opening(port))
        both.now_us += SECOND
        both.one("inside", answer(1, "A"))
    assert is_up(both)


@pytest.mark.parametrize("flags", ["A", "SA", "R", "F", "SF"])
def test_only_a_syn_asks_for_an_answer(flags: str) -> None:
    both = balancer()
    for port in (1, 2, 3):
        both.one("outside", opening(port, flags))
    both.now_us += 5 * SECOND
    assert is_up(both)


def test_connections_go_elsewhere_those_unanswered_too() -> None:
    both = balancer(backends=2)
    nf, first = both.runtime, {}
    for port in range(40):
        first[port] = destination(both, opening(port))
    dead = first[0]
    for port, backend in first.items():
        if backend != dead:
            send(
                both,
                "inside",
                IP(src=backend, dst=CLIENT) / TCP(sport=8080, dport=port, flags="SA"),
            )
    both.now_us += 3 * SECOND
    for port, backend in first.items():
        again = destination(both, opening(port))
        assert again != dead, "opened again"
        assert backend == dead or again == backend, "kept"
    assert nf.metrics()["backends_down"] == 1


def test_all_down_is_all_up() -> None:
    both = balancer(backends=2)
    chosen = set()
    for port in range(60):
        destination(both, opening(port))
    both.now_us += 3 * SECOND
    chosen = {destination(both, opening(port)) for port in range(100, 160)}
    assert chosen == {"10.0.1.11", "10.0.1.12"}


def test_udp_and_who_wants_none_are_not_judged() -> None:
    both = balancer(protocol="udp")
    for port in (1, 2, 3):
        both.one("outside", ether(IP(src=CLIENT, dst=VIP) / UDP(sport=port, dport=80)))
        both.now_us += 5 * SECOND
    assert both.runtime.metrics()["backends_down"] == 0
    both = balancer(misses=0)
    for port in (1, 2, 3):
        both.one("outside", opening(port))
        both.one("inside", answer(port, "R"))
    assert both.runtime.metrics()["backends_down"] == 0


def test_another_configuration_knows_who_is_down() -> None:
    before, after = balancer().runtime, balancer(misses=5).runtime
    (record,) = before.health.records.values()  # type: ignore[attr-defined]
    record.opened(0)
    record.opened(0)
    assert not record.is_up(2 * SECOND)
    assert after.continue_from(before)
    assert after.metrics()["backends_down"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_history_is_judged_alike(seed: int) -> None:
    rng, now_us = random.Random(seed), 0
    misses, timeout, retry = rng.randint(1, 4), rng.randint(1, 5), rng.randint(1, 8)
    fields = Fields("health", {"misses": misses, "timeout_s": timeout, "retry_s": retry})
    runtime = BackendHealth(HealthChecks(fields))
    reference = HealthReference(misses, timeout * SECOND, retry * SECOND)
    for _ in range(300):
        now_us += rng.choice((0, 1, SECOND - 1, SECOND, 3 * SECOND))
        assert runtime.is_up(now_us) == reference.is_up("b", now_us)
        event = rng.choices(("opened", "refused", "heard"), (8, 2, 1))[0]
        if event == "heard":
            if runtime.unheard:
                runtime.heard()
            reference.heard("b")
        else:
            getattr(runtime, event)(now_us)
            getattr(reference, event)("b", now_us)


def destination(both: Both, frame: Any) -> str:
    return str(send(both, "outside", frame)[IP].dst)


def send(both: Both, port: str, frame: Any) -> Any:
    """To the runtime alone: the reference chooses otherwise."""
    from scapy.layers.l2 import Ether

    from servernf.python.packet import PacketView

    view = PacketView()
    assert view.load(bytes(frame if frame.haslayer(Ether) else ether(frame)))
    assert both.runtime.process(view, port, both.now_us)
    return Ether(bytes(view.data))
