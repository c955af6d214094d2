"""Whose an entry is, by its numbers: the ids of graphs in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from orchestrator.model.entries import Exact, TableEntry
from orchestrator.model.ids import NumberLayout
from orchestrator.model.refs import LAYOUTS, Role
from orchestrator.targets.references import key_role, keys_of, param_role


@cache
def _carrying(table: str) -> dict[str, NumberLayout]:
    """The keys of a table whose numbers say which graph they belong to."""
    roles = {name: key_role(table, name) for name in keys_of(table)}
    return {name: LAYOUTS[role] for name, role in roles.items() if role in LAYOUTS}


def graph_in(role: Role | None, number: int) -> int:
    """The graph id that a number carries; 0: none."""
    layout = LAYOUTS.get(role) if role is not None else None
    return 0 if layout is None else layout.graph(number)


class Own:
    """Tells entries whose numbers are all of one graph, or of none."""

    def __init__(self, graph_id: int) -> None:
        self._graph_id = graph_id
        self._params: dict[tuple[str, tuple[tuple[str, int], ...]], bool] = {}

    def __call__(self, entry: TableEntry) -> bool:
        mine, carrying = self._graph_id, _carrying(entry.table)
        for name, key in entry.keys:
            if name in carrying and isinstance(key, Exact) and carrying[name].graph(key[0]) != mine:
                return False
        what = (entry.action, entry.params)  # many entries share them
        is_own = self._params.get(what)
        if is_own is None:
            roles = ((param_role(entry.action, name), value) for name, value in entry.params)
            is_own = all(
                not value or graph_in(r, value) == mine for r, value in roles if r in LAYOUTS
            )
            self._params[what] = is_own
        return is_own


def graphs_of(entry: TableEntry) -> Iterator[int]:
    """The graph ids that the numbers of an entry carry."""
    for name, key in entry.keys:
        if isinstance(key, Exact) and (graph := graph_in(key_role(entry.table, name), key.value)):
            yield graph
    for name, value in entry.params:
        if graph := graph_in(param_role(entry.action, name), value):
            yield graph
