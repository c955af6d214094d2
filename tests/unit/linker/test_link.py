"""Linking one version by itself: every reference has one number, and numbers say whose they are.

Oracle: the layout of numbers (model/ids.py). Beside another version: deployment/test_update.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import campus, compiled

from orchestrator.errors import CompileError
from orchestrator.linker.link import link
from orchestrator.model import ids
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact, PipelineProgram
from orchestrator.model.refs import ClassRef, PathRef, RootRef, SegmentRef
from orchestrator.model.symbolic import (
    Symbolic,
    SymbolicChain,
    SymbolicEntry,
    SymbolicProgram,
    SymbolicWorker,
    WayOut,
)

FIRST, GATED, SLICES = SegmentRef("first"), SegmentRef("gated", gated=True), SegmentRef("slices")
PATH = PathRef("to the server", 254)
GRAPH = 5


@pytest.fixture(scope="module")
def empty() -> Bundle:
    return replace(compiled(campus()).bundle, programs={}, workers=(), graph_id=GRAPH)


def entry(
    table: str, keys: dict[str, object], action: str, params: dict[str, object]
) -> SymbolicEntry:
    return SymbolicEntry(table, tuple(keys.items()), action, tuple(params.items()), 0, "")  # type: ignore[arg-type]


def linked(empty: Bundle, *entries: SymbolicEntry) -> PipelineProgram:
    program = SymbolicProgram((FIRST, GATED), (SLICES,), (), entries, (), admits=True)
    return link(empty, Symbolic({"leaf1": program}, (), (PATH.path,))).programs["leaf1"]


def test_segments_count_from_1_and_classes_from_above(empty: Bundle) -> None:
    going = [
        entry("acl.ipv4", {"segment": segment}, "acl.ipv4.go_to", {"segment": segment})
        for segment in (FIRST, GATED, SLICES)
    ]
    segments = [dict(e.params)["segment"] for e in linked(empty, *going).entries]
    base = GRAPH << ids.SEGMENT.below
    assert segments == [base | 1, base | 2 | ids.GATED, base | ids.SEGMENT.size - 1]
    assert [e.keys for e in linked(empty, *going).entries] == [
        (("segment", Exact(number)),) for number in segments
    ]


def test_a_tag_names_a_path_and_a_class_of_its_own(empty: Bundle) -> None:
    tag = {"mac": 7, "spi": PATH, "si": PATH, "traffic_class": ClassRef()}
    away = entry("dispatch.next", {"segment": FIRST}, "dispatch.next.to_device", tag)
    one, other = linked(empty, away, away).entries
    assert one.params == (("mac", 7), ("spi", GRAPH << 14), ("si", 254), ("traffic_class", 1))
    assert dict(other.params)["traffic_class"] == 2


def test_a_root_is_the_graph_and_its_version(empty: Bundle) -> None:
    keys: dict[str, object] = {"graph": RootRef(), "epoch": RootRef()}
    door = entry("classify.first_ipv4", keys, "classify.first_ipv4.enter", {"segment": FIRST})
    program = linked(empty, door)
    assert next(iter(program.entries)).keys == (("graph", Exact(GRAPH)), ("epoch", Exact(0)))
    assert program.activation[0].keys == (("graph", Exact(GRAPH)),)


def test_a_worker_knows_its_paths(empty: Bundle) -> None:
    back = PathRef("back", 253)
    chain = SymbolicChain(PATH, (("nat", "inside"),), WayOut(9, back), ("outside",))
    worker = SymbolicWorker("server1", 0, {}, (chain,))
    (made,) = link(empty, Symbolic({}, (worker,), (PATH.path, back.path))).workers
    (served,) = made.chains
    assert (served.spi, served.si) == (GRAPH << 14, 254)
    assert [(h.nf, h.mac, h.spi, h.si) for h in served.hops] == [
        ("nat", 0, 0, 0),
        ("", 9, GRAPH << 14 | 1, 253),
    ]


def test_too_many_segments_are_told(empty: Bundle) -> None:
    many = tuple(SegmentRef(str(number)) for number in range(ids.GATED))
    with pytest.raises(CompileError, match="more than 8,191 segments on leaf1"):
        link(empty, Symbolic({"leaf1": SymbolicProgram(many)}, (), ()))
