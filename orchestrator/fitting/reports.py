"""What a chip's compiler said of programs, as small documents of our own: stages and memory by table.

`orchestrator/targets/chip_reports.json` has those of blocks by themselves (targets/probes), so that
the estimate is held against a compiler on machines without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.fitting.steps import instance_table
from orchestrator.targets.probes import ProbeProgram
from orchestrator.targets.tna import ChipProgram, compile_for_chip

SHIPPED = Path(__file__).resolve().parents[1] / "targets" / "chip_reports.json"
_KINDS = {"sram": ("rams", "srams"), "tcam": ("tcams", "tcams"), "map_ram": ("map_rams", "maprams")}
MEMORIES = tuple(_KINDS)
_BESIDE = ("statistics", "meter", "action_data", "selection", "stateful")


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table on a chip: `entries` as declared, its first and last stage (from 1), and blocks of memory,
    also of what stands beside it (counters, meters, parameters)."""

    entries: int
    first_stage: int
    last_stage: int
    sram: int = 0
    tcam: int = 0
    map_ram: int = 0


@dataclass(frozen=True, slots=True)
class ChipReport:
    """A program on a chip: the stages that it takes in all, the bits of the containers that it uses, and
    its tables with keys by name (instance.table)."""

    chip: str
    compiler: str
    stages: int
    phv_bits: int
    tables: Mapping[str, TableReport]


def measured(probe: ProbeProgram) -> ChipReport:
    """What the compiler says of a block; EnvironmentMissing without one, CompileError if it refuses."""
    files = {"pipelines/probe.p4": probe.text()}
    return report_of(compile_for_chip(files, probe.chip), probe.chip)


def report_of(made: ChipProgram, chip: str) -> ChipReport:
    """What the compiler's own reports say of a program."""
    context = json.loads(made.context)
    keyed = {
        table["name"]: table
        for table in context["tables"]
        if table["table_type"] == "match" and table["match_key_fields"]
    }
    owner = {name: name for name in keyed}
    for name, table in keyed.items():
        for kind in _BESIDE:
            owner |= {ref["name"]: name for ref in table[f"{kind}_table_refs"]}
    taken = {name: dict.fromkeys(_KINDS, 0) for name in keyed}
    stages: dict[str, list[int]] = {name: [] for name in keyed}
    last = 0
    for stage in made.resources["mau"]["mau_stages"]:
        number = stage["stage_number"] + 1
        for logical in stage["logical_tables"]["ids"]:
            last = max(last, number)
            if logical["table_name"] in stages:
                stages[logical["table_name"]].append(number)
        for kind, (group, members) in _KINDS.items():
            for block in stage[group][members]:
                for user in {owner.get(usage["used_by"], "") for usage in block["usages"]} - {""}:
                    taken[user][kind] += 1
    tables = {
        instance_table(name): TableReport(
            keyed[name]["size"], min(stages[name]), max(stages[name]), **taken[name]
        )
        for name in sorted(keyed)
        if stages[name]
    }
    return ChipReport(chip, made.compiler, last, _phv_bits(context), tables)


def _phv_bits(context: Mapping[str, Any]) -> int:
    """Of the containers in use at any stage."""
    widths = {
        container["phv_number"]: int(container["word_bit_width"])
        for stage in context["phv_allocation"]
        for gress in ("ingress", "egress")
        for container in stage[gress]
    }
    return sum(widths.values())


def to_json(reports: Mapping[str, ChipReport]) -> str:
    """As the shipped document has them."""
    return json.dumps({name: asdict(reports[name]) for name in sorted(reports)}, indent=1) + "\n"


def from_json(text: str) -> dict[str, ChipReport]:
    """What `to_json` wrote."""
    return {
        name: ChipReport(
            raw["chip"],
            raw["compiler"],
            raw["stages"],
            raw["phv_bits"],
            {table: TableReport(**of) for table, of in raw["tables"].items()},
        )
        for name, raw in json.loads(text).items()
    }


@cache
def shipped_reports() -> Mapping[str, ChipReport]:
    """Of blocks by themselves, by the names of `targets.probes.PROBES`."""
    return from_json(SHIPPED.read_text())


def shipped_report(chip: str, table: str, entries: int) -> TableReport | None:
    """What a compiler took for a block's table of that size on a chip; None: none such was measured."""
    reports = (
        report.tables[table]
        for report in shipped_reports().values()
        if report.chip == chip and table in report.tables
    )
    return next((of for of in reports if of.entries == entries), None)
