"""An update of a stateful NF's configuration: after every write, what was open still is.

Oracle: by hand: an open connection's packets arrive, both ways, always as before. They are sent
between any two writes, by the old version's instance, by both and by the new one's.
Blind spot: packets in flight on a network (tests/emulated).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from networks import Spec, both_ways, ids, make_graph, topology
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from update_support import WatchedNetwork, compiled_beside, update

from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.summary import summarise
from orchestrator.deployment.transaction import Transaction
from orchestrator.errors import DeploymentError, SwitchError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.placement.running import Moving
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

WHERE = "leaf-spine"
IN, OUT, POOL = "10.0.1.11", "198.51.100.13", "203.0.113.1"


def firewall(*denied: int, **more: Any) -> Spec:
    rules = [{"protocol": "tcp", "dst_port": port, "action": "deny"} for port in denied]
    return "stateful_firewall", {"rules": rules, "default": "permit", **more}


def napt(*addresses: str, **more: Any) -> Spec:
    return "napt", {"addresses": list(addresses or (POOL,)), **more}


def graph(**nfs: Spec) -> ServiceGraph:
    return make_graph(nfs, both_ways("inside", *nfs, "outside"))


class Site:
    """A network in memory with one graph, that is updated while a connection is open."""

    def __init__(self, **nfs: Spec) -> None:
        self.network = WatchedNetwork(WHERE)
        self.running = compiled_beside(graph(**nfs), WHERE, None)
        self.network.run(plan(None, Version(self.running, None, True)))

    def next(self, *, moving: Moving | None = None, **nfs: Spec) -> Bundle:
        return compiled_beside(graph(**nfs), WHERE, self.running, moving=moving)

    def update(self, **nfs: Spec) -> tuple[str, ...]:
        """What the plan says is lost, once it is done."""
        new = self.next(**nfs)
        transaction = update(self.running, new)
        self.network.run(transaction)
        told = summarise(transaction, Version(self.running, None), Version(new, None)).lost
        self.running = new
        return told

    def out(self, payload: Any, host: str = "h1", source: str = IN) -> Ether | None:
        return self._sent(host, IP(src=source, dst=OUT) / payload)

    def back(self, payload: Any, to: str = IN) -> Ether | None:
        return self._sent("h3", IP(src=OUT, dst=to) / payload)

    def _sent(self, host: str, packet: Any) -> Ether | None:
        ether = Ether(src=mac_text(topology(WHERE).hosts[host].mac), dst=mac_text(GATEWAY_MAC))
        outputs = self.network.send(host, bytes(ether / packet))
        assert len(outputs) <= 1
        return Ether(outputs[0][1]) if outputs else None


def opened(site: Site, port: int = 22) -> None:
    assert site.out(TCP(sport=4000, dport=port, flags="S"))
    assert site.back(TCP(sport=port, dport=4000, flags="SA", ack=1))


def is_open(site: Site, port: int = 22) -> bool:
    return bool(
        site.back(TCP(sport=port, dport=4000, flags="A", seq=1, ack=1))
        and site.out(TCP(sport=4000, dport=port, flags="A", seq=1, ack=1))
    )


class TestFirewall:
    def test_a_connection_outlives_a_rule_against_it(self) -> None:
        site = Site(fw=firewall())
        opened(site)
        checks: list[bool] = []
        site.network.after = lambda: checks.append(is_open(site))
        assert site.update(fw=firewall(22)) == ()
        assert len(checks) > 5
        assert all(checks)
        assert is_open(site)
        assert site.out(TCP(sport=4001, dport=22, flags="S")) is None, "the rule holds for new ones"

    def test_many_updates_in_a_row(self) -> None:
        site = Site(fw=firewall())
        opened(site)
        for port in range(30, 36):
            assert site.update(fw=firewall(22, port)) == ()
            assert is_open(site)
        names = {n for w in site.network.memory.workers.values() for n in w.worker.tables.instances}
        assert len(names) == 1

    def test_what_is_opened_while_both_are_there(self) -> None:
        """At every write one more connection is opened; all are open in the end."""
        site = Site(fw=firewall())
        ports: list[int] = []

        def one_more() -> None:
            ports.append(100 + len(ports))
            opened(site, ports[-1])

        site.network.after = one_more
        site.update(fw=firewall(22))
        site.network.after = lambda: None
        assert all(is_open(site, port) for port in ports)

    def test_undone_at_any_point(self) -> None:
        site = Site(fw=firewall())
        opened(site)
        transaction = update(site.running, site.next(fw=firewall(22)))
        failures = 0
        for calls in range(100):
            left = [calls]

            def strike(left: list[int] = left) -> None:
                left[0] -= 1
                assert is_open(site)
                if left[0] == -1:
                    raise SwitchError("injected")

            site.network.after = strike
            try:
                site.network.run(transaction)
            except DeploymentError:
                failures += 1
                assert is_open(site)
                assert site.out(TCP(sport=5000 + calls, dport=22, flags="S")), "the old rules"
                continue
            assert failures > 5
            assert is_open(site)
            return
        raise AssertionError("it never succeeded")


class TestNapt:
    def test_mappings_outlive_other_timeouts(self) -> None:
        site = Site(nat=napt())
        datagram = UDP(sport=4000, dport=53) / b"12345678"
        assert site.out(datagram, "h2", "10.0.1.12")
        first = site.out(datagram)
        assert first
        port = first[UDP].sport
        assert port != 4000, "its bucket does not have that"
        answers: list[Any] = []
        site.network.after = lambda: answers.append(
            (
                site.back(UDP(sport=53, dport=port) / b"12345678", POOL),
                site.out(datagram),
            )
        )
        assert site.update(nat=napt(timeouts_s={"udp": 30})) == ()
        assert len(answers) > 5
        assert {(back[IP].dst, out[IP].src, out[UDP].sport) for back, out in answers} == {
            (IN, POOL, port)
        }

    def test_the_plan_says_what_does_not_stay(self) -> None:
        site = Site(nat=napt(POOL, "203.0.113.2"))
        assert site.update(nat=napt(POOL, "203.0.113.2", "203.0.113.3")) == ()
        (told,) = site.update(nat=napt(POOL))
        assert told.startswith("nat on server")
        assert told.endswith(
            "its configuration changes (mappings to addresses or ports that their bucket no longer has)"
        )


class TestWhatIsLost:
    """The plan says so, and why."""

    OTHER = "192.0.2.1"

    def lost(self, before: Spec, after: Spec | None) -> tuple[str, ...]:
        site = Site(fw=firewall(), nf=before)
        return site.update(fw=firewall(), **({"nf": after} if after else {}))

    @pytest.mark.parametrize(
        ("before", "after", "why"),
        [
            (("dnat", {"address": OUT}), ("dnat", {"address": OTHER}), "changes (address)"),
            (("dnat", {"address": OUT}), ("flow_monitor", {}), "it becomes flow_monitor"),
            (("dedup", {}), None, "it is removed"),
            (("traffic_shaper", {"rate": "1Gbit/s"}), None, "it is removed"),
            (
                ("ids", {"signatures": [{"id": 1, "content": "x", "protocol": "tcp"}]}),
                (
                    "ids",
                    {"signatures": [{"id": 1, "content": "x", "protocol": "tcp", "ports": ["80"]}]},
                ),
                "changes (streams of ports within 0-65535)",
            ),
        ],
    )
    def test_why(self, before: Spec, after: Spec | None, why: str) -> None:
        told = self.lost(before, after)
        assert told
        assert all(one.startswith("nf on server") and one.endswith(why) for one in told)

    def test_nothing_where_there_is_no_state(self) -> None:
        labels = {"rules": [{"label": 1, "action": "deny"}], "default": "permit"}
        before, after = ("label_filter", labels), ("label_filter", {**labels, "default": "deny"})
        assert self.lost(before, after) == ()

    def test_one_that_moves(self) -> None:
        old = compiled_beside(graph(fw=firewall()), WHERE, None)
        moved = tuple(replace(worker, core=worker.core + 7) for worker in old.workers)
        new = replace(old, workers=moved)
        told = summarise(Transaction("g", ()), Version(old, None), Version(new, None)).lost
        assert told
        assert all(one.endswith("it moves to another core") for one in told)

    def test_a_signature_loses_nothing(self) -> None:
        site = Site(guard=ids())
        assert site.update(guard=ids(action="alert")) == ()
