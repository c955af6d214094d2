"""A graph compiled again as its files change: what is remembered changes nothing but the time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.recompile import Recompiled, Recompiler
from orchestrator.errors import InputError
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle

pytestmark = pytest.mark.slow

RULE = "@10.0.1.{host}/32\t0.0.0.0/0\t0 : 65535\t{port} : {port}\t0x06/0xFF\t0x0000/0x0000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """h1 and h2 behind a firewall of 40 rules, an IDS and a router to h3."""
    chain = ["inside", "fw.inside fw.outside", "ids.inside ids.outside", "rt.inside rt.outside"]
    ends = [*" ".join(chain).split(), "outside"]
    edges = [{"from": a, "to": b} for a, b in zip(ends[::2], ends[1::2], strict=True)]
    graph = {
        "name": "g",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3"]}},
        "nfs": {
            "fw": {"type": "acl", "config": {"rules_file": "fw.rules"}},
            "ids": {
                "type": "ids",
                "config": {"signatures": [{"id": 1, "content": "evil", "protocol": "tcp"}]},
            },
            "rt": {"type": "router", "config": {"routes_file": "routes.txt"}},
        },
        "edges": edges,
        "traffic": [{"name": "t", "from": "inside", "to": "outside", "rate": "10Mbit/s"}],
    }
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    (tmp_path / "routes.txt").write_text("0.0.0.0/0 198.51.100.13\n")
    write(tmp_path, rules())
    return tmp_path


def rules() -> list[str]:
    return [RULE.format(host=host, port=4000 + host) for host in range(1, 41)]


def write(folder: Path, lines: list[str]) -> None:
    """As editors do: who reads sees the old file or the new one."""
    (folder / "fw.rules~").write_text("\n".join(lines) + "\n")
    (folder / "fw.rules~").replace(folder / "fw.rules")


def compiler_of(folder: Path) -> Recompiler:
    return Recompiler(folder / "graph.json", load_topology("leaf-spine"))


def anew(folder: Path, beside: Bundle | None) -> Bundle:
    loaded = load_graph(folder / "graph.json")
    topology = load_topology("leaf-spine")
    return compile_graph(
        CompileRequest(loaded.graph, topology, warnings=loaded.warnings, beside=beside)
    ).bundle


def counts(recompiled: Recompiled) -> dict[str, int]:
    return {kind: count for kind, count in recompiled.summary.counts.items() if count}


def test_a_changed_rule_is_the_minimal_update(folder: Path) -> None:
    compiler = compiler_of(folder)
    first = compiler.version()
    assert first.bundle == anew(folder, None)
    lines = rules()
    lines[20] = RULE.format(host=99, port=4021)
    write(folder, lines)
    second = compiler.version()
    assert counts(second) == {"add": 1, "delete": 1}
    assert second.bundle == anew(folder, first.bundle)
    write(folder, rules())
    assert counts(compiler.version()) == {"add": 1, "delete": 1}


def test_any_sequence_of_edits_gives_what_a_fresh_process_gives(folder: Path) -> None:
    compiler, lines = compiler_of(folder), rules()
    last = compiler.version().bundle
    edits = [
        lambda: lines.insert(3, RULE.format(host=200, port=22)),
        lambda: lines.insert(0, lines[5]),  # shadows it
        lambda: lines.pop(0),
        lambda: lines.reverse(),
        lambda: lines.append("@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00"),
        lambda: lines.insert(10, lines.pop()),  # takes all behind it
        lambda: lines.clear() or lines.extend(rules()),
        lambda: (folder / "routes.txt").write_text("0.0.0.0/0 198.51.100.13\n10.9.0.0/16 -\n"),
    ]
    for edit in edits:
        edit()
        write(folder, lines)
        new = compiler.version().bundle
        assert new == anew(folder, last)
        last = new


def test_nothing_is_said_to_change_when_nothing_has(folder: Path) -> None:
    compiler = compiler_of(folder)
    compiler.version()
    write(folder, rules())
    assert not compiler.version().summary


def test_an_error_leaves_the_last_version(folder: Path) -> None:
    compiler = compiler_of(folder)
    compiler.version()
    write(folder, [*rules(), "nonsense"])
    with pytest.raises(InputError, match=r"fw\.rules:41:1"):
        compiler.version()
    write(folder, [*rules(), RULE.format(host=77, port=80)])
    assert counts(compiler.version()) == {"add": 1}


def versions(compiler: Recompiler) -> Iterator[Any]:
    return compiler.watch(0.01)


def test_watching_sees_every_file(folder: Path) -> None:
    versions_seen = versions(compiler_of(folder))
    assert isinstance(next(versions_seen), Recompiled)
    write(folder, rules()[1:])
    assert counts(next(versions_seen)) == {"delete": 1}
    (folder / "routes.txt").unlink()
    assert "routes.txt" in str(next(versions_seen))
    (folder / "routes.txt").write_text("0.0.0.0/0 198.51.100.13\n10.9.0.0/16 -\n")
    added = next(versions_seen).summary.devices
    assert {table for tables in added.values() for table in tables} == {"route.ipv4"}
    graph = json.loads((folder / "graph.json").read_text())
    graph["nfs"]["fw"]["config"]["default"] = "permit"
    (folder / "graph.json").write_text(json.dumps(graph))
    assert isinstance(next(versions_seen), Recompiled)


def test_the_command_ends_cleanly(folder: Path) -> None:
    words = [sys.executable, "-m", "orchestrator", "compile", str(folder / "graph.json")]
    process = subprocess.Popen(
        [*words, "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    first = json.loads(process.stdout.readline())
    assert first["changes"]["add"] > 40
    write(folder, rules()[:-1])
    second, third = first, first
    for second in map(json.loads, islice(process.stdout, 1)):
        assert second["changes"] == {"add": 0, "change": 0, "delete": 1, "provenance": 0}
    write(folder, ["nonsense"])
    for third in map(json.loads, islice(process.stdout, 1)):
        assert "fw.rules:1:1" in third["error"]
    assert third is not first
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
