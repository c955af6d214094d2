"""Traffic classes: their packets against an interpreter of the cuts, their story, their picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from networks import campus, compiled, demand, ids, make_graph, napt, one_way, router, static_nat
from test_synthesis import acl, chain, cuts_of, deny, destination, permit, synthesised

from orchestrator.cli import app
from orchestrator.compiler.advice import advice
from orchestrator.compiler.classes import WayClass, traffic_classes
from orchestrator.compiler.headerspace import HeaderSet
from orchestrator.errors import InputError
from orchestrator.graph import functions_of
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match
from orchestrator.nfs.matching import Headers
from orchestrator.resources import shipped

pytestmark = pytest.mark.slow

OBSERVER = "cache_observer", {"ports": ["80"], "labels": {"hit": 1, "miss": 2}}
LABELS = "label_filter", {"rules": [{"label": 1, "action": "deny"}]}


def classes_of(graph: ServiceGraph) -> dict[str, WayClass]:
    return {traffic.name: traffic for traffic in traffic_classes(synthesised(graph), graph)}


def headers_of(packet: dict[str, int]) -> Headers:
    """A packet as a match sees it."""
    fields: dict[str, Any] = {name: packet.get(name) for name in Headers._fields}
    fields |= {"src": packet.get("src", 0), "dst": packet.get("dst", 0)}
    fields["ether_type"] = packet.get("ether_type", {4: 0x0800, 6: 0x86DD}.get(packet["version"]))
    return Headers(**fields | {"later_fragment": "protocol" in packet and _is_later(packet)})


def _is_later(packet: dict[str, int]) -> bool:
    from orchestrator.compiler.headerspace import SHAPES

    return SHAPES[packet["shape"].bit_length() - 1].endswith("later_fragment")


@pytest.mark.parametrize(
    "nfs",
    [
        [acl(deny(dst_port=80), permit(src="10.0.0.0/30"), default="deny")],
        [static_nat("10.0.0.1", "10.0.0.9"), acl(deny(src="10.0.0.9/32"))],
        [
            acl(deny(protocol="tcp", tcp_flags="0x02/0x12")),
            static_nat("10.0.0.1", "10.0.0.9"),
            ids(),
            router({"prefix": "10.0.0.0/8"}),
        ],
        [router({"prefix": "10.0.0.0/30"}, {"prefix": "2001:db8::/32"}), napt()],
    ],
)
def test_the_packets_of_a_class_end_where_it_says(nfs: list[Any]) -> None:
    graph = chain(*nfs)
    before = cuts_of(graph)
    for traffic in classes_of(graph).values():
        assert traffic.boxes
        assert HeaderSet(traffic.boxes).limit
        for box in traffic.boxes:
            got = destination(before, "inside", headers_of(box.sample()))
            server = next((d.unit for d in traffic.way if d.unit.endswith("@server")), "")
            if server:
                assert got is not None
                assert got[0] == server
            else:
                assert (got is None) == traffic.end.startswith("dropped"), (traffic, box.sample())


def test_classes_are_apart_and_cover_the_traffic() -> None:
    graph = chain(acl(deny(dst_port=80), permit(src="10.0.0.0/30")), ids())
    classes = list(classes_of(graph).values())
    assert all(one.whole for one in classes)
    union = HeaderSet(())
    for one in classes:
        boxes = HeaderSet(one.boxes)
        assert not union.intersect(boxes)
        union = union.unite(boxes)
    assert HeaderSet.of(Match()).within(union)


def test_a_class_behind_a_rewrite_is_told_in_ingress_headers() -> None:
    graph = chain(
        static_nat("10.0.0.1", "10.0.0.9"), ids(), traffic=[demand(match=Match(version=4))]
    )
    inspected = next(c for c in classes_of(graph).values() if "n1.inside@server" in str(c.way))
    assert HeaderSet(inspected.boxes).intersect(
        HeaderSet.of(Match(src=static("10.0.0.1"), dst=static("10.0.0.2")))
    )
    assert not any("10.0.0.9/32" in HeaderSet((box,)).words() for box in inspected.boxes)


def static(address: str) -> Any:
    from orchestrator.nfs.values import parse_prefix

    return parse_prefix(address)


def test_a_large_list_is_told_by_samples() -> None:
    rules = [permit(src=f"10.{i >> 8}.{i & 255}.0/24", dst_port=i) for i in range(400)]
    classes = classes_of(chain(acl(*rules, default="deny")))
    sent, dropped = classes.values()
    assert not sent.whole
    assert not dropped.whole
    assert dropped.way[-1].rules == ("default",)
    assert sent.way[0].more_rules == 397


class TestStory:
    """The story of a class of the demo's shape, placed."""

    def test_every_step_has_its_device_and_reason(self) -> None:
        stories = {story.name: story for story in compiled(campus()).classes()}
        inspected = next(
            s for s in stories.values() if s.traffic == "inside-traffic" and s.nodes[1:]
        )
        assert inspected.nodes[0] == "leaf1"
        assert inspected.hops == len(inspected.nodes) - 1
        assert all(step.device and step.why for step in inspected.steps)
        assert {step.block for step in inspected.steps} >= {"acl", "NF", "route", "deliver"}

    def test_the_witness_is_between_hosts_where_it_can_be(self) -> None:
        stories = compiled(campus()).classes()
        told = [story.witness for story in stories if story.end == "hosts of outside"]
        assert any("10.0.1.11:" in words for words in told)

    def test_recirculation_is_counted(self) -> None:
        """Rules that ask for what a rewrite changes cannot come before it if they explode."""
        pairs = [{"inside": f"10.1.0.{i}", "outside": f"10.2.0.{i}"} for i in range(200)]
        rules = [deny(src="10.0.0.0/8", dst_port=port) for port in (80, 81)]
        nfs = {"nat": ("static_nat", {"pairs": pairs}), "acl": acl(*rules)}
        result = compiled(make_graph(nfs, one_way("inside", "nat", "acl", "outside")), "single")
        assert {story.recirculations for story in result.classes() if "dropped" in story.end} == {1}


GRAPH = str(Path(shipped("examples")) / "branch_office" / "graph.json")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    app(["compile", GRAPH, *args], standalone_mode=False)
    return capsys.readouterr().out


class TestCommand:
    """`compile --explain`, `--plot`, `--max-classes`."""

    def test_a_class_by_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = run(capsys, "--explain", "up.1")
        assert "class up.1 of branch_office: traffic up, from leaf1: dropped by branch_acl" in told
        assert "such as" in told

    def test_a_class_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        (only,) = json.loads(run(capsys, "--explain", "up.2", "--json"))["classes"]
        assert only["name"] == "up.2"
        assert only["hops"] == 2
        assert [step["device"] for step in only["steps"]] == ["leaf1"] * 4

    def test_without_a_class_all_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = run(capsys, "--explain")
        assert all(name in told for name in ("up.1", "up.2", "down.1", "The cut of"))

    def test_an_unknown_class_lists_those_that_there_are(self) -> None:
        with pytest.raises(InputError, match=r"unknown traffic class 'up.7'; did you mean") as told:
            app(["compile", GRAPH, "--explain", "up.7"], standalone_mode=False)
        assert "up.1: tcp" in str(told.value)

    @pytest.mark.parametrize("suffix", ["svg", "png"])
    def test_the_picture(
        self, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("matplotlib")
        file = tmp_path / f"graph.{suffix}"
        run(capsys, "--plot", str(file))
        data = file.read_bytes()
        if suffix == "png":
            assert data.startswith(b"\x89PNG")
        else:
            assert b"leaf1" in data or b"<!-- leaf1 -->" in data

    def test_a_picture_of_another_kind_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"must end in \.svg or \.png"):
            app(["compile", GRAPH, "--plot", "graph.gif"], standalone_mode=False)


class TestAdvice:
    """Warnings with where: only what somebody wrote, only if it matters nowhere."""

    def told(self, graph: ServiceGraph) -> tuple[str, ...]:
        return advice(cuts_of(graph), synthesised(graph), graph, functions_of(graph))

    def test_shadowed_rules_with_their_place(self) -> None:
        listed = acl(deny(dst="10.0.0.0/8"), permit(dst="10.0.0.1/32"))
        assert self.told(chain(listed)) == (
            "g: nfs.n0: rules[1] can never match: shadowed by rules[0]",
        )

    def test_many_are_summed_up(self) -> None:
        listed = acl(deny(dst="10.0.0.0/8"), *[permit(dst=f"10.0.0.{i}/32") for i in range(9)])
        told = self.told(chain(listed))
        assert len(told) == 6
        assert "4 more rules can never match" in told[-1]

    def test_a_rule_for_a_version_that_never_comes(self) -> None:
        graph = chain(acl(deny(src="2001:db8::/32")), traffic=[demand(match=Match(version=4))])
        (told,) = self.told(graph)
        assert "rules[0] can never match: no packet that it asks for arrives" in told

    def test_a_rule_that_matters_on_the_server_only_is_none(self) -> None:
        """The second NF's filter in the switch meets only what the first one's let by."""
        assert self.told(chain(ids(action="alert"), OBSERVER, LABELS)) == ()

    def test_a_list_is_judged_by_itself_wherever_it_is(self) -> None:
        listed = acl(deny(dst="10.0.0.0/8"), permit(dst="10.0.0.1/32"))
        assert self.told(chain(ids(action="alert"), listed, ids(action="alert"))) == (
            "g: nfs.n1: rules[1] can never match: shadowed by rules[0]",
        )

    def test_a_rule_that_matters_in_one_direction_is_none(self) -> None:
        from networks import both_ways

        listed = acl(deny(src="2001:db8::/32"), reverse="mirror")
        traffic = [demand(match=Match(version=4)), demand("outside", "inside")]
        assert self.told(chain(listed, way=both_ways, traffic=traffic)) == ()

    def test_what_an_nf_asks_by_itself_is_none(self) -> None:
        traffic = [demand(match=Match(version=4, protocol=6))]
        assert self.told(chain(napt(), traffic=traffic)) == ()

    def test_an_output_that_no_packet_takes(self) -> None:
        told = self.told(chain(acl(deny(dst_port=80), default="deny"), ids()))
        assert "g: edges: no packet ever goes from 'n0.outside' to 'n1.inside'" in told
