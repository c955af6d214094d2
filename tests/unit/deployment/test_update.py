"""Updates: between any two writes of one, every packet meets the old version or the new one, whole.

Oracle: the reference interpreter on the two graphs. Every Write is a single update here, and the
probes are sent after each: an order that is right only by luck of batching fails.
Blind spots: NFs whose state differs between the versions; packets in flight (tests/emulated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from networks import Spec, both_ways, demand, ids, make_graph, permits, router, static_nat
from update_support import Probes, WatchedNetwork, compiled_beside, packets, update

from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.transaction import ConfigureWorker, Transaction, WriteSwitch
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match


def tcp(port: int, action: str = "deny", **more: Any) -> dict[str, Any]:
    return {"protocol": "tcp", "dst_port": port, "action": action, **more}


def acl(*rules: Mapping[str, Any], default: str = "permit", reverse: str = "same") -> Spec:
    return "acl", {"rules": list(rules), "default": default, "reverse": reverse}


def graph(nfs: Mapping[str, Spec], **options: Any) -> ServiceGraph:
    return make_graph(nfs, both_ways("inside", *nfs, "outside"), **options)


RULES = [tcp(22), {"protocol": "udp", "dst_port": "400-500", "action": "deny"}, tcp(443, "permit")]
BASE: dict[str, Spec] = {"fw": acl(*RULES), "guard": ids(), "late": permits()}
ROUTES = [{"prefix": "10.0.1.0/24"}, {"prefix": "198.51.100.0/24"}, {"prefix": "2001:db8::/32"}]
ROUTED: dict[str, Spec] = {"fw": acl(*RULES), "rt": router(*ROUTES)}
NESTED = [
    {"prefix": "198.51.100.13/32"},
    {"prefix": "0.0.0.0/0"},
    {"prefix": "198.51.100.14/32", "next_hop": "198.51.100.13"},
]
UPDATES: dict[str, tuple[dict[str, Spec], dict[str, Spec]]] = {
    "a rule more": (BASE, {**BASE, "fw": acl(RULES[0], tcp(80), *RULES[1:])}),
    "a rule less": (BASE, {**BASE, "fw": acl(*RULES[1:])}),
    "a rule changed": (BASE, {**BASE, "fw": acl(tcp(22, "permit"), *RULES[1:])}),
    "rules reversed": (BASE, {**BASE, "fw": acl(*reversed([*RULES, tcp(443)]))}),
    "rules that overlap": (
        {**BASE, "fw": acl(tcp(22), tcp(80, "permit"), default="deny")},
        {**BASE, "fw": acl(tcp(80), {"protocol": "tcp", "action": "permit"}, default="deny")},
    ),
    "the default": (BASE, {**BASE, "fw": acl(*RULES, default="deny")}),
    "two filters": (BASE, {**BASE, "fw": acl(*RULES, tcp(80)), "late": acl(tcp(8080))}),
    "a filter in front": (BASE, {"first": acl(tcp(80)), **BASE}),
    "a filter between": (BASE, {"fw": BASE["fw"], "mid": acl(tcp(80)), **BASE}),
    "no filter": (BASE, {"guard": ids(), "late": permits()}),
    "no server": (BASE, {"fw": BASE["fw"], "late": permits()}),
    "a server more": ({"fw": BASE["fw"]}, {**BASE, "fw": acl(tcp(8080))}),
    "routes nested": (ROUTED, {**ROUTED, "rt": router(*ROUTES, *NESTED)}),
    "routes gone": ({**ROUTED, "rt": router(*ROUTES, *NESTED)}, ROUTED),
    "routes replaced": (
        {**ROUTED, "rt": router(*NESTED, *ROUTES[::2])},
        {**ROUTED, "rt": router(NESTED[2], *ROUTES)},
    ),
    "a filter and routes": (ROUTED, {"fw": acl(tcp(80)), "rt": router(*ROUTES, *NESTED)}),
    "addresses": (
        {"nat": static_nat("10.0.1.11", "203.0.113.11"), "fw": BASE["fw"]},
        {"nat": static_nat("10.0.1.11", "203.0.113.12"), "fw": acl(tcp(80))},
    ),
    "a signature": (BASE, {**BASE, "guard": ids(action="alert"), "fw": acl(tcp(80))}),
}
IN_PLACE = {
    "a rule more",
    "a rule less",
    "a rule changed",
    "rules that overlap",
    "the default",
    "routes nested",
    "routes gone",
    "routes replaced",
}


class Run:
    """An update of a network in memory, with probes after every write."""

    def __init__(
        self, old: ServiceGraph, new: ServiceGraph, where: str = "leaf-spine", **options: Any
    ) -> None:
        self.network = WatchedNetwork(where)
        self.probes = Probes(where, (old, new), packets(where))
        self.old = compiled_beside(old, where, None)
        self.network.run(plan(None, Version(self.old, None, True)))
        self.probes.check(self.network, [0])
        self.new = compiled_beside(new, where, self.old)
        self.transaction = update(self.old, self.new, **options)

    def go(self, *versions: int) -> None:
        self.network.after = lambda: self.probes.check(self.network, versions or (0, 1))
        self.network.run(self.transaction)
        self.network.after = lambda: None
        self.probes.check(self.network, [1])


def writes(transaction: Transaction) -> list[Any]:
    return [c for s in transaction.steps if isinstance(s, WriteSwitch) for c in s.changes]


@pytest.mark.parametrize("name", UPDATES)
def test_every_packet_meets_one_version(name: str) -> None:
    run = Run(*(graph(nfs) for nfs in UPDATES[name]))
    assert run.probes.telling or name == "a signature", "nothing tells the versions apart"
    run.go()


@pytest.mark.parametrize("name", UPDATES)
def test_what_is_left_is_the_new_version_alone(name: str) -> None:
    """Undeploying the new version finds all that there is: nothing of the old one stays behind."""
    run = Run(*(graph(nfs) for nfs in UPDATES[name]))
    run.network.run(run.transaction)
    run.network.run(plan(Version(run.new, None, True), None), careful=True)
    for switch in run.network.memory.switches.values():
        assert list(switch.entries()) == []
        assert switch.soft.pipeline is not None
        assert not switch.soft.pipeline.groups
    for worker in run.network.memory.workers.values():
        tables = worker.worker.tables
        assert not tables.instances
        assert not tables.entries
        assert not tables.classifiers


@pytest.mark.parametrize("name", UPDATES)
def test_and_back_again(name: str) -> None:
    """Ten times there and back: numbers are not used up, and epochs come round."""
    old, new = (graph(nfs) for nfs in UPDATES[name])
    run = Run(old, new)
    running = run.old
    for count in range(1, 11):
        following = compiled_beside((old, new)[count % 2], "leaf-spine", running)
        run.network.run(update(running, following))
        run.probes.check(run.network, [count % 2])
        running = following


@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_what_changes_in_one_table_changes_in_place(name: str) -> None:
    run = Run(*(graph(nfs) for nfs in UPDATES[name]))
    assert not any(c.item.table.startswith("classify.") for c in writes(run.transaction))
    assert not any(isinstance(step, ConfigureWorker) for step in run.transaction.steps)
