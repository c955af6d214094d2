"""Places of rules: devices are not told them, and who reads a device sees them all the same."""

from __future__ import annotations

import pytest
from finsy.proto import p4r

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.failures import Failure, RefusedUpdates
from orchestrator.clients.p4info import Schema
from orchestrator.deployment.places import Places, refusals_with
from orchestrator.errors import WriteRefused
from orchestrator.model.entries import Exact, Lpm, TableEntry
from orchestrator.targets.pipelines import SHIPPED, p4info

SEGMENT = ("segment", Exact(1 << 14 | 1))
DENY = TableEntry("acl.ipv4", (SEGMENT,), "acl.ipv4.deny", (), 7001, "fw: rules[7]")
ROUTE = TableEntry(
    "route.ipv4",
    (SEGMENT, ("dst", Lpm(10 << 24, 8))),
    "route.ipv4.unreachable",
    (),
    0,
    "r: rib.txt:14",
)


def schema() -> Schema:
    return Schema(p4info(SHIPPED.build("edge", "bmv2")))


def as_read(entry: TableEntry) -> TableEntry:
    return schema().decode(schema().encode(entry, "campus"))[1]


@pytest.mark.parametrize("entry", [DENY, ROUTE], ids=["by priority", "by prefix"])
def test_the_place_of_a_rule_is_found_by_its_entry(entry: TableEntry) -> None:
    places = Places(lambda: {"campus": (DENY, ROUTE)})
    read = as_read(entry)
    assert read.origin != entry.origin
    assert places("campus", read) == entry.origin
    assert places("another", read) == read.origin, "of a graph that is not deployed"
    assert places("campus", read._replace(priority=5)) == read.origin, "nobody deployed it"
    assert places("campus", read._replace(origin="fw: other")) == "fw: other", "it is another's"


def test_what_is_no_rule_asks_for_nothing() -> None:
    def deployed() -> dict[str, tuple[TableEntry, ...]]:
        raise AssertionError("the journal need not be read")

    entry = DENY._replace(origin="traffic web")
    assert Places(deployed)("campus", entry) == "traffic web"


def test_a_refusal_is_told_with_the_place() -> None:
    update = RawUpdate(p4r.Update.INSERT, schema().identified(DENY, "campus")[1])
    refused = RefusedUpdates("leaf1", [Failure(update, 6, "it is there")], schema())
    assert "NF fw, rules)" in str(refused)
    with (
        pytest.raises(WriteRefused, match=r"^leaf1: insert acl\.ipv4 .*NF fw, rules\[7\]\)"),
        refusals_with(Places(lambda: {"campus": (DENY,)})),
    ):
        raise refused
