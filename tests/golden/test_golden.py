"""The stages' outputs for the demo graph, as files to be reviewed.

`pytest tests/golden --rewrite-golden` writes what the stages give now; the diff is the review.
Large tables are summed up: how many entries, a digest of all, the first and the last.
Blind spot: whether the expected outputs are right (tests/verification).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bundle.codec import dump
from orchestrator.clients.p4info import Schema
from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.cuts import Unit
from orchestrator.model.entries import Between, Key, Lpm, PipelineProgram, TableEntry, Ternary
from orchestrator.model.routes import Routes
from orchestrator.resources import shipped
from orchestrator.targets.pipelines import SHIPPED, p4info
from servernf.wire.addresses import mac_text

HERE = Path(__file__).resolve().parent
CASES = [
    ("campus_edge", "leaf-spine"),
    ("branch_office", "single"),
    ("web_service", "leaf-spine"),
    ("service_edge", "leaf-spine"),
    ("own_mininet", str(shipped("examples") / "own_mininet" / "topology.json")),
]
LARGE, SHOWN = 24, 4
"""A table with more entries than LARGE shows its first and last SHOWN."""


def value(thing: Any) -> Any:
    if isinstance(thing, frozenset):
        return sorted(thing)
    return [asdict(route) for route in thing] if isinstance(thing, Routes) else str(thing)


def unit_json(unit: Unit) -> dict[str, Any]:
    element = unit.element
    return {
        "kind": unit.kind,
        "element": None if element is None else type(element.program).__name__,
        "versions": sorted(unit.versions),
        "ingress": unit.ingress,
        "why": unit.why,
    }


def elements_json(result: Compiled) -> dict[str, Any]:
    """Of each NF's ports: elements in digest, since an ACL has hundreds of rules."""
    units: dict[str, Any] = {}
    for unit in result.cuts.units.values():
        if unit.element is not None:
            program = asdict(unit.element)["program"]
            text = json.dumps(program, sort_keys=True, default=value)
            units[str(unit.occurrence)] = {
                "outputs": unit.element.outputs,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
    return units


def cuts_json(result: Compiled) -> dict[str, Any]:
    cuts = result.cuts
    return {
        "units": {name: unit_json(unit) for name, unit in cuts.units.items()},
        "arcs": [f"{arc.source} [{arc.output}] {arc.target}" for arc in cuts.arcs],
        "entries": [
            f"{entry.endpoint} at {entry.switch}: {entry.target}" for entry in cuts.entries
        ],
        "groups": [asdict(group) for group in cuts.groups],
    }


def plan_json(result: Compiled) -> dict[str, Any]:
    plan = asdict(replace(result.plan, core_load={}))
    plan["tree_of"] = {
        f"{a} -> {b}": tree for (a, b), tree in sorted(result.plan.tree_of.items()) if tree
    }
    plan["core_load"] = {
        str(core): round(share, 6) for core, share in result.plan.core_load.items()
    }
    return plan


def number(name: str, bits: int, value: int) -> str:
    """Addresses as addresses: this does not use observation's words, so that those may improve."""
    if name == "segment":
        return f"{value >> 14}.{value & 0x3FFF}"
    if bits == 32 and name not in ("key0", "key1", "below"):
        return str(ipaddress.IPv4Address(value))
    if bits == 48:
        return mac_text(value)
    return str(ipaddress.IPv6Address(value)) if bits == 128 else str(value)


def key_text(name: str, bits: int, key: Key) -> str:
    if isinstance(key, Lpm):
        return f"{number(name, bits, key.value)}/{key.length}"
    if isinstance(key, Ternary):
        mask = "" if key.mask == (1 << bits) - 1 else f"&{key.mask:#x}"
        return number(name, bits, key.value) + mask
    if isinstance(key, Between):
        return f"{key.low}..{key.high}"
    return number(name, bits, key.value)


def entry_text(schema: Schema, entry: TableEntry) -> str:
    fields, params = schema.table(entry.table).keys, schema.actions[entry.action].params
    keys = ", ".join(f"{n} {key_text(n, fields[n].bits, key)}" for n, key in entry.keys)
    words = ", ".join(f"{n} {number(n, params[n].bits, value)}" for n, value in entry.params)
    priority = f" [{entry.priority}]" if entry.priority else ""
    return f"  {keys}{priority}: {entry.action}({words})  # {entry.origin}"


def table_text(schema: Schema, entries: Iterable[TableEntry]) -> list[str]:
    lines = [entry_text(schema, entry) for entry in entries]
    if len(lines) <= LARGE:
        return lines
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return [*lines[:SHOWN], f"  ... {len(lines)} entries, SHA-256 {digest}", *lines[-SHOWN:]]


def program_text(schema: Schema, title: str, program: PipelineProgram) -> list[str]:
    lines = [f"== {title}"]
    for part, entries in (("", program.entries), (" (admission)", program.activation)):
        ordered = sorted(entries, key=lambda entry: entry.table)
        for table, rows in groupby(ordered, key=lambda entry: entry.table):
            lines += [f"{table}{part}", *table_text(schema, rows)]
    lines += [f"flood group {f.group}: ports {list(f.ports)}  # {f.origin}" for f in program.floods]
    return lines


def entries_text(result: Compiled) -> str:
    lines: list[str] = []
    for title, programs in (("fabric", result.bundle.fabric), ("graph", result.bundle.programs)):
        for switch, program in sorted(programs.items()):
            schema = Schema(p4info(SHIPPED.build(*result.bundle.pipeline_of[switch])))
            lines += program_text(schema, f"{switch}: {title}", program)
    return "\n".join(lines) + "\n"


def workers_json(result: Compiled) -> list[dict[str, Any]]:
    """Chains in full; configs by digest, to how many buckets pools are dealt in full."""
    return [
        {
            "worker": f"{worker.server}.{worker.core}",
            "nfs": {
                name: {
                    "type": kind,
                    "buckets": config.get("buckets"),
                    "config_sha256": hashlib.sha256(
                        json.dumps(config, sort_keys=True).encode()
                    ).hexdigest(),
                }
                for name, (kind, config) in worker.nfs.items()
            },
            "chains": [asdict(chain) for chain in worker.chains],
        }
        for worker in result.bundle.workers
    ]


def stages(result: Compiled) -> dict[str, str]:
    """Every golden file's text."""

    def text(thing: Any) -> str:
        return json.dumps(thing, indent=1, default=value) + "\n"

    return {
        "elements.json": text(elements_json(result)),
        "cuts.json": text(cuts_json(result)),
        "plan.json": text(plan_json(result)),
        "entries.txt": entries_text(result),
        "workers.json": text(workers_json(result)),
        "explanation.json": text([asdict(story) for story in result.bundle.stories]),
    }


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0])
def case(request: pytest.FixtureRequest) -> tuple[str, Compiled]:
    name, topology = request.param
    loaded = load_graph(shipped("examples") / name / "graph.json")
    return name, compile_graph(CompileRequest(loaded.graph, load_topology(topology)))


def test_stages(case: tuple[str, Compiled], request: pytest.FixtureRequest) -> None:
    name, result = case
    folder = HERE / name
    texts = stages(result)
    if request.config.getoption("--rewrite-golden"):
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        for file, text in texts.items():
            (folder / file).write_text(text)
        return
    assert sorted(path.name for path in folder.iterdir()) == sorted(texts)
    for file, text in texts.items():
        expected = (folder / file).read_text()
        assert text.splitlines() == expected.splitlines(), (
            f"{name}/{file} has changed; if that is meant: pytest tests/golden --rewrite-golden"
        )


def test_no_case_is_forgotten() -> None:
    examples = {p.name for p in shipped("examples").iterdir() if (p / "graph.json").exists()}
    assert {name for name, _ in CASES} == examples


def test_the_bundle_is_the_same_every_time(case: tuple[str, Compiled]) -> None:
    name, result = case
    topology = dict(CASES)[name]
    graph = load_graph(shipped("examples") / name / "graph.json").graph
    again = compile_graph(CompileRequest(graph, load_topology(topology)))
    assert dump(again.bundle) == dump(result.bundle)
