"""Entries that come from rules of several NFs: they count for each of them."""

from __future__ import annotations

import pytest
from networks import compiled, in_memory, make_graph, one_way

from orchestrator.clients.words import origins_of
from orchestrator.deployment.places import Places
from orchestrator.observation.rows import Filter, Row, coverage
from orchestrator.observation.sessions import with_place

pytestmark = pytest.mark.slow


def test_an_origin_of_several_nfs() -> None:
    assert origins_of("fw: rules[3] & steer: rules[1]") == (
        ("fw", "rules[3]"),
        ("steer", "rules[1]"),
    )
    assert origins_of("fw: access.json:14") == (("fw", "access.json:14"),)
    assert origins_of("traffic web") == ()


def rows() -> list[Row]:
    """Of two equal access lists in one table."""
    rules = [{"action": "permit", "dst": f"10.0.0.{i}/32"} for i in range(20)]
    listed = ("acl", {"rules": rules, "default": "deny"})
    result = compiled(
        make_graph({"a": listed, "b": listed}, one_way("inside", "a", "b", "outside"))
    )
    assert any("in one table" in change for change in result.cuts.changes)
    installed = in_memory(result).switches["leaf1"].entries("acl.ipv4")
    placing = Places.of([result.bundle], "leaf1")
    return [Row("leaf1", with_place(entry, placing)) for entry in installed]


def test_coverage_counts_a_merged_entry_for_both() -> None:
    covered = {(hits.nf, hits.rule) for hits in coverage(rows())}
    assert {("a", "rules[3]"), ("b", "rules[3]"), ("a", "default")} <= covered


def test_entries_of_an_nf_are_those_that_it_is_merged_into() -> None:
    passing = [row for row in rows() if Filter(nf="b").passes(None, row)]  # type: ignore[arg-type]
    assert len(passing) == 20
