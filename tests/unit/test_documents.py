"""Documents that follow the code: a page an NF, their index, decisions with dates, links that lead on.

Blind spot: whether what they say is true; `compile --verify` and the conformance suite see to that.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from orchestrator.nfs.base import known_types, lookup

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = DOCS / "functions"
INDEX = PAGES / "README.md"
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


def test_the_index_is_made_of_the_functions(request: pytest.FixtureRequest) -> None:
    text = INDEX.read_text()
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END, begin)
    if request.config.getoption("--rewrite-golden"):
        INDEX.write_text(text[:begin] + table() + text[end:])
    else:
        assert text[begin:end] == table(), "pytest tests/unit/test_documents.py --rewrite-golden"


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
