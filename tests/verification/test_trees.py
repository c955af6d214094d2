"""Access lists as trees: the whole bundle in memory against the reference, and what they take.

The costs are such that every list becomes a tree, however short. Blind spot: BMv2 (tests/p4).
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.decision import DecidedProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.targets.costs import LookupCosts
from orchestrator.targets.pipelines import SHIPPED, footprint

CLASSBENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "classbench"
AT_ANY_PRICE = LookupCosts(1e6, tree=0, level=0, branch=0, least_gain=0)
EDGE = SHIPPED.capability("edge", "softswitch")


def graph_of(folder: Path, config: dict[str, Any]) -> ServiceGraph:
    """h1 and h2 behind an access list, and a default route to h3."""
    routes = [
        {"prefix": p, "next_hop": n, "port": "outside"}
        for p, n in (("0.0.0.0/0", "198.51.100.13"), ("::/0", "2001:db8:2::13"))
    ]
    graph = {
        "name": "trees",
        "endpoints": {  # the lists ask for sources of everywhere
            "inside": {"hosts": ["h1", "h2"], "source_guard": False},
            "outside": {"hosts": ["h3", "h4"], "source_guard": False},
        },
        "nfs": {
            "list": {"type": "acl", "config": config},
            "hop": {"type": "router", "config": {"routes": routes}},
        },
        "edges": [
            {"from": "inside", "to": "list.inside"},
            {"from": "list.outside", "to": "hop.inside"},
            {"from": "hop.outside", "to": "outside"},
        ],
        "traffic": [{"name": "all", "from": "inside", "to": "outside", "rate": "10Mbit/s"}],
    }
    (folder / "graph.json").write_text(json.dumps(graph))
    return load_graph(folder / "graph.json").graph


def decided(compiled: Compiled) -> list[DecidedProgram]:
    """The trees of a compiled graph."""
    elements = [unit.element for unit in compiled.cuts.units.values() if unit.element]
    return [e.program for e in elements if isinstance(e.program, DecidedProgram)]


def assert_footprint(compiled: Compiled) -> None:
    """What placement counted on is what lowering put into the access lists' tables."""
    for switch, tables in compiled.bundle.entries_by_table().items():
        needed: dict[str, int] = {}
        for unit, at in compiled.plan.device_of.items():
            if at == switch:
                for (block, table), count in footprint(compiled.cuts.units[unit], [EDGE]).items():
                    if block == "acl":
                        needed[f"acl.{table}"] = needed.get(f"acl.{table}", 0) + count
        assert {t: n for t, n in tables.items() if t.startswith("acl.")} == needed


def random_rules(seed: int, count: int) -> list[dict[str, Any]]:
    """Rules of every kind that meet each other often."""
    chance = random.Random(seed)

    def prefix(version: int) -> str:
        if version == 6:
            return f"2001:db8:{chance.randrange(3)}::/{chance.choice([48, 64])}"
        bits = chance.choice([0, 8, 16, 24, 24, 32, 32])
        number = (
            10 << 24 | chance.randrange(2) << 16 | 1 << 8 | chance.randrange(10, 14)
        ) >> 32 - bits
        number <<= 32 - bits
        return f"{'.'.join(str(number >> s & 255) for s in (24, 16, 8, 0))}/{bits}"

    def ports() -> str:
        low = chance.choice([0, 53, 80, 443, 1024, 40000])
        return f"{low}-{chance.choice([low, low + 1, 65535])}"

    rules: list[dict[str, Any]] = []
    for _ in range(count):
        rule: dict[str, Any] = {"action": chance.choice(["permit", "permit", "deny"])}
        version = chance.choice([4, 4, 4, 4, 6])
        rule |= {key: prefix(version) for key in ("src", "dst") if chance.random() < 0.5}
        kind = chance.choice(["ports", "ports", "flags", "icmp", "protocol", "fragment", "any"])
        if kind == "ports":
            rule |= {key: ports() for key in ("src_port", "dst_port") if chance.random() < 0.6}
            rule |= {"protocol": chance.choice(["tcp", "udp"])} if chance.random() < 0.8 else {}
        elif kind == "flags":
            rule["tcp_flags"] = chance.choice(["0x02/0x12", "0x10/0x10", "0x00/0x02", "0x04/0x04"])
        elif kind == "icmp" and version == 4:
            rule |= {"protocol": "icmp", "icmp_type": chance.choice([0, 8])}
            rule |= {"icmp_code": 0} if chance.random() < 0.5 else {}
        elif kind == "protocol":
            rule["protocol"] = chance.choice(["tcp", "udp", 47])
        elif kind == "fragment":
            rule["later_fragment"] = chance.random() < 0.5
        elif kind == "any":
            rule["dst"] = prefix(version)
        rules.append(rule)
    return rules


@pytest.mark.parametrize("seed", range(6))
def test_random_lists_are_the_reference(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.compile.filter_costs", lambda targets: AT_ANY_PRICE)
    config = {"rules": random_rules(seed, 40), "default": "permit" if seed % 2 else "deny"}
    graph, topology = graph_of(tmp_path, config), load_topology("leaf-spine")
    compiled = compile_graph(CompileRequest(graph, topology))
    assert decided(compiled)
    assert_footprint(compiled)
    driver = compare(graph, topology, compiled.bundle, 1500, seed=seed)
    assert not driver.differences, "\n".join(map(str, driver.differences[:3]))
    assert driver.delivered > 10


@pytest.mark.skipif(not CLASSBENCH.is_dir(), reason=f"no data in {CLASSBENCH}")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["acl1_10k", "fw1_1k", "ipc1_1k", "acl1_1k"])
def test_real_lists_are_the_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.compile.filter_costs", lambda targets: AT_ANY_PRICE)
    (tmp_path / "r.rules").write_bytes((CLASSBENCH / f"{name}.rules").read_bytes())
    graph = graph_of(tmp_path, {"rules_file": "r.rules"})
    topology = load_topology("leaf-spine")
    compiled = compile_graph(CompileRequest(graph, topology))
    assert decided(compiled)
    assert_footprint(compiled)
    driver = compare(graph, topology, compiled.bundle, 3000)
    assert not driver.differences, "\n".join(map(str, driver.differences[:3]))
    assert driver.delivered > 500


@pytest.mark.skipif(not CLASSBENCH.is_dir(), reason=f"no data in {CLASSBENCH}")
def test_the_shipped_costs(tmp_path: Path) -> None:
    topology = load_topology("leaf-spine")
    for name, is_tree in (("acl1_10k", True), ("acl1_1k", False), ("fw1_1k", False)):
        (tmp_path / "r.rules").write_bytes((CLASSBENCH / f"{name}.rules").read_bytes())
        compiled = compile_graph(
            CompileRequest(graph_of(tmp_path, {"rules_file": "r.rules"}), topology)
        )
        assert bool(decided(compiled)) == is_tree
        assert_footprint(compiled)


@pytest.mark.skipif(not CLASSBENCH.is_dir(), reason=f"no data in {CLASSBENCH}")
def test_one_changed_rule_changes_few_entries(tmp_path: Path) -> None:
    text = (CLASSBENCH / "acl1_10k.rules").read_text()
    lines = text.splitlines()
    source, rest = lines[5000].split("\t", 1)
    topology = load_topology("leaf-spine")

    def entries(changed: bool) -> set[object]:
        if changed:
            lines[5000] = f"@203.0.113.77/32\t{rest}"
        (tmp_path / "r.rules").write_text("\n".join(lines))
        compiled = compile_graph(
            CompileRequest(graph_of(tmp_path, {"rules_file": "r.rules"}), topology)
        )
        return {e for p in compiled.bundle.programs.values() for e in p.entries}

    before, after = entries(False), entries(True)
    assert source != "@203.0.113.77/32"
    assert 0 < len(before ^ after) < 60
