"""The blocks in TNA are the program that v1model has: p4c's front end takes them for both chips, and
says the same tables, keys, actions and parameters of them.

Oracle: p4c's front end, and what it says of the same blocks for v1model. It knows no TNA by itself: the
architecture's text is that of a checkout of p4lang/p4c ($P4C). Blind spot: p4c's Tofino backend, so
whether a chip holds it, and what packets meet.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from finsy.proto import p4i
from google.protobuf import text_format

from orchestrator.resources import shipped
from orchestrator.targets import lookup
from orchestrator.targets.edge import EDGE_SIZES, EDGE_SLOTS
from orchestrator.targets.pipelines import SHIPPED, p4info
from orchestrator.targets.specialised import program_text
from orchestrator.targets.v1model import COMPILER

P4SRC = shipped("p4src")
BLOCKS = sorted((P4SRC / "blocks").glob("*.p4"))
INCLUDES = Path(os.environ.get("P4C", "-"), "backends/tofino/bf-p4c/p4include")
V1MODEL = p4info(SHIPPED.build("edge", "bmv2"))
_KINDS = {p4i.MatchField.RANGE: p4i.MatchField.TERNARY}
LEFT_OUT = ("ingress.trajectory_sample.", "ingress.witness.", "egress.record.")
"""HalfSipHash's rounds are some fifty stages."""


def said(info: p4i.P4Info) -> dict[str, tuple[object, object]]:
    """By table: its keys and actions, with names and widths; a range as ternary: no TCAM has any."""
    actions = {
        a.preamble.id: (a.preamble.name, tuple((p.name, p.bitwidth) for p in a.params))
        for a in info.actions
    }
    return {
        t.preamble.name: (
            tuple(
                (m.name, m.bitwidth, _KINDS.get(m.match_type, m.match_type)) for m in t.match_fields
            ),
            frozenset((actions[r.id], r.scope) for r in t.action_refs),
        )
        for t in info.tables
    }


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
@pytest.mark.skipif(not INCLUDES.is_dir(), reason="TNA: no checkout of p4lang/p4c ($P4C)")
@pytest.mark.parametrize(("target", "generation"), [("tofino", 1), ("tofino2", 2)])
def test_p4c_says_the_same_of_them(target: str, generation: int, tmp_path: Path) -> None:
    chip = lookup(target).chip
    assert chip is not None
    slots = [slot for slot in EDGE_SLOTS if slot.block not in chip.lacks]
    for name in ("arch", "shared", "blocks", "pipelines"):
        shutil.copytree(P4SRC / name, tmp_path / name)
    (tmp_path / "pipelines" / "edge.p4").write_text(program_text(slots, EDGE_SIZES))
    info = tmp_path / "p4info.txtpb"
    command = [COMPILER, "-I", str(INCLUDES), f"-D__TARGET_TOFINO__={generation}", "--Wdisable"]
    run = subprocess.run(
        [*command, "--p4runtime-files", str(info), "-o", "none.json", "pipelines/edge_tna.p4"],
        cwd=tmp_path,
        env={
            **os.environ,
            "P4C_DEFAULT_ARCH": "psa",
        },  # v1model's P4Info knows its own counters only
        capture_output=True,
        text=True,
        check=False,
    )
    # Behind its front end this compiler asks for v1model, and of nothing else it complains.
    errors = re.findall(r"error: (.*)", run.stderr)
    assert [error.split(":")[0] for error in errors] == ["package Switch"], run.stderr
    p4c_says = said(text_format.Parse(info.read_text(), p4i.P4Info()))
    expected = {
        table: what
        for table, what in said(V1MODEL).items()
        if not table.startswith(LEFT_OUT)
        if not any(table.startswith(f"ingress.{s.instance}.") for s in EDGE_SLOTS if s not in slots)
    }
    assert p4c_says == expected


def test_an_action_that_an_entry_may_have_is_of_one_table() -> None:
    """On Tofino it counts for one counter (docs/decisions/0132)."""
    names = {action.preamble.id: action.preamble.name for action in V1MODEL.actions}
    tables: dict[str, set[str]] = {}
    for table in V1MODEL.tables:
        for ref in table.action_refs:
            if ref.scope != p4i.ActionRef.DEFAULT_ONLY:
                tables.setdefault(names[ref.id], set()).add(table.preamble.name)
    assert {action: of for action, of in tables.items() if len(of) > 1} == {}


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_such_an_action_counts(path: Path) -> None:
    text = path.read_text().replace("\\\n", "\n")
    wanted = {
        name
        for listed in re.findall(r"actions = \{(.*?)\}", text, re.DOTALL)
        for name in re.findall(r"^\s*(\w[\w#]*);", listed, re.MULTILINE)
    }
    plain = re.findall(r"action (\w+)\([^{}]*\) \{\s*COUNT\(", text)
    of_tables = re.findall(r"ACTION_OF\(\w+, (\w+)\)\([^{}]*\) \{\s*COUNT\(", text)
    assert {
        name for name in wanted if name not in plain and not name.endswith(tuple(of_tables))
    } == set()
