"""docs/architecture.md names every room, in the words with which the room itself begins.

Blind spot: whether the words are true.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "architecture.md"
BEGIN, END = "--rewrite-golden -->\n", "<!-- end -->"


def rooms() -> Iterator[tuple[str, str]]:
    """Folders that are packages, and the first sentence of each."""
    for above in ("orchestrator", "servernf"):
        for init in sorted((ROOT / above).glob("*/__init__.py")):
            words = ast.get_docstring(ast.parse(init.read_text())) or ""
            yield f"{above}/{init.parent.name}", words.split("\n\n")[0].replace("\n", " ")


def table() -> str:
    rows = "".join(f"| `{name}` | {words} |\n" for name, words in rooms())
    return f"| room | what it is |\n| --- | --- |\n{rows}"


def test_every_room_is_there(request: pytest.FixtureRequest) -> None:
    text = FILE.read_text()
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END, begin)
    if request.config.getoption("--rewrite-golden"):
        FILE.write_text(text[:begin] + table() + text[end:])
    else:
        assert text[begin:end] == table(), "pytest tests/unit/test_rooms.py --rewrite-golden"


@pytest.mark.parametrize(("name", "words"), list(rooms()))
def test_a_room_says_what_it_is(name: str, words: str) -> None:
    assert words, f"{name}/__init__.py does not say what it is"
