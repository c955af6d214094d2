"""`orchestrator bundle show`: a bundle in words, with provenance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.resources import shipped

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "campus.bundle"
    graph = Path(shipped("examples")) / "campus_edge" / "graph.json"
    done = CliRunner().invoke(app, ["compile", str(graph), "-o", str(path)])
    assert done.exit_code == 0, done.output
    return path


def test_the_whole(bundle: Path) -> None:
    shown = CliRunner().invoke(app, ["bundle", "show", str(bundle), "--json"])
    document = json.loads(shown.stdout)
    assert (document["graph"], document["topology"]) == ("campus_edge", "leaf-spine")
    assert document["entries"]["leaf1"]["acl.ipv4"] > 100
    assert {nf for worker in document["workers"] for nf in worker["nfs"]}
    assert document["stories"]
    assert (
        "campus_edge: graph id 1" in CliRunner().invoke(app, ["bundle", "show", str(bundle)]).stdout
    )


def test_entries_in_words(bundle: Path) -> None:
    command = ["bundle", "show", str(bundle), "--entries", "leaf1"]
    lines = CliRunner().invoke(app, command).stdout.splitlines()
    rows = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["rows"]
    assert [row["words"] for row in rows] == lines
    access = next(row for row in rows if row["rule"] == "access.json:2")
    assert access["nf"] == "edge_acl"
    assert access["match"]
    assert any(f"[{key} " in line for line in lines for key in access["match"])


def test_an_unknown_switch_and_a_damaged_file(bundle: Path, tmp_path: Path) -> None:
    wrong = CliRunner().invoke(app, ["bundle", "show", str(bundle), "--entries", "leaf9"])
    assert isinstance(wrong.exception, InputError)
    assert "known: leaf1, leaf2" in str(wrong.exception)
    (tmp_path / "b").write_bytes(bundle.read_bytes()[:-30])
    damaged = CliRunner().invoke(app, ["bundle", "show", str(tmp_path / "b")])
    assert isinstance(damaged.exception, InputError)
