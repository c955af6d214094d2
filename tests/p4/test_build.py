"""The checked-in build is its sources', and every table and block keeps the project's P4 habits.

Oracle: p4c where it is on PATH. Blind spot: without it, a build that was edited by hand.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from finsy.proto import p4i
from google.protobuf import text_format

P4SRC = Path(__file__).resolve().parents[2] / "p4src"
BUILD = P4SRC / "build"
PIPELINES = sorted(path.stem for path in (P4SRC / "pipelines").glob("*_v1model.p4"))
BLOCKS = sorted((P4SRC / "blocks").glob("*.p4"))


@cache
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("p4src_build", P4SRC / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def p4info(pipeline: str) -> p4i.P4Info:
    return text_format.Parse((BUILD / f"{pipeline}.p4info.txtpb").read_text(), p4i.P4Info())


@cache
def program(pipeline: str) -> dict[str, Any]:
    return json.loads((BUILD / f"{pipeline}.json").read_text())


def tables() -> list[Any]:
    return [
        pytest.param(pipeline, table, id=f"{pipeline}-{table.preamble.name}")
        for pipeline in PIPELINES
        for table in p4info(pipeline).tables
    ]


def test_the_build_is_of_these_sources() -> None:
    manifest = json.loads((BUILD / "build.json").read_text())
    assert manifest["pipelines"] == PIPELINES
    assert manifest["sources_sha256"] == builder().source_digest(), "stale: run `make p4`"


@pytest.mark.skipif(shutil.which("p4c-bm2-ss") is None, reason="p4c: not installed")
def test_a_fresh_build_is_the_same(tmp_path: Path) -> None:
    recorded = json.loads((BUILD / "build.json").read_text())["p4c"]
    if builder().compiler_version() != recorded:
        pytest.skip(f"p4c {recorded}: not installed (another version is)")
    builder().build(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in BUILD.iterdir())
    for fresh in tmp_path.iterdir():
        assert fresh.read_bytes() == (BUILD / fresh.name).read_bytes(), f"{fresh.name}: stale"


@pytest.mark.parametrize(("pipeline", "table"), tables())
class TestEveryTable:
    def test_has_a_size(self, pipeline: str, table: p4i.Table) -> None:
        assert table.size > 0

    def test_names_its_keys(self, pipeline: str, table: p4i.Table) -> None:
        names = [field.name for field in table.match_fields]
        assert names
        assert len(set(names)) == len(names)
        for name in names:  # a key without @name gets its expression: `meta.segment`
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name), f"key '{name}' has no @name"

    def test_has_a_direct_counter(self, pipeline: str, table: p4i.Table) -> None:
        counters = {c.preamble.id: c for c in p4info(pipeline).direct_counters}
        mine = [counters[i] for i in table.direct_resource_ids if i in counters]
        assert len(mine) == 1
        assert mine[0].direct_table_id == table.preamble.id
        assert mine[0].spec.unit == p4i.CounterSpec.BOTH

    def test_has_a_const_default_action(self, pipeline: str, table: p4i.Table) -> None:
        assert table.const_default_action_id
        const_tables = [
            t
            for p in program(pipeline)["pipelines"]
            for t in p["tables"]
            if t["name"] == table.preamble.name
        ]
        assert len(const_tables) == 1
        assert const_tables[0]["default_entry"]["action_const"]
        assert const_tables[0]["max_size"] == table.size


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_entries_come_from_the_controller_only(pipeline: str) -> None:
    assert not [t.preamble.name for t in p4info(pipeline).tables if t.is_const_table]


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
class TestEveryBlock:
    def test_opens_with_what_it_does(self, path: Path) -> None:
        opening = "\n".join(
            line.removeprefix("//").strip()
            for line in path.read_text().split("#ifndef")[0].splitlines()
        )
        assert opening.startswith(f"{path.stem}: "), "the first line is 'name: purpose'"
        for heading in ("Reads: ", "Writes: ", "Effect on the packet: "):
            assert heading in opening, f"the opening has no '{heading.strip()}'"
        assert "SPDX-License-Identifier: Apache-2.0" in opening

    def test_knows_no_architecture(self, path: Path) -> None:
        text = re.sub(r"//.*", "", path.read_text())
        assert "#include" not in text
        assert "standard_metadata" not in text
        assert "@id" not in text, "two instances of the block would clash"
        assert "extern" not in text

    def test_is_in_a_shipped_pipeline(self, path: Path) -> None:
        included = [
            name
            for name in PIPELINES
            if f"blocks/{path.name}"
            in (P4SRC / "pipelines" / f"{name.rpartition('_')[0]}.p4").read_text()
        ]
        assert included


def test_pipelines_only_instantiate_blocks_and_order_them() -> None:
    for name in PIPELINES:
        text = (P4SRC / "pipelines" / f"{name.rpartition('_')[0]}.p4").read_text()
        assert not re.search(r"\b(table|action)\b", re.sub(r"//.*", "", text))
