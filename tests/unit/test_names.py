"""One name, one thing: no two public classes of the packages are called alike."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from test_sizes import modules

TWO_HANDS = ("orchestrator/nfs/", "servernf/python/")
"""The reference and the runtime say the same thing apart, each in its own words: with one name."""


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
