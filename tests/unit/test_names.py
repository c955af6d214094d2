"""One name, one thing: no two public classes are called alike, and a local says what was found."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from test_sizes import ROOT, modules

TWO_HANDS = ("orchestrator/nfs/", "servernf/python/")
"""The reference and the runtime say the same thing apart, each in its own words: with one name."""
SAYS_NOTHING = ("found", "known")
OF_PEOPLE = ("orchestrator", "servernf", "p4src", "tests")


def classes() -> Iterator[tuple[str, str]]:
    """(name, path) of the public classes of every module."""
    for path, text in modules():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path


def is_of_two_hands(paths: list[str]) -> bool:
    return len(paths) == 2 and all(
        path.startswith(hand) for path, hand in zip(sorted(paths), TWO_HANDS, strict=True)
    )


def test_no_name_means_two_things() -> None:
    where = defaultdict[str, list[str]](list)
    for name, path in classes():
        where[name].append(path)
    assert is_of_two_hands(where["Napt"]), "classes are looked for in the wrong place"
    shared = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert {name: at for name, at in shared.items() if not is_of_two_hands(at)} == {}


def locals_of(path: Path) -> Iterator[tuple[str, int]]:
    """(name, line) of parameters and local variables; a field says of what it is by its class."""
    tree = ast.parse(path.read_text())
    fields = {
        id(statement.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and id(node) not in fields
        ):
            yield node.id, node.lineno


def test_locals_say_what_was_found() -> None:
    paths = [path for room in OF_PEOPLE for path in sorted((ROOT / room).rglob("*.py"))]
    assert "paths" in {name for name, _ in locals_of(Path(__file__))}
    empty = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for name, line in locals_of(path)
        if name in SAYS_NOTHING
    ]
    assert empty == []
