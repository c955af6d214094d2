"""Entries that were serialised for the journal are written as they are. Oracle: each one by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from networks import campus, compiled

from orchestrator.bundle.codec import serialised
from orchestrator.clients.encoding import InsertRun, RawUpdate
from orchestrator.clients.p4info import Schema
from orchestrator.deployment.planning import ENTRIES, Version, plan
from orchestrator.deployment.transaction import Change, WriteEntries
from orchestrator.deployment.updates import update_of, updates_of
from orchestrator.model.entries import TableEntry
from orchestrator.model.manifest import new_manifest
from orchestrator.targets.pipelines import SHIPPED, p4info

BUNDLE = compiled(campus()).bundle
READY = serialised(BUNDLE)["leaf1"]
SCHEMA = Schema(p4info(SHIPPED.build("edge", "bmv2")))
MANIFEST = new_manifest(BUNDLE.graph_id, BUNDLE.sampling_rate)


def step() -> WriteEntries:
    """What a first deployment writes for the graph: entries, and the manifest's behind them."""
    (stage,) = (s for s in plan(None, Version(BUNDLE, MANIFEST)).stages if s.title == ENTRIES)
    (only,) = (
        s
        for s in stage.steps
        if isinstance(s, WriteEntries) and (s.device, s.owner) == ("leaf1", "campus")
    )
    return only


def made(changes: Sequence[Change]) -> list[RawUpdate | InsertRun]:
    return list(updates_of(SCHEMA, changes, "campus", READY))


def one_by_one(updates: Sequence[RawUpdate | InsertRun]) -> list[RawUpdate]:
    return [
        u for some in updates for u in (some.updates() if isinstance(some, InsertRun) else (some,))
    ]


def inverse(changes: Sequence[Change]) -> list[Change]:
    return [change.inverse() for change in changes]


SOME: dict[str, Callable[[Sequence[Change]], Sequence[Change]]] = {
    "all": lambda changes: changes,
    "every other": lambda changes: changes[::2],
    "all but one": lambda changes: [*changes[:7], *changes[8:]],
    "backwards": lambda changes: changes[::-1],
    "deletions": inverse,
    "insertions after deletions": lambda changes: [*inverse(changes), *changes],
    "of equal entries": lambda changes: [
        Change(None, TableEntry(*c.after)) if isinstance(c.after, TableEntry) else c
        for c in changes
    ],
}


@pytest.mark.parametrize("which", SOME)
def test_the_same_updates_in_the_same_order(which: str) -> None:
    changes = SOME[which](step().changes)
    assert one_by_one(made(changes)) == [update_of(SCHEMA, c, "campus") for c in changes]


def test_a_first_deployment_serialises_nothing_but_what_is_not_in_the_bundle() -> None:
    changes = step().changes
    assert len(READY.entries) > 50
    runs = [some for some in made(changes) if isinstance(some, InsertRun)]
    assert [(run.first, run.last) for run in runs] == [(0, len(READY.entries))]
    assert len(changes) - len(READY.entries) == len(one_by_one(made(changes))) - len(runs[0])


def test_what_an_older_version_has_already_is_left_out() -> None:
    changes = step().changes
    kept = [c for c in changes if c.after not in READY.entries[20:30]]
    runs = [(some.first, some.last) for some in made(kept) if isinstance(some, InsertRun)]
    assert runs == [(0, 20), (30, len(READY.entries))]
