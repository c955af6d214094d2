"""The journal: what is deployed, with its secrets, for its owner's eyes only."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from networks import compiled, make_graph, one_way, permits

from orchestrator.deployment.journal import Deployed, Journal, now, state_directory
from orchestrator.errors import StoreError
from orchestrator.graph.kept import dump_graph
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import SamplingSecret, new_manifest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def bundle(name: str, graph_id: int = 1) -> Bundle:
    graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"), name=name)
    return compiled(graph, "single", graph_id=graph_id).bundle


def record(journal: Journal, bundle: Bundle, manifest: SamplingSecret | None = None) -> None:
    with journal.lead() as lead:
        lead.intend(bundle.graph, Deployed(bundle, manifest, now()))
        lead.finished()


def forget(journal: Journal, graph: str) -> None:
    with journal.lead() as lead:
        lead.intend(graph, None)
        lead.finished()


def test_round_trip() -> None:
    manifest = SamplingSecret(1, 1 << 31, 0xFFFFFFFF, 0)
    record(Journal("net"), bundle("one", 1), manifest)
    record(Journal("net"), bundle("two", 2))
    deployed = Journal("net").deployed()
    assert list(deployed) == ["one", "two"]
    assert deployed["one"].manifest == manifest
    assert deployed["two"].manifest is None
    assert (
        deployed["one"].bundle.programs["switch1"].entries
        == bundle("one").programs["switch1"].entries
    )
    assert deployed["one"].deployed_at.endswith("+00:00")


def test_networks_are_apart() -> None:
    record(Journal("a"), bundle("one"))
    assert Journal("b").deployed() == {}


def test_forget() -> None:
    journal = Journal("net")
    record(journal, bundle("one", 1))
    record(journal, bundle("two", 2))
    forget(journal, "one")
    assert list(journal.deployed()) == ["two"]
    journal.clear()
    assert journal.deployed() == {}
    journal.clear()


def test_the_graph_itself_is_kept_with_its_bundle() -> None:
    journal, graph = Journal("net"), make_graph({"a": permits()}, one_way("inside", "a", "outside"))
    deployed = Deployed(bundle("g", 1), None, now(), dump_graph(graph))
    with journal.lead() as lead:
        lead.intend("g", deployed)
        intent = journal.intent()
        assert intent is not None
        assert intent.new is not None
        assert intent.new.graph() == graph
        lead.finished()
    assert journal.deployed()["g"].graph() == graph
    record(journal, bundle("g", 1))  # then as a bundle, of which no graph is known
    assert journal.deployed()["g"].graph() is None
    with journal.lead() as lead:
        lead.rewrite({"g": deployed})
    assert journal.deployed()["g"].graph() == graph
    forget(journal, "g")
    assert journal.store.read() == {}


def test_graph_ids_are_reused_but_never_shared() -> None:
    journal = Journal("net")
    assert journal.free_graph_id() == 1
    for graph_id in (1, 2, 3):
        assert journal.free_graph_id() == graph_id
        record(journal, bundle(f"g{graph_id}", graph_id))
    forget(journal, "g2")
    assert journal.free_graph_id() == 2


def test_an_intent_is_there_before_and_while_stages_run() -> None:
    journal = Journal("net")
    record(journal, bundle("one", 1))
    new = Deployed(bundle("one", 1), SamplingSecret(1, 2, 3, 4), now())
    with journal.lead() as lead:
        lead.intend("one", new, interrupting=True)
        seen = [journal.intent()]
        for stage in (0, 1):
            lead.begin(stage)
            seen.append(journal.intent())
        lead.end(1)
        lead.replaced("leaf1", b"saved")
        seen.append(journal.intent())
        assert lead.saved("leaf1") == b"saved"
        assert lead.saved("leaf") is None
        lead.undo(1)
        seen.append(journal.intent())
        assert [(i.reached, i.undoing) for i in seen if i] == [
            *((stage, False) for stage in (-1, 0, 1, 2)),
            (1, True),
        ]
        first = seen[0]
        assert first is not None
        assert (first.graph, first.interrupting) == ("one", True)
        assert first.new is not None
        assert (first.new.manifest, first.new.deployed_at) == (new.manifest, new.deployed_at)
        assert (
            first.new.bundle.programs["switch1"].entries == new.bundle.programs["switch1"].entries
        )
        assert first.controller.startswith(f"process {os.getpid()} on ")
        assert journal.deployed()["one"].manifest is None, "the old version is still the one"
        with pytest.raises(
            StoreError, match=r"a change of one that process \d+ .* is not finished"
        ):
            lead.intend("two", None)
        lead.finished()
        assert journal.intent() is None
        assert lead.saved("leaf1") is None
    assert journal.deployed()["one"].manifest == SamplingSecret(1, 2, 3, 4)


def test_what_is_undone_leaves_no_trace() -> None:
    journal = Journal("net")
    with journal.lead() as lead:
        lead.intend("one", Deployed(bundle("one"), None, now()))
        lead.begin(0)
        lead.undone()
    assert journal.deployed() == {}
    assert journal.intent() is None
    assert journal.store.read() == {}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_it(mask: int) -> None:
    before = os.umask(mask)
    try:
        record(Journal("net"), bundle("one"), new_manifest(1, 0.5))
    finally:
        os.umask(before)
    folder = state_directory() / "journal"
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for each in (folder, state_directory()):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


def test_reading_makes_no_file() -> None:
    assert Journal("net").deployed() == {}
    assert Journal("net").intent() is None
    assert not list((state_directory() / "journal").iterdir())


def test_keys_are_not_shown() -> None:
    manifest = SamplingSecret(1, 5, 0xDEADBEEF, 0xCAFEF00D)
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


@pytest.mark.parametrize("what", ["owed", "intent"])
def test_notes_of_an_earlier_version_are_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name switches where devices are named now."""
    old = {"graph": "one", "graph_id": 1, "switches": ["leaf1"], "cores": []}
    intent = {**dict.fromkeys(("begun_at", "controller", "new"), ""), "interrupting": False}
    key, value = {
        "owed": ("owed/1", old),
        "intent": (
            "transaction/intent",
            {**intent, "graph": "one", "away": {**old, "switches": {}}},
        ),
    }[what]
    journal = Journal("net")
    held = {key: json.dumps(value).encode()}
    monkeypatch.setattr(
        journal.store,
        "read",
        lambda prefix="": {k: v for k, v in held.items() if k.startswith(prefix)},
    )
    with pytest.raises(StoreError, match="an earlier version's"):
        getattr(journal, what)()
