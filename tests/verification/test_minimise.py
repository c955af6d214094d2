"""A difference is told with one packet and one rule, whatever campaign has found it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.deployment.minimise import minimise, reduced
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph

RULES = [
    {"action": "deny", "protocol": "tcp", "dst_port": "20-25"},
    {"action": "deny", "src": "10.0.1.12/32", "protocol": "udp"},
    {"action": "permit", "version": 4},
    {"action": "deny", "protocol": "icmpv6"},
    {"action": "permit", "version": 6},
]


def graph_of(tmp_path: Path, acl: dict[str, object]) -> ServiceGraph:
    monitor = {"type": "flow_monitor"}
    chain = ["inside", "fw.inside", "fw.outside", "mon.inside", "mon.outside", "outside"]
    (tmp_path / "graph.json").write_text(
        json.dumps(
            {
                "name": "small",
                "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3"]}},
                "nfs": {"fw": {"type": "acl", "config": acl}, "mon": monitor},
                "edges": [
                    {"from": a, "to": b} for a, b in zip(chain[::2], chain[1::2], strict=True)
                ],
                "traffic": [{"name": "up", "from": "inside", "to": "outside", "rate": "10Mbit/s"}],
            }
        )
    )
    return load_graph(tmp_path / "graph.json").graph


def broken(bundle: Bundle) -> Bundle:
    """The bundle of a compiler that turns denials of UDP around."""

    def turned(entry: object) -> object:
        wrong = dict(entry.keys).get("protocol") == (17, 0xFF)  # type: ignore[attr-defined]
        return entry._replace(action=entry.action.replace("deny", "permit")) if wrong else entry  # type: ignore[attr-defined]

    return dataclasses.replace(
        bundle,
        programs={
            name: dataclasses.replace(program, entries=tuple(map(turned, program.entries)))
            for name, program in bundle.programs.items()
        },
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_one_packet_and_one_rule(tmp_path: Path, from_file: bool) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    rules = {"rules_file": "rules.json"} if from_file else {"rules": RULES}
    given: dict[str, object] = {**rules, "default": "permit"}
    graph, topology = graph_of(tmp_path, given), load_topology("leaf-spine")

    def compiled(tried: ServiceGraph) -> Bundle:
        return broken(compile_graph(CompileRequest(tried, topology)).bundle)

    driver = compare(graph, topology, compiled(graph), 3000)
    assert driver.differences
    frames = driver.sent[: driver.differences[-1].number]
    assert len(frames) > 1
    minimal = minimise(graph, topology, frames, compiled)
    assert minimal is not None
    assert len(minimal.frames) == 1
    assert len(minimal.rules) == 1, str(minimal)
    (rule,) = minimal.rules
    assert "rules.json:" in rule if from_file else '"udp"' in rule
    assert "expected no delivery, got delivery to h3" in str(minimal)


def test_a_difference_that_does_not_show_again_is_not_made_up(tmp_path: Path) -> None:
    graph, topology = graph_of(tmp_path, {"rules": RULES}), load_topology("leaf-spine")
    frames = [("h1", bytes(64))]
    smallest = minimise(
        graph, topology, frames, lambda g: compile_graph(CompileRequest(g, topology)).bundle
    )
    assert smallest is None


def test_reduced_keeps_what_is_needed_together() -> None:
    tried: list[list[int]] = []

    def fails(some: object) -> bool:
        tried.append(list(some))  # type: ignore[call-overload]
        return {3, 77} <= set(some)  # type: ignore[call-overload]

    assert reduced(range(100), fails) == [3, 77]
    assert len(tried) < 100
