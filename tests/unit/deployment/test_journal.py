"""The journal: what is deployed, with its secrets, for its owner's eyes only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from networks import compiled, make_graph, one_way, permits

from orchestrator.deployment.journal import Journal, state_directory
from orchestrator.model.bundle import Bundle
from orchestrator.verification.manifest import Manifest, new_manifest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def bundle(name: str, graph_id: int = 1) -> Bundle:
    graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"), name=name)
    return compiled(graph, "single", graph_id=graph_id).bundle


def test_round_trip() -> None:
    journal = Journal("net")
    manifest = Manifest(1, 1 << 31, 0xFFFFFFFF, 0)
    journal.record(bundle("one", 1), manifest)
    journal.record(bundle("two", 2), None)
    found = Journal("net").deployed()
    assert list(found) == ["one", "two"]
    assert found["one"].manifest == manifest
    assert found["two"].manifest is None
    assert (
        found["one"].bundle.switches["switch1"].entries == bundle("one").switches["switch1"].entries
    )
    assert found["one"].deployed_at.endswith("+00:00")


def test_networks_are_apart() -> None:
    Journal("a").record(bundle("one"), None)
    assert Journal("b").deployed() == {}


def test_forget() -> None:
    journal = Journal("net")
    journal.record(bundle("one", 1), None)
    journal.record(bundle("two", 2), None)
    journal.forget("one")
    assert list(journal.deployed()) == ["two"]
    journal.clear()
    assert journal.deployed() == {}
    journal.clear()


def test_graph_ids_are_reused_but_never_shared() -> None:
    journal = Journal("net")
    assert journal.free_graph_id() == 1
    for graph_id in (1, 2, 3):
        assert journal.free_graph_id() == graph_id
        journal.record(bundle(f"g{graph_id}", graph_id), None)
    journal.forget("g2")
    assert journal.free_graph_id() == 2


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_it(mask: int) -> None:
    before = os.umask(mask)
    try:
        journal = Journal("net")
        journal.record(bundle("one"), new_manifest(1, 0.5))
    finally:
        os.umask(before)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    for folder in (journal.path.parent, state_directory()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_reading_makes_no_file() -> None:
    journal = Journal("net")
    assert journal.deployed() == {}
    assert not journal.path.exists()


def test_keys_are_not_shown() -> None:
    manifest = Manifest(1, 5, 0xDEADBEEF, 0xCAFEF00D)
    shown = f"{manifest!r} {manifest}"
    for key in (manifest.key0, manifest.key1):
        assert str(key) not in shown
        assert f"{key:x}" not in shown


def test_keys_are_new_each_time() -> None:
    made = [new_manifest(1, 0.5) for _ in range(20)]
    assert len({(m.key0, m.key1) for m in made if m}) == 20


@pytest.mark.parametrize(
    ("rate", "threshold"), [(1.0, 2**32 - 1), (0.5, 2**31), (0.01, 42949673), (0.0, None)]
)
def test_the_rate_is_a_threshold(rate: float, threshold: int | None) -> None:
    manifest = new_manifest(1, rate)
    assert (manifest.threshold if manifest else None) == threshold
