"""Rows: provenance, differences, coverage. Oracle: what was installed or altered by hand."""

from __future__ import annotations

import json

import pytest
from inspection_support import CAMPUS, MANIFEST, campus, deployed_network

from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.clients.words import split_origin
from orchestrator.deployment.journal import Deployed
from orchestrator.errors import InputError
from orchestrator.nfs.files import item_lines
from orchestrator.observation.rows import (
    Row,
    compare,
    coverage,
    difference_json,
    row_json,
    sort_rows,
)
from orchestrator.observation.views import should_be

pytestmark = pytest.mark.slow


def test_the_rule_of_an_entry_is_a_line_of_the_rule_file() -> None:
    lines = (CAMPUS / "access.json").read_text().splitlines()
    denies = [
        entry
        for entry in campus().programs["leaf1"].entries
        if entry.table == "acl.ipv4" and dict(entry.keys).get("dst_port") == (23, 23)
    ]
    assert denies
    for entry in denies:
        nf, rule = split_origin(entry.origin)
        name, _, number = rule.partition(":")
        assert (nf, name) == ("edge_acl", "access.json")
        assert json.loads(lines[int(number) - 1].rstrip(","))["dst_port"] == 23


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_lines_of_json_items(indent: int | None) -> None:
    items = [{"a": [1, {"b": "[,]"}]}, {"c": "x\ny"}, {}]
    text = "\n " + json.dumps(items, indent=indent) + "\n"
    numbers = item_lines(text)
    lines = text.splitlines()
    assert len(numbers) == 3
    assert all("{" in lines[line - 1] for line in numbers)
    assert item_lines("[ \n]") == []


def test_a_clean_switch_has_no_differences_and_a_changed_one_has_each_kind() -> None:
    network = deployed_network()
    switch = network.switches["leaf1"]
    assert switch.schema is not None
    schema = switch.schema
    wanted = should_be({"campus_edge": Deployed(campus(), MANIFEST, "now")}, "leaf1")
    there = [(item.graph, item.entry) for item in switch.entries()]
    assert compare(schema, wanted, there) == []
    acl = [e for e in there if e[1].table == "acl.ipv4"]
    gone, altered = acl[3], acl[5]
    changed = altered[1]._replace(
        action="acl.ipv4.permit" if altered[1].action == "acl.ipv4.deny" else "acl.ipv4.deny",
        params=(),
    )
    stranger = ("", acl[0][1]._replace(priority=4242, origin=""))
    now = [e for e in there if e not in (gone, altered)]
    differences = compare(schema, wanted, [*now, (altered[0], changed), stranger])
    assert sorted(d.kind for d in differences) == ["changed", "extra", "missing"]
    told = json.dumps([difference_json(schema, item) for item in differences])
    assert gone[1].origin in told


def test_secrets_are_in_no_row() -> None:
    switch = deployed_network().switches["leaf1"]
    assert switch.schema is not None
    rows = [Row("leaf1", item) for item in switch.entries("trajectory_sample.manifests")]
    assert rows
    told = json.dumps([row_json(switch.schema, row) for row in rows])
    assert "(secret)" in told
    for key in (MANIFEST.key0, MANIFEST.key1):
        assert str(key) not in told
        assert f"{key:x}" not in told


def test_coverage_adds_up_a_rule_over_its_entries_and_switches() -> None:
    rules = [e for e in campus().programs["leaf1"].entries if e.table == "acl.ipv4"][:2]
    rows = [
        Row("leaf1", InstalledEntry("campus_edge", rules[0], 0, 0)),
        Row("leaf2", InstalledEntry("campus_edge", rules[0], 7, 70)),
        Row("leaf1", InstalledEntry("campus_edge", rules[1], 0, 0)),
    ]
    assert [r.packets for r in coverage(rows)] == [7, 0]
    assert [r.entries for r in coverage(rows)] == [2, 1]


def test_rules_sort_by_line_and_unknown_orders_are_told() -> None:
    rule = next(e for e in campus().programs["leaf1"].entries if e.table == "acl.ipv4")
    rows = [
        Row("leaf1", InstalledEntry("g", rule._replace(origin=f"fw: a.json:{line}"), 0, 0))
        for line in (100, 9, 20)
    ]
    assert [row.rule for row in sort_rows(rows, "rule")] == ["a.json:9", "a.json:20", "a.json:100"]
    with pytest.raises(InputError, match="did you mean 'packets'"):
        sort_rows(rows, "packet")
