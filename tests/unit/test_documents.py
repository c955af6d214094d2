"""Documents that follow the code: a page an NF, their index, decisions with dates, links that lead on.

Blind spot: whether what they say is true; `compile --verify` and the conformance suite see to that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from orchestrator.nfs.base import known_types, lookup
from orchestrator.profiles import SHIPPED, CostPoint, read_runtime

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = DOCS / "functions"
INDEX, COSTS = PAGES / "README.md", PAGES / "costs.md"
BEGIN, END = "--rewrite-golden -->\n", "<!-- end -->"
TOGETHER = {"aes_decrypt": "aes_encrypt"}
"""NFs that are told of on another one's page."""
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


def page_of(name: str) -> Path:
    return PAGES / f"{TOGETHER.get(name, name)}.md"


def words(name: str) -> str:
    """The first line of the NF's own file, behind its name."""
    told = (sys.modules[lookup(name).__module__].__doc__ or "").splitlines()[0]
    return told.partition(": ")[2].rstrip(".")


def table() -> str:
    rows = (f"| [{n}]({page_of(n).name}) | {words(n)} |\n" for n in sorted(known_types()))
    return "| NF | what it does |\n| --- | --- |\n" + "".join(rows)


def costs() -> str:
    """Of the shipped profiles, beside what is published."""
    profiles = {name: read_runtime(SHIPPED / f"{name}.json") for name in ("python", "dpdk")}
    clocks = {name: p.measured.cycles_per_second / 1e9 for name, p in profiles.items()}
    rows = ["| NF | python | dpdk | published or estimated |", "| --- | --- | --- | --- |"]
    frames = (
        f"{clocks[n]:.2f} GHz: " + _cycles(p.frame_ns, clocks[n]) for n, p in profiles.items()
    )
    rows.append(f"| a frame | {' | '.join(frames)} | |")
    for nf in sorted(known_types()):
        measured = (
            _measured(p.nfs[nf].points, clocks[name]) if nf in p.nfs else "-"
            for name, p in profiles.items()
        )
        said = lookup(nf).cost
        byte = f" + {said.cycles_per_byte:g} a byte" if said.cycles_per_byte else ""
        estimate = f"{said.cycles_per_packet:,}{byte}: {said.source}"
        rows.append(f"| {nf} | {' | '.join(measured)} | {estimate} |")
    return "\n".join(rows) + "\n"


def _cycles(ns: Mapping[int, float], ghz: float) -> str:
    sizes = sorted(ns)
    return ", ".join(f"{ns[size] * ghz:,.0f} ({size} B)" for size in (sizes[0], sizes[-1]))


def _measured(points: Sequence[CostPoint], ghz: float) -> str:
    few = {p.bytes: p.ns for p in points if not p.entries and not p.fresh}
    told = (
        [_cycles(few, ghz)] if len(few) > 1 else [f"{n * ghz:,.0f} ({s} B)" for s, n in few.items()]
    )
    told += [f"{p.ns * ghz:,.0f} (a new flow)" for p in points if p.fresh]
    told += [
        f"{p.ns * ghz:,.0f} ({p.entries:,} entries)" for p in points if p.entries and not p.fresh
    ]
    return ", ".join(told)


@pytest.mark.parametrize(
    ("file", "made"), [(INDEX, table), (COSTS, costs)], ids=lambda it: getattr(it, "stem", "")
)
def test_tables_are_made_of_the_code(
    request: pytest.FixtureRequest, file: Path, made: Callable[[], str]
) -> None:
    text = file.read_text()
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END, begin)
    if request.config.getoption("--rewrite-golden"):
        file.write_text(text[:begin] + made() + text[end:])
    else:
        assert text[begin:end] == made(), "pytest tests/unit/test_documents.py --rewrite-golden"


@pytest.mark.parametrize("name", known_types())
def test_a_function_has_a_page(name: str) -> None:
    text = page_of(name).read_text()
    assert name in text.splitlines()[0]
    assert "Configuration:" in text


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.name[:4])
def test_a_decision_has_a_date_and_a_status(file: Path) -> None:
    title, empty, status = file.read_text().splitlines()[:3]
    assert title.startswith(f"# {file.name[:4]} ")
    assert not empty
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, (in force|superseded).*\.", status)


@pytest.mark.parametrize("file", sorted(DOCS.rglob("*.md")), ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text()):
        if "://" not in target:
            assert (file.parent / target).exists(), target
