"""Placement through `compile_graph`: what fits, what does not and why, several graphs side by side.

Oracle: arithmetic on the topology's figures. Blind spot: how good a plan is (tests/bench).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from networks import (
    both_ways,
    campus,
    compiled,
    demand,
    ids,
    in_memory,
    long_acl,
    make_graph,
    napt,
    one_way,
    permits,
    router,
    slow,
    small,
    topology,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.compile import (
    Compiled,
    CompileRequest,
    Relaxation,
    TernaryRules,
    compile_graph,
    fronts_of,
)
from orchestrator.deployment.apply import apply_bundle
from orchestrator.errors import InfeasibleError, ReportedError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.compiled import GraphPart, problem_of
from orchestrator.placement.resources import Network, used_by
from orchestrator.targets.pipelines import SHIPPED, footprint
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

LEAF_SPINE = topology("leaf-spine")
EDGE = SHIPPED.capability("edge", "softswitch")


def chain(*specs: object, **options: object) -> ServiceGraph:
    nfs = {f"nf{i}": spec for i, spec in enumerate(specs)}
    return make_graph(nfs, one_way("inside", *nfs, "outside"), **options)  # type: ignore[arg-type]


def reasons(graph: ServiceGraph, on: Topology) -> str:
    with pytest.raises(InfeasibleError) as caught:
        compile_graph(CompileRequest(graph, on))
    assert caught.value.exit_code == 3
    assert graph.name in str(caught.value)
    return str(caught.value)


def where(result: Compiled) -> dict[str, str]:
    return {story.unit: story.device for story in result.bundle.stories}


class TestInfeasible:
    """Each message names the constraint that blocks."""

    def test_a_link(self) -> None:
        inner = tuple(
            replace(link, capacity=10**8) if link.b.startswith(("spine", "server")) else link
            for link in LEAF_SPINE.links
        )
        narrow = replace(LEAF_SPINE, links=inner)
        text = reasons(chain(ids(), traffic=[demand(rate=800_000_000)]), narrow)
        assert "link" in text
        assert "0.1 Gbit/s" in text

    def test_cores(self) -> None:
        graph = chain((*ids(), {"min_workers": 4}))
        text = reasons(graph, LEAF_SPINE)
        assert "core" in text
        assert "nf0" in text
        assert "server1 has 3" in text
        assert "4" in text

    def test_too_much_traffic_for_all_cores(self) -> None:
        text = reasons(chain(ids(), traffic=[demand(rate=9_000_000_000, size=100)]), LEAF_SPINE)
        assert "core" in text
        assert "nf0" in text

    def test_a_limit_of_workers(self) -> None:
        heavy = [demand(rate=3_000_000_000)]
        graph = chain((*ids(), {"max_workers": 1}), traffic=heavy)
        assert "at most 1" in reasons(graph, LEAF_SPINE)

    def test_latency(self) -> None:
        text = reasons(chain(ids(), traffic=[demand(name="fast", max_latency_us=3)]), LEAF_SPINE)
        assert "latency" in text
        assert "fast" in text
        assert "3 us" in text

    def test_no_server(self) -> None:
        bare = replace(
            LEAF_SPINE,
            servers={},
            links=tuple(link for link in LEAF_SPINE.links if not link.b.startswith("server")),
        )
        text = reasons(chain(ids()), bare)
        assert "server" in text
        assert "nf0" in text

    def test_only_what_blocks_is_named(self) -> None:
        text = reasons(
            chain(permits(), ids(), traffic=[demand(name="fast", max_latency_us=3)]), LEAF_SPINE
        )
        assert "table" not in text
        assert "Gbit/s" not in text


class TestTooLargeForSwitches:
    """It goes to a server, and the explanation says so."""

    def test_for_one_block(self) -> None:
        result = compile_graph(
            CompileRequest(chain(long_acl(200)), small(LEAF_SPINE, acl_ipv4=100))
        )
        (story,) = (s for s in result.bundle.stories if s.unit.startswith("nf0"))
        assert story.kind == "server"
        assert "no switch holds it" in story.why
        assert "201 entries of acl.ipv4" in story.why

    def test_for_every_instance_though_not_for_their_sum(self) -> None:
        """The three filters of a pipeline hold more together than any holds alone."""
        result = compile_graph(CompileRequest(chain(long_acl(18_000)), LEAF_SPINE))
        (story,) = (s for s in result.bundle.stories if s.unit.startswith("nf0"))
        assert story.kind == "server"
        assert "18001 entries of acl.ipv4" in story.why

    def test_two_that_fit_a_block_only_apart(self) -> None:
        """Together they are smaller than all filters, and only one of these holds either."""
        graph = chain(long_acl(10_000), ids(), long_acl(9_000, net=193))  # so they are not merged
        result = compile_graph(
            CompileRequest(
                graph,
                topology("single"),
                relaxations=(TernaryRules("nf0"), TernaryRules("nf2")),
            )
        )
        kinds = {s.unit.split(".")[0]: s.kind for s in result.bundle.stories}
        assert sorted((kinds["nf0"], kinds["nf2"])) == ["server", "switch"]

    def test_the_others_stay_on_switches(self) -> None:
        graph = chain(permits(), long_acl(200), router())
        result = compile_graph(CompileRequest(graph, small(LEAF_SPINE, acl_ipv4=100)))
        kinds = {s.unit.split(".")[0]: s.kind for s in result.bundle.stories}
        assert (kinds["nf0"], kinds["nf1"], kinds["nf2"]) == ("switch", "server", "switch")

    def test_two_that_fit_only_apart_go_to_two_switches(self) -> None:
        graph = chain(long_acl(80), long_acl(80, net=193))
        result = compile_graph(CompileRequest(graph, small(LEAF_SPINE, acl_ipv4=100)))
        assert not result.cuts.groups
        devices = {where(result)[f"nf{i}.inside.rules@leaf1"] for i in (0, 1)}
        assert len(devices) == 2

    def test_and_what_it_does_there_is_the_same(self) -> None:
        graph = chain(long_acl(200), permits())
        tight = small(LEAF_SPINE, acl_ipv4=100)
        networks = [
            in_memory(compile_graph(CompileRequest(graph, on))) for on in (LEAF_SPINE, tight)
        ]
        frame = Ether(
            src=mac_text(LEAF_SPINE.hosts["h1"].mac), dst=mac_text(LEAF_SPINE.hosts["h3"].mac)
        )
        for dst in ("192.0.0.0", "192.0.0.199", "192.0.0.200", "198.51.100.13"):
            packet = bytes(frame / IP(src="10.0.1.11", dst=dst) / UDP(sport=1, dport=2))
            plain, forced = ([(d.host, d.frame) for d in n.send("h1", packet)] for n in networks)
            assert plain == forced


class TestPlans:
    def test_stateless_elements_stay_where_packets_enter(self) -> None:
        places = where(compiled(campus()))
        assert places["edge_acl.inside.rules@leaf1"] == "leaf1"
        assert places["edge_nat.outside.owner@leaf2"] == "leaf2"

    def test_replicas_follow_the_load(self) -> None:
        light = compiled(chain(ids(), traffic=[demand(rate=10_000_000)]))
        heavy = compiled(chain(ids(), traffic=[demand(rate=3_000_000_000)]))
        assert len(light.plan.cores_of[0]) == 1
        assert len(heavy.plan.cores_of[0]) > 1
        assert all(0 < share <= 0.75 for share in heavy.plan.core_load.values())

    def test_a_minimum_of_workers_is_kept(self) -> None:
        assert len(compiled(chain((*ids(), {"min_workers": 3}))).plan.cores_of[0]) == 3

    def test_reserved_cores_run_no_worker(self) -> None:
        result = compiled(chain((*ids(), {"min_workers": 3})))
        spec = LEAF_SPINE.servers[result.plan.cores_of[0][0].server]
        for core in result.plan.cores_of[0]:
            assert core.index < spec.cores - spec.reserved_cores

    def test_a_group_shares_its_cores(self) -> None:
        result = compiled(campus())
        assert len(result.plan.cores_of) == 1
        assert all(set(w.nfs) == {"edge_ids", "edge_nat"} for w in result.bundle.workers)

    def test_latency_is_within_the_slo(self) -> None:
        graph = chain(ids(), traffic=[demand(name="t", max_latency_us=100)])
        assert 0 < compiled(graph).plan.latency_us["t"] <= 100

    def test_the_same_input_gives_the_same_plan(self) -> None:
        first, second = (compiled(campus()).plan for _ in range(2))
        assert first == second

    @pytest.mark.parametrize("name", ["single", "leaf-spine", "fat-tree-k4"])
    def test_capacities_are_kept(self, name: str) -> None:
        network = topology(name)
        graph = campus()
        if not all(host in network.hosts for host in ("h1", "h2", "h3", "h4")):
            pytest.skip(f"{name} has other hosts")
        plan = compile_graph(CompileRequest(graph, network)).plan
        load: Counter[str] = Counter()
        for hop in plan.hops:
            load[hop.source, hop.target] += hop.rate
        assert max(load.values(), default=0) <= max(link.capacity for link in network.links)


class TestSideBySide:
    """What a deployed graph holds, the next one does not get."""

    @staticmethod
    def after(
        deployed: Mapping[str, Bundle],
        graph: ServiceGraph,
        on: Topology,
        relaxations: tuple[Relaxation, ...] = (),
    ) -> Compiled:
        ids_taken = {bundle.graph_id for bundle in deployed.values()}
        free = next(i for i in range(1, 1024) if i not in ids_taken)
        used = used_by(deployed, on)
        return compile_graph(
            CompileRequest(graph, on, graph_id=free, used=used, relaxations=relaxations)
        )

    def blocked(self, deployed: dict[str, Bundle], graph: ServiceGraph, on: Topology) -> str | None:
        """Deploys the graph, or says why not."""
        try:
            deployed[graph.name] = self.after(deployed, graph, on).bundle
        except InfeasibleError as error:
            return str(error)
        return None

    def test_cores(self) -> None:
        graphs = [
            replace(chain((*ids(), {"min_workers": 2})), name=name) for name in ("a", "b", "c")
        ]
        deployed: dict[str, Bundle] = {}
        for graph in graphs[:2]:
            deployed[graph.name] = self.after(deployed, graph, LEAF_SPINE).bundle
        taken = [core for b in deployed.values() for cores in b.plan.cores_of for core in cores]
        assert len(taken) == len(set(taken)) == 4
        with pytest.raises(InfeasibleError, match="core"):
            self.after(deployed, graphs[2], LEAF_SPINE)

    def test_table_entries(self) -> None:
        tight = small(topology("single"), acl_ipv4=150)
        first = self.after({}, replace(chain(long_acl(100)), name="a"), tight)
        assert not first.cuts.groups
        second = self.after({"a": first.bundle}, replace(chain(long_acl(100)), name="b"), tight)
        assert second.cuts.groups[0].nfs == ("nf0",), "the second one's goes to a server"

    def test_links(self) -> None:
        narrow = slow(LEAF_SPINE, 1_000_000_000)
        heavy = [demand(rate=700_000_000, size=1400)]
        alone = chain(ids(), traffic=heavy)
        first = self.after({}, replace(alone, name="a"), narrow)
        deployed = {"a": first.bundle}
        used = used_by(deployed, narrow)
        assert max(used.link_rate.values()) >= 700_000_000
        links = {(link.a, link.b) for link in narrow.links}
        assert all((a, b) in links or (b, a) in links for a, b in used.link_rate)
        for name in "bcd":
            if (blocked := self.blocked(deployed, replace(alone, name=name), narrow)) is not None:
                break
        assert blocked is not None
        assert "link" in blocked
        assert "Gbit/s" in blocked

    def test_a_slot_that_another_graph_fills(self) -> None:
        """Both fit the filters of one switch together, though not the same filter."""
        single = topology("single")
        graphs = [replace(chain(long_acl(n)), name=x) for x, n in (("a", 15_000), ("b", 3_000))]
        first = self.after({}, graphs[0], single, relaxations=(TernaryRules("nf0"),))
        second = self.after(
            {"a": first.bundle}, graphs[1], single, relaxations=(TernaryRules("nf0"),)
        )
        program = second.bundle.programs["switch1"]
        assert not second.cuts.groups
        assert {e.table for e in program.entries if e.action.endswith("deny")} == {"steer.ipv4"}

    def test_two_graphs_do_not_disturb_each_other(self) -> None:
        """Frames of each get what they get when it is alone."""
        left = make_graph(
            {"a": permits()},
            both_ways("l", "a", "r"),
            name="left",
            endpoints={"l": ("h1",), "r": ("h3",)},
        )
        right = make_graph(
            {"i": ids(), "n": napt()},
            both_ways("l", "i", "n", "r"),
            name="right",
            endpoints={"l": ("h2",), "r": ("h4",)},
        )
        first = self.after({}, left, LEAF_SPINE)
        second = self.after({"left": first.bundle}, right, LEAF_SPINE)
        both = in_memory(first)
        apply_bundle(second.bundle, both, None, first=False)
        alone = {"h1": in_memory(first), "h2": in_memory(self.after({}, right, LEAF_SPINE))}
        for host, peer in (("h1", "h3"), ("h2", "h4")):
            frame = Ether(src=mac_text(LEAF_SPINE.hosts[host].mac), dst=mac_text(GATEWAY_MAC))
            met = 0
            for target in (peer, "h3" if peer == "h4" else "h4"):
                src, dst = (str(LEAF_SPINE.hosts[h].addresses[0].ip) for h in (host, target))
                packet = bytes(frame / IP(src=src, dst=dst) / UDP(sport=1, dport=2))
                got = [(d.host, d.frame) for d in both.send(host, packet)]
                assert got == [(d.host, d.frame) for d in alone[host].send(host, packet)]
                met += len(got)
            assert met == 1


def test_the_plan_keeps_every_tables_size() -> None:
    graph = chain(long_acl(90), permits(), router(), traffic=[demand()])
    tight = small(LEAF_SPINE, acl_ipv4=100, route_ipv4=10)
    result = compile_graph(CompileRequest(graph, tight))
    use: dict[str, Counter[tuple[str, str]]] = {}
    for unit, switch in result.plan.device_of.items():
        use.setdefault(switch, Counter()).update(footprint(result.cuts.units[unit], [EDGE]))
    for counts in use.values():
        assert counts["acl", "ipv4"] <= 100
        assert counts["route", "ipv4"] <= 10


def test_every_failure_is_a_users_error() -> None:
    """A graph that cannot be placed never ends in a traceback."""
    awkward = [
        chain(ids(), traffic=[demand(rate=10**15)]),
        chain(ids(), traffic=[demand(max_latency_us=0)]),
        chain(permits(), traffic=[demand(rate=10**14)]),
        chain(long_acl(40_000), traffic=[demand(rate=10**12)]),
    ]
    for graph in awkward:
        with pytest.raises(ReportedError):
            compile_graph(CompileRequest(graph, LEAF_SPINE))


def test_where_it_runs_is_a_candidate_however_far() -> None:
    """Else an update of a graph that was moved away from its hosts would move it back."""
    graph, fabric = chain(ids()), Fabric(LEAF_SPINE)
    (front,) = fronts_of([CompileRequest(graph, LEAF_SPINE)], fabric)
    (group,) = front.cuts.groups
    part = GraphPart(graph, front.functions, front.cuts)

    def candidates(**running: str) -> set[str]:
        server_of = {unit: server for server in running.values() for unit in group.units}
        network = Network.planned(LEAF_SPINE)
        problem = problem_of([part], fabric, network, nearest=1, running=server_of)
        return set(problem.tasks[group.units[0]].candidates)

    (near,) = candidates()
    (far,) = set(LEAF_SPINE.servers) - {near}
    assert candidates(now=far) == {near, far}
