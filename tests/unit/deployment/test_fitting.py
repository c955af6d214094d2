"""Whether a bundle fits a network and what is there, and what is said when it does not.

Oracle: the topology it was compiled for, changed in one place; other graphs that hold what it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from networks import campus, compiled, ids, long_acl, make_graph, one_way, router, small, topology

from orchestrator.bundle.codec import Packed, dump, unpack
from orchestrator.compile import CompileRequest, TernaryRules, compile_graph
from orchestrator.deployment.fitting import beside, for_network
from orchestrator.deployment.journal import Deployed
from orchestrator.errors import DeploymentError, InfeasibleError, InputError
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.topology import Topology
from orchestrator.placement.resources import used_by
from orchestrator.targets.pipelines import SHIPPED, SPECIALISED

WHERE = "leaf-spine"
HERE = topology(WHERE)


def packed(bundle: Bundle, made_for: Topology = HERE) -> Packed:
    """As it comes out of a file."""
    return unpack(dump(bundle, topology=made_for), "campus.bundle")


CAMPUS = packed(compiled(campus()).bundle)


def fitted(
    file: Packed,
    *others: Bundle,
    old: Bundle | None = None,
    here: Topology = HERE,
    free_id: int = 9,
) -> Bundle:
    bundle = for_network(file, here)
    beside_it = {b.graph: b for b in others}
    deployed = {b.graph: Deployed(b, None, "then") for b in (*others, *([old] if old else []))}
    return beside(bundle, here, deployed, used_by(beside_it, here), free_id)


def other_graph(graph_id: int = 1, **options: object) -> Bundle:
    """Another graph, on servers and on switches, whose packets are not the campus's."""
    nfs = {"watch": ids(), "routes": router()}
    graph = make_graph(nfs, one_way("inside", "watch", "routes", "outside"), name="other")
    return compile_graph(CompileRequest(graph, HERE, graph_id=graph_id, **options)).bundle  # type: ignore[arg-type]


def changed(some: dict, name: str, **what: object) -> dict:  # type: ignore[type-arg]
    return {**some, name: replace(some[name], **what)}


def without(some: dict, name: str) -> dict:  # type: ignore[type-arg]
    return {key: value for key, value in some.items() if key != name}


CHANGES: dict[str, Callable[[Topology], Topology]] = {
    "leaf1 is missing": lambda t: replace(t, switches=without(t.switches, "leaf1")),
    "h1's mac is 7 and was": lambda t: replace(t, hosts=changed(t.hosts, "h1", mac=7)),
    "server1's cores is 2 and": lambda t: replace(
        t, servers=changed(t.servers, "server1", cores=2)
    ),
    "spine1's id is 77": lambda t: replace(t, switches=changed(t.switches, "spine1", id=77)),
    "link .* is missing": lambda t: replace(t, links=t.links[1:]),
    "link .*'s capacity is 5 and was": lambda t: replace(
        t, links=(replace(t.links[0], capacity=5), *t.links[1:])
    ),
    "trees is 99": lambda t: replace(t, trees=99),
}


class TestNetwork:
    def test_its_own(self) -> None:
        assert for_network(CAMPUS, HERE) == CAMPUS.bundle

    def test_targets_are_those_that_run(self) -> None:
        switches = {n: replace(s, target="bmv2") for n, s in HERE.switches.items()}
        bundle = for_network(CAMPUS, replace(HERE, switches=switches))
        assert set(bundle.pipeline_of.values()) == {("edge", "bmv2")}
        assert bundle.programs == CAMPUS.bundle.programs

    @pytest.mark.parametrize("told", CHANGES)
    def test_another_one(self, told: str) -> None:
        with pytest.raises(InputError, match=f"campus.bundle: was compiled for another.*{told}"):
            for_network(CAMPUS, CHANGES[told](HERE))

    def test_where_files_are_is_not_told_and_does_not_matter(self) -> None:
        assert CAMPUS.topology is not None
        assert HERE.source
        assert CAMPUS.topology.source == ""

    def test_a_file_of_a_journal_does_not_say(self) -> None:
        with pytest.raises(InputError, match="which topology it was compiled for: write it with"):
            for_network(unpack(dump(CAMPUS.bundle), "x"), HERE)

    def test_cores_that_the_network_lacks(self) -> None:
        workers = tuple(replace(w, core=40) for w in CAMPUS.bundle.workers)
        with pytest.raises(InputError, match=r"there is no worker on server1\.41"):
            for_network(packed(replace(CAMPUS.bundle, workers=workers)), HERE)


class TestBesideOthers:
    def test_a_number_that_is_free_is_kept(self) -> None:
        assert fitted(CAMPUS) == CAMPUS.bundle

    def test_one_that_is_taken_becomes_another(self) -> None:
        other = other_graph(used=used_by({"campus": CAMPUS.bundle}, HERE))
        bundle = fitted(CAMPUS, other)
        assert bundle.graph_id == 9
        as_9 = compile_graph(CompileRequest(campus(), HERE, graph_id=9)).bundle
        assert bundle.programs.keys() == as_9.programs.keys()
        for name, program in as_9.programs.items():
            assert bundle.programs[name].entries == program.entries
            assert bundle.programs[name].activation == program.activation

    def test_an_update_shares_what_is_equal(self) -> None:
        old = compile_graph(CompileRequest(campus(), HERE, graph_id=4)).bundle
        bundle = fitted(CAMPUS, old=unpack(dump(old), "journal").bundle)
        assert bundle.graph_id == 4
        assert {n: set(p.entries) for n, p in bundle.programs.items()} == {
            n: set(p.entries) for n, p in old.programs.items()
        }

    def test_cores_of_others(self) -> None:
        other = other_graph(graph_id=2)
        with pytest.raises(InfeasibleError) as caught:
            fitted(CAMPUS, other)
        assert re.search(
            r"does not fit beside other: server\d\.\d belongs to other", str(caught.value)
        )
        assert "deploying graph.json places it anew" in str(caught.value)

    def test_a_table_that_others_have_filled(self) -> None:
        here = small(HERE, acl_ipv4=1500)
        mine = make_graph({"fw": long_acl(900)}, one_way("inside", "fw", "outside"), name="mine")
        other = make_graph({"fw": long_acl(800)}, one_way("inside", "fw", "outside"), name="other")
        file = packed(
            compile_graph(CompileRequest(mine, here, relaxations=(TernaryRules("fw"),))).bundle,
            here,
        )
        taken = compile_graph(
            CompileRequest(other, here, graph_id=2, relaxations=(TernaryRules("fw"),))
        ).bundle
        with pytest.raises(
            InfeasibleError, match=r"leaf1 all acl\.ipv4 holds 1500 entries, \d+ of them"
        ):
            fitted(file, taken, here=here)
        assert fitted(file, here=here) == for_network(file, here)

    def test_links_that_others_fill(self) -> None:
        used = used_by({}, HERE)
        rates = {
            (a, b): link.capacity
            for link in HERE.links
            for a, b in ((link.a, link.b), (link.b, link.a))
        }
        with pytest.raises(InfeasibleError, match=r"link \S+ -> \S+ has 0 Gbit/s left"):
            beside(CAMPUS.bundle, HERE, {}, replace(used, link_rate=rates), 9)

    def test_memory_that_others_have(self) -> None:
        used = replace(used_by({}, HERE), memory_bytes=dict.fromkeys(HERE.servers, 1 << 50))
        with pytest.raises(InfeasibleError, match=r"server\d has 0 bytes of memory left"):
            beside(CAMPUS.bundle, HERE, {}, used, 9)

    def test_another_pipeline_runs(self) -> None:
        other, own = other_graph(graph_id=2), _own_pipeline()
        file = replace(CAMPUS, bundle=replace(CAMPUS.bundle, devices=other.devices))
        devices = {
            name: replace(device, pipeline=own.name) if device.has_pipeline else device
            for name, device in other.devices.items()
        }
        running = replace(other, devices=devices, builds=(own,))
        with pytest.raises(
            DeploymentError, match=r"run pipeline specialised-\w+ for other, and the bundle"
        ):
            fitted(file, running)


def _own_pipeline() -> Build:
    """A pipeline of its own: the shipped one with a blank more."""
    edge = SHIPPED.build("edge", "bmv2")
    made = replace(edge, p4info_text=edge.p4info_text + b"\n")
    return replace(made, name=f"{SPECIALISED}-{made.cookie:016x}")
