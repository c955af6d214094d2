"""A target is one file: a toy one, unlike all that ship, is compiled, placed and lowered for.

It has no ranges, other ports and tables of its own, and nothing outside this file knows it. Blind spot:
no device of it runs, so its entries are judged by what they say and not by what packets do.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.deployment.desired import sample_session
from orchestrator.errors import InputError
from orchestrator.graph import load_graph
from orchestrator.model.entries import Between
from orchestrator.placement.resources import Network
from orchestrator.placement.topologies import load_topology
from orchestrator.resources import shipped
from orchestrator.targets import target as registry
from orchestrator.targets.costs import LookupCosts
from orchestrator.targets.pipelines import footprint
from orchestrator.targets.target import Cloning, ReservedPorts, known_targets, lookup, target
from orchestrator.targets.v1model import V1Model
from orchestrator.whatif.scenarios import change

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
LEAF_SPINE = load_topology("leaf-spine")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(registry, "_registry", dict(vars(registry)["_registry"]))

    @target("toy")
    class Toy(V1Model):
        ports = ReservedPorts(cpu=63)
        cloning = Cloning(session=7, copies=(3, 4))
        costs = LookupCosts(ternary_entry=0.0, tree=1.0, level=1.0, ranges=False)

    return Toy.name


def compiled(targets: dict[str, str]) -> Compiled:
    graph = load_graph(shipped("examples") / "campus_edge" / "graph.json").graph
    switches = {
        name: dataclasses.replace(switch, target=targets.get(name, "bmv2"))
        for name, switch in LEAF_SPINE.switches.items()
    }
    return compile_graph(CompileRequest(graph, dataclasses.replace(LEAF_SPINE, switches=switches)))


def ranges_on(compiled_for: Compiled, switch: str) -> int:
    program = compiled_for.bundle.programs.get(switch)
    entries = () if program is None else program.entries
    return sum(isinstance(key, Between) for entry in entries for _, key in entry.keys)


def test_a_graph_is_compiled_placed_and_lowered_for_it(toy: str) -> None:
    result = compiled(dict.fromkeys(LEAF_SPINE.switches, toy))
    assert {t for _, t in result.bundle.pipeline_of.values()} == {toy}
    assert any(result.plan.device_of.values())
    assert not any(ranges_on(result, switch) for switch in LEAF_SPINE.switches)
    assert sample_session(result.bundle, "leaf1") == (7, 63, (3, 4))


def test_its_footprint_bounds_what_lowering_makes(toy: str) -> None:
    plain = compiled({})
    result = compiled(dict.fromkeys(LEAF_SPINE.switches, toy))
    tables = result.bundle.entries_by_table()
    more = plain.bundle.entries_by_table()
    assert sum(t.total() for t in tables.values()) > sum(t.total() for t in more.values())
    for switch, use in result.bundle.block_use.items():
        filters = sum(n for table, n in use.items() if table.startswith("acl."))
        made = sum(
            n
            for table, n in tables.get(switch, {}).items()
            if table.partition(".")[0] in ("acl", "steer", "split")
        )
        assert made <= filters, switch


def test_it_stands_beside_another_one_in_a_network(toy: str) -> None:
    """The cut counts for the target that needs most; each switch is lowered as its own has it."""
    result = compiled({"leaf1": toy})
    assert sample_session(result.bundle, "leaf1").port == 63
    assert sample_session(result.bundle, "leaf2").port == lookup("bmv2").ports.cpu
    assert ranges_on(result, "leaf1") == 0
    assert ranges_on(compiled({}), "leaf1") > 0
    pipelines = Network.planned(result.topology).pipelines
    for unit in result.cuts.units.values():
        if unit.element is not None and unit.kind == "switch":
            both = footprint(unit, pipelines.values())
            assert both == both | footprint(unit, [pipelines["leaf1"]])


def test_what_names_targets_knows_it(toy: str) -> None:
    assert change(LEAF_SPINE, "leaf1.target=toy").switches["leaf1"].target == toy
    with pytest.raises(InputError, match="did you mean 'toy'"):
        change(LEAF_SPINE, "leaf1.target=toi")


def test_a_target_without_builds_is_planned_for_and_not_compiled_for() -> None:
    with pytest.raises(
        InputError, match="no pipeline is shipped for target 'tofino': it can be planned"
    ):
        compiled({"leaf1": "tofino"})
    on = change(LEAF_SPINE, "leaf1.target=tofino")
    assert not Network.planned(on).pipelines["leaf1"].target.ranges


def test_a_name_is_given_once(toy: str) -> None:
    with pytest.raises(ValueError, match="'toy' is defined twice"):
        target("toy")(V1Model)


def named(path: Path) -> Iterator[str]:
    """Names of targets that a file compares, lists or assigns."""
    names = {*known_targets()}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in names:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"


def test_nothing_outside_the_package_knows_a_target_by_name() -> None:
    """The softswitch's own package names itself in errors; runtimes have names of their own."""
    mentions = [
        told
        for folder in ("orchestrator", "mininet", "p4src")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(ROOT / "orchestrator/targets")
        if not path.is_relative_to(ROOT / "orchestrator/runtimes")
        if not path.is_relative_to(ROOT / "orchestrator/softswitch")
        for told in named(path)
    ]
    assert not mentions
