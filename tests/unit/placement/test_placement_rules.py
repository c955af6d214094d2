"""Pinning, company and its opposite in graph.json: kept by plans, and clear errors when they cannot be.

Oracle: the plan's devices. Blind spot: rules of several graphs at once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from networks import ids, long_acl, make_graph, napt, one_way, permits, router, topology

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.errors import InfeasibleError, InputError, ReportedError
from orchestrator.graph import load_graph
from orchestrator.model.graph import PlacementRules, ServiceGraph

LEAF_SPINE = topology("leaf-spine")


def chain(rules: PlacementRules, **nfs: object) -> ServiceGraph:
    graph = make_graph(nfs, one_way("inside", *nfs, "outside"))  # type: ignore[arg-type]
    return replace(graph, placement=rules)


def where(result: Compiled, nf: str) -> set[str]:
    return {s.device.split(".")[0] for s in result.bundle.stories if s.unit.startswith(f"{nf}.")}


@pytest.mark.parametrize("server", ["server1", "server2"])
def test_a_stateful_nf_is_pinned_to_a_server(server: str) -> None:
    result = compile_graph(
        CompileRequest(chain(PlacementRules({"i": server}), i=ids()), LEAF_SPINE)
    )
    assert {core.server for core in result.plan.cores_of[0]} == {server}


def test_a_stateless_nf_is_pinned_to_a_switch_or_a_server() -> None:
    for device in ("leaf2", "spine1", "server2"):
        result = compile_graph(
            CompileRequest(chain(PlacementRules({"a": device}), a=permits()), LEAF_SPINE)
        )
        assert where(result, "a") == {device}


def test_apart_and_together() -> None:
    two = {"a": permits(), "r": router()}
    apart = compile_graph(
        CompileRequest(chain(PlacementRules(apart=(("a", "r"),)), **two), LEAF_SPINE)
    )
    assert not where(apart, "a") & where(apart, "r")
    rules = PlacementRules({"r": "leaf2"}, together=(("a", "r"),))
    assert where(compile_graph(CompileRequest(chain(rules, **two), LEAF_SPINE)), "a") == {"leaf2"}


def test_rules_reach_into_merged_filters() -> None:
    """Synthesis makes one table of two filters, unless they must not share a device."""
    two = {"a": long_acl(3), "b": permits()}
    apart = compile_graph(
        CompileRequest(chain(PlacementRules(apart=(("a", "b"),)), **two), LEAF_SPINE)
    )
    assert not where(apart, "a") & where(apart, "b")
    assert where(apart, "b")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (PlacementRules({"n": "leaf1"}), "leaf1 is a switch, and only servers keep the state of n"),
        (PlacementRules({"n": "server9"}), "unknown switch or server of topology leaf-spine"),
        (PlacementRules({"n": "h1"}), "unknown switch or server of topology leaf-spine 'h1'"),
        (PlacementRules(together=(("n", "a"),)), "no device can run both n and a"),
    ],
)
def test_rules_that_no_device_can_keep(rules: PlacementRules, words: str) -> None:
    with pytest.raises(InputError) as error:
        compile_graph(CompileRequest(chain(rules, a=permits(), n=napt()), LEAF_SPINE))
    assert words in str(error.value)
    assert "placement." in str(error.value)


def test_rules_that_contradict_are_named() -> None:
    rules = PlacementRules(apart=(("i", "n"),))
    with pytest.raises(InfeasibleError) as error:
        compile_graph(CompileRequest(chain(rules, i=ids(), n=napt()), LEAF_SPINE))
    assert "i and n must not share a device, but both are in one server segment" in str(error.value)


def test_the_file_says_all_that_is_wrong(tmp_path: Path) -> None:
    raw = {
        "name": "g",
        "endpoints": {"a": {"hosts": ["h1"]}, "b": {"hosts": ["h3"]}},
        "nfs": {"edge_acl": {"type": "acl", "config": {"rules": [], "default": "permit"}}},
        "edges": [{"from": "a", "to": "edge_acl.inside"}, {"from": "edge_acl.outside", "to": "b"}],
        "traffic": [{"name": "t", "from": "a", "to": "b", "rate": "1Mbit/s"}],
        "placement": {
            "pin": {"edge_alc": "leaf1"},
            "together": [["edge_acl", "edge_acl"]],
            "apart": [["edge_acl", "nat"]],
        },
    }
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(raw))
    with pytest.raises(InputError) as error:
        load_graph(file)
    text = str(error.value)
    assert "placement.pin.edge_alc: unknown NF 'edge_alc'; did you mean 'edge_acl'?" in text
    assert "placement.together[0]: an NF is named twice" in text
    assert "placement.apart[0]: unknown NF 'nat'" in text
    raw["placement"] = {"pin": {"edge_acl": "leaf2"}}
    file.write_text(json.dumps(raw))
    assert load_graph(file).graph.placement.pinned == {"edge_acl": "leaf2"}
    raw["placement"] = {"pni": {}}
    file.write_text(json.dumps(raw))
    with pytest.raises(ReportedError, match="pni"):
        load_graph(file)


def test_pins_that_tear_a_group_apart_say_why_they_cannot_hold() -> None:
    rules = PlacementRules({"i": "server1", "n": "server2"})
    with pytest.raises(InfeasibleError) as error:
        compile_graph(CompileRequest(chain(rules, i=ids(), n=napt()), LEAF_SPINE))
    assert "i is pinned to server1" in str(error.value)
    assert "n is pinned to server2" in str(error.value)
    assert "i, n run on one server" in str(error.value)
