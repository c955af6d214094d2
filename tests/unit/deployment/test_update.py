"""Updates: between any two writes of one, every packet meets the old version or the new one, whole.

Oracle: the reference interpreter on the two graphs. Every Write is a single update here, and the
probes are sent after each: an order that is right only by luck of batching fails.
Blind spots: NFs whose state differs between the versions; packets in flight (tests/emulated).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from networks import Spec, both_ways, demand, ids, make_graph, permits, router, static_nat, topology
from update_support import Probes, WatchedNetwork, compiled_beside, packets, update

from orchestrator.bundle.codec import dump, load
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.summary import summarise, too_full
from orchestrator.deployment.transaction import ConfigureWorker, Transaction, WriteEntries
from orchestrator.errors import DeploymentError, SwitchError
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match

pytestmark = pytest.mark.slow


def tcp(port: int, action: str = "deny", **more: Any) -> dict[str, Any]:
    return {"protocol": "tcp", "dst_port": port, "action": action, **more}


def acl(*rules: Mapping[str, Any], default: str = "permit", reverse: str = "same") -> Spec:
    return "acl", {"rules": list(rules), "default": default, "reverse": reverse}


def graph(spelt: Any, **options: Any) -> ServiceGraph:
    nfs, more = spelt if isinstance(spelt, tuple) else (spelt, {})
    return make_graph(nfs, both_ways("inside", *nfs, "outside"), **more, **options)


RULES = [tcp(22), {"protocol": "udp", "dst_port": "400-500", "action": "deny"}, tcp(443, "permit")]
BASE: dict[str, Spec] = {"fw": acl(*RULES), "guard": ids(), "late": permits()}
ROUTES = [{"prefix": "10.0.1.0/24"}, {"prefix": "198.51.100.0/24"}, {"prefix": "2001:db8::/32"}]
ROUTED: dict[str, Spec] = {"fw": acl(*RULES), "rt": router(*ROUTES)}
NESTED = [
    {"prefix": "198.51.100.13/32"},
    {"prefix": "0.0.0.0/0"},
    {"prefix": "198.51.100.14/32", "next_hop": "198.51.100.13"},
]
Spelt = dict[str, Spec] | tuple[dict[str, Spec], dict[str, Any]]
UPDATES: dict[str, tuple[Spelt, Spelt]] = {
    "a rule more": (BASE, {**BASE, "fw": acl(RULES[0], tcp(80), *RULES[1:])}),
    "a rule less": (BASE, {**BASE, "fw": acl(*RULES[1:])}),
    "a rule changed": (BASE, {**BASE, "fw": acl(tcp(22, "permit"), *RULES[1:])}),
    "rules reversed": (BASE, {**BASE, "fw": acl(*reversed([*RULES, tcp(443)]))}),
    "rules that overlap": (
        {**BASE, "fw": acl(tcp(22), tcp(81, "permit"), default="deny")},
        {**BASE, "fw": acl(tcp(81), {"protocol": "tcp", "action": "permit"}, default="deny")},
    ),
    "the default": (BASE, {**BASE, "fw": acl(*RULES, default="deny")}),
    "two filters": (BASE, {**BASE, "fw": acl(*RULES, tcp(80)), "late": acl(tcp(8080))}),
    "a filter in front": (BASE, {"first": acl(tcp(80)), **BASE}),
    "a filter between": (BASE, {"fw": BASE["fw"], "mid": acl(tcp(80)), **BASE}),
    "no filter": (BASE, {"guard": ids(), "late": permits()}),
    "no server": (BASE, {"fw": acl(tcp(80)), "late": permits()}),
    "a server more": ({"fw": BASE["fw"]}, {**BASE, "fw": acl(tcp(8080))}),
    "routes nested": (ROUTED, {**ROUTED, "rt": router(*ROUTES, *NESTED)}),
    "routes gone": ({**ROUTED, "rt": router(*ROUTES, *NESTED)}, ROUTED),
    "routes replaced": (
        {**ROUTED, "rt": router(*NESTED, *ROUTES[::2])},
        {**ROUTED, "rt": router(NESTED[2], *ROUTES[:2])},
    ),
    "a filter and routes": (ROUTED, {"fw": acl(tcp(80)), "rt": router(*ROUTES, *NESTED)}),
    "addresses": (
        {"nat": static_nat("10.0.1.11", "203.0.113.11"), "fw": BASE["fw"]},
        {"nat": static_nat("10.0.1.11", "203.0.113.12"), "fw": acl(tcp(80))},
    ),
    "traffic": (
        (BASE, {"traffic": [demand(match=Match(version=4)), demand("outside", "inside")]}),
        (BASE, {"traffic": [demand(), demand("outside", "inside", match=Match(version=4))]}),
    ),
    "hosts": (
        (BASE, {"endpoints": {"inside": ("h1",), "outside": ("h3", "h4")}}),
        (BASE, {"endpoints": {"inside": ("h1", "h2"), "outside": ("h3",)}}),
    ),
    "a mark": (
        {"fw": acl(*RULES), "mark": ("dscp_marker", {"default": 10, "reverse": "same"})},
        {"first": acl(tcp(80)), "mark": ("dscp_marker", {"default": 12, "reverse": "same"})},
    ),
    "a signature": (BASE, {**BASE, "guard": ids(action="alert"), "fw": acl(tcp(80))}),
}
ALIKE = {"a signature", "routes replaced"}
"""What the probes meet in these is the same in both versions."""
IN_PLACE = {
    "a rule more",
    "a rule less",
    "a rule changed",
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
    return [c for s in transaction.steps if isinstance(s, WriteEntries) for c in s.changes]


@pytest.mark.parametrize("name", UPDATES)
def test_every_packet_meets_one_version(name: str) -> None:
    run = Run(*(graph(nfs) for nfs in UPDATES[name]))
    assert run.probes.telling or name in ALIKE, "nothing tells the versions apart"
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
        assert not switch.soft.pipeline.state.groups
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


def test_nothing_changes_when_nothing_has() -> None:
    old = compiled_beside(graph(BASE), "leaf-spine", None)
    assert update(old, compiled_beside(graph(BASE), "leaf-spine", old)).stages == ()


def long_list(*more: Mapping[str, Any]) -> dict[str, Spec]:
    rules = [tcp(port) for port in range(1000, 1200)]
    return {"fw": acl(*rules[:100], *more, *rules[100:], reverse="permit")}


def test_a_rule_in_the_middle_is_one_write_a_kind_of_packet() -> None:
    old = compiled_beside(graph(long_list()), "leaf-spine", None)
    new = compiled_beside(graph(long_list(tcp(80))), "leaf-spine", old)
    made = list(writes(update(old, new)))
    assert {c.item.origin for c in made} == {"fw: rules[100]"}
    assert len(made) == 2, "IPv4 and IPv6"
    behind = {e.origin for p in new.programs.values() for e in p.entries if "acl." in e.table}
    assert "fw: rules[200]" in behind, "the bundle knows where its rules are now"
    loaded = load(dump(new), "new.bundle").programs
    assert all(tuple(p.entries) == tuple(loaded[name].entries) for name, p in new.programs.items())


class TestInterruption:
    """Break before make, where a table does not hold both versions."""

    def test_packets_meet_the_old_version_none_or_the_new(self) -> None:
        run = Run(*(graph(nfs) for nfs in UPDATES["a filter in front"]), interrupting=True)
        run.probes.expected.append([[] for _ in run.probes.packets])
        run.go(0, 1, 2)

    def test_full_tables_are_named(self) -> None:
        old, new = (graph(nfs) for nfs in UPDATES["two filters"])
        first = compiled_beside(old, "leaf-spine", None)
        second = compiled_beside(new, "leaf-spine", first)
        both = plan(Version(first, None), Version(second, None))
        assert too_full(both, second, {}, topology()) == ()
        small = {"leaf1": Counter({"acl.ipv4": 16384 - 6})}
        (problem,) = [p for p in too_full(both, second, small, topology()) if "acl.ipv4" in p]
        assert problem.startswith("leaf1 acl.ipv4 holds 16384 entries, both versions need ")


class TestServers:
    def test_an_unchanged_instance_stays(self) -> None:
        """The very object: its state with it."""
        run = Run(*(graph(nfs) for nfs in UPDATES["two filters"]))
        before = instances(run)
        run.go()
        assert instances(run) == before

    def test_a_changed_one_is_another_beside_it(self) -> None:
        run = Run(*(graph(nfs) for nfs in UPDATES["a signature"]))
        before = instances(run)
        run.go()
        after = instances(run)
        assert {name for _, name in before} == {"g/guard"}
        assert {name for _, name in after} == {"g/guard~2"}

    def test_the_summary_says_whose_state_is_lost(self) -> None:
        run = Run(*(graph(nfs) for nfs in UPDATES["no server"]))
        told = summarise(run.transaction, Version(run.old, None), Version(run.new, None))
        assert all("guard" in lost and "it is removed" in lost for lost in told.lost)
        assert told.lost
        unchanged = Run(*(graph(nfs) for nfs in UPDATES["a rule more"]))
        versions = Version(unchanged.old, None), Version(unchanged.new, None)
        assert summarise(unchanged.transaction, *versions).lost == ()


def instances(run: Run) -> dict[tuple[Any, str], int]:
    return {
        (core, name): id(instance)
        for core, worker in run.network.memory.workers.items()
        for name, instance in worker.worker.tables.instances.items()
    }


class TestFailure:
    """A device fails in the middle (at every third change): the old version is back."""

    @pytest.mark.parametrize("name", ["a rule more", "two filters", "a signature", "no server"])
    def test_in_the_middle(self, name: str) -> None:
        run = Run(*(graph(nfs) for nfs in UPDATES[name]))
        before = state(run)
        for calls in range(0, 1000, 3):
            left = [calls]

            def strike(left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == -1:
                    raise SwitchError("injected")

            run.network.after = strike
            failure = self.failure(run)
            if not failure:
                assert calls > 3
                return
            assert "the network is as it was before" in failure
            run.network.after = lambda: None
            assert state(run) == before, f"change {calls}"
            run.probes.check(run.network, [0])
        raise AssertionError("it never succeeded")

    @staticmethod
    def failure(run: Run) -> str:
        try:
            run.network.run(run.transaction)
        except DeploymentError as error:
            return str(error)
        return ""


def state(run: Run) -> Any:
    entries = {
        name: sorted((i.graph, *i.entry[:6]) for i in switch.entries())
        for name, switch in run.network.memory.switches.items()
    }
    workers = {
        core: (
            sorted((n, i.config_json) for n, i in worker.worker.tables.instances.items()),
            sorted(map(repr, worker.worker.tables.entries.items())),
            sorted(map(repr, worker.worker.tables.classifiers.items())),
        )
        for core, worker in run.network.memory.workers.items()
    }
    return entries, workers
