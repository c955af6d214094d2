"""Places of rules for entries of devices, looked up in what is deployed: devices are not told them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cached_property

from orchestrator.clients.failures import RefusedUpdates
from orchestrator.clients.words import split_origin
from orchestrator.deployment.journal import Journal
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Key, TableEntry
from orchestrator.model.provenance import told

_Identity = tuple[frozenset[tuple[str, Key]], int]


class Places:
    """Puts the places of rules into entries that came from a device, by graph.

    An entry is known by table, match and priority. One that says another origin than what is deployed
    there stays as it is.
    """

    def __init__(self, deployed: Callable[[], Mapping[str, Iterable[TableEntry]]]) -> None:
        """`deployed`: entries by graph; asked when the first entry of an NF comes."""
        self._deployed = deployed
        self._tables: dict[str, dict[str, list[TableEntry]]] = {}
        self._known: dict[tuple[str, str], dict[_Identity, str]] = {}

    @classmethod
    def of(cls, bundles: Iterable[Bundle], device: str) -> Places:
        """Those of what bundles put on a device."""

        def deployed() -> Mapping[str, Iterable[TableEntry]]:
            programs = ((b.graph, b.programs.get(device)) for b in bundles)
            return {graph: program.entries for graph, program in programs if program is not None}

        return cls(deployed)

    def __call__(self, graph: str, entry: TableEntry) -> str:
        """The origin of an entry of a graph, with places."""
        if not split_origin(entry.origin)[0]:
            return entry.origin
        origin = self._origins(graph, entry.table).get((frozenset(entry.keys), entry.priority))
        return origin if origin is not None and told(origin) == told(entry.origin) else entry.origin

    @cached_property
    def _entries(self) -> Mapping[str, Iterable[TableEntry]]:
        return self._deployed()

    def _origins(self, graph: str, table: str) -> dict[_Identity, str]:
        origins = self._known.get((graph, table))
        if origins is None:
            entries = self._of_tables(graph).get(table, ())
            origins = {(frozenset(e.keys), e.priority): e.origin for e in entries}
            self._known[graph, table] = origins
        return origins

    def _of_tables(self, graph: str) -> dict[str, list[TableEntry]]:
        if graph not in self._tables:
            tables: dict[str, list[TableEntry]] = {}
            for entry in self._entries.get(graph, ()):
                tables.setdefault(entry.table, []).append(entry)
            self._tables[graph] = tables
        return self._tables[graph]


def places_in(journal: Journal, device: str) -> Places:
    """Those of what a journal says is deployed on a device."""

    def deployed() -> Mapping[str, Iterable[TableEntry]]:
        of_graphs = {name: placed.bundle.programs for name, placed in journal.deployed().items()}
        return {
            name: programs[device].entries
            for name, programs in of_graphs.items()
            if device in programs
        }

    return Places(deployed)


@contextmanager
def refusals_with(places: Places) -> Generator[None]:
    """What a switch refuses meanwhile is told with the places of rules."""
    try:
        yield
    except RefusedUpdates as error:
        raise error.placed(places) from error
