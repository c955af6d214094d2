"""Many rows on a screen: those that need a look, and the others as a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import typer

MOST = 24
"""Rows that a table may have before it tells only what is not well."""

All = Annotated[bool, typer.Option("--all", help="List every device, also of hundreds.")]

Row = Sequence[object]


def crowd(
    title: str, rows: Iterable[Row], is_well: Callable[[Row], bool], everything: bool
) -> tuple[str, list[Row]]:
    """Title and rows of a table that stays readable: of more than MOST rows those that are not well,
    at most MOST of them. `everything` shows all."""
    listed = list(rows)
    if everything or len(listed) <= MOST:
        return title, listed
    wrong = [row for row in listed if not is_well(row)]
    told = f"{len(listed) - len(wrong)} of {len(listed)} are well"
    if len(wrong) > MOST:
        told += f", the first {MOST} that are not"
    return f"{title}: {told} (--all lists all)", wrong[:MOST]
