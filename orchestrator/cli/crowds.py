"""Many rows on a screen: those that need a look, the worst first, and the others as a number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated

import typer

from orchestrator.errors import InputError, unknown

MOST = 24
"""Rows that a table may have before it tells only what is not well."""

All = Annotated[bool, typer.Option("--all", help="List every device, also of hundreds.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--device", "-d", help="Only this device, with all of it; may be repeated."),
]

Row = Sequence[object]


def crowd(
    title: str, rows: Iterable[Row], badness: Callable[[Row], float], everything: bool
) -> tuple[str, list[Row]]:
    """Title and rows of a table that stays readable: of more than MOST rows those that are not well,
    the worst MOST of them. `badness` is 0 for what is well. `everything` shows all."""
    listed = list(rows)
    if everything or len(listed) <= MOST:
        return title, listed
    wrong = [row for row in listed if badness(row)]
    told = f"{len(listed) - len(wrong)} of {len(listed)} are well"
    if len(wrong) > MOST:
        told += f", the worst {MOST} of those that are not"
        wrong.sort(key=badness, reverse=True)
    return f"{title}: {told} (--all lists all)", wrong[:MOST]


def first_rows(
    title: str, rows: Iterable[Row], everything: bool, most: int = MOST
) -> tuple[str, list[Row]]:
    """Title and rows of a table of which all rows need a look, those first that most do."""
    listed = list(rows)
    if everything or len(listed) <= most:
        return title, listed
    return f"{title}: the first {most} of {len(listed)} (--all lists all)", listed[:most]


def first_lines(lines: Iterable[str], everything: bool) -> list[str]:
    """Lines to tell, at most MOST of them and how many more there are. `everything` tells all."""
    listed = list(lines)
    if everything or len(listed) <= MOST:
        return listed
    return [*listed[:MOST], f"and {len(listed) - MOST} more (--all tells all)"]


def names_of(some: Sequence[str]) -> str:
    """Names in a row, of very many the first MOST."""
    more = len(some) - MOST
    return ", ".join(some[:MOST]) + (f" and {more} more" if more > 0 else "")


def chosen(asked: Collection[str] | None, names: Collection[str]) -> frozenset[str]:
    """The devices of `--device`, none: all of them; InputError that names one that is not there."""
    problems = [
        f"--device: {unknown('device', name, tuple(names))}"
        for name in asked or ()
        if name not in names
    ]
    if problems:
        raise InputError(problems)
    return frozenset(asked or ())
