"""A compiled graph under another graph id: the id is the upper part of all numbers of its nodes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.compiler.admission import epoch_entry
from orchestrator.compiler.nodes import GROUP, PATH, SEGMENT, SEGMENT_PARAMS
from orchestrator.compiler.sharing import BITS
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    ChainHop,
    Exact,
    Key,
    ServerChain,
    SwitchProgram,
    TableEntry,
    WorkerProgram,
)

_BITS_OF = {
    "graph": 0,
    **dict.fromkeys(SEGMENT_PARAMS, BITS[SEGMENT]),
    "group": BITS[GROUP],
    "spi": BITS[PATH],
}
"""Keys and parameters that hold a graph id, and how many bits of something else are below it."""


def renumbered(bundle: Bundle, graph_id: int) -> Bundle:
    """What the compiler would have made with this id; the bundle itself if it has it."""
    if bundle.graph_id == graph_id:
        return bundle
    moved = _Renumbering(graph_id - bundle.graph_id)
    return replace(
        bundle,
        graph_id=graph_id,
        switches={
            name: moved.program(program, graph_id) for name, program in bundle.switches.items()
        },
        workers=tuple(map(moved.worker, bundle.workers)),
    )


class _Renumbering:
    def __init__(self, by: int) -> None:
        self.by = by

    def program(self, program: SwitchProgram, graph_id: int) -> SwitchProgram:
        entries = tuple(map(self.entry, program.entries))
        activation = tuple(
            epoch_entry(graph_id, dict(entry.params)["epoch"]) for entry in program.activation
        )
        floods = tuple(
            flood._replace(group=self._number("group", flood.group)) for flood in program.floods
        )
        return SwitchProgram(entries, activation, floods)

    def entry(self, entry: TableEntry) -> TableEntry:
        keys = tuple((name, self._key(name, key)) for name, key in entry.keys)
        params = tuple((name, self._number(name, value)) for name, value in entry.params)
        return entry._replace(keys=keys, params=params)

    def worker(self, worker: WorkerProgram) -> WorkerProgram:
        return replace(worker, chains=tuple(map(self._chain, worker.chains)))

    def _chain(self, chain: ServerChain) -> ServerChain:
        hops = tuple(map(self._hop, chain.hops))
        return replace(chain, spi=self._number("spi", chain.spi), hops=hops)

    def _hop(self, hop: ChainHop) -> ChainHop:
        return replace(hop, spi=self._number("spi", hop.spi))

    def _key(self, name: str, key: Key) -> Key:
        return Exact(self._number(name, key.value)) if isinstance(key, Exact) else key

    def _number(self, name: str, value: int) -> int:
        """0 names nothing."""
        bits = _BITS_OF.get(name)
        return value if bits is None or not value else value + (self.by << bits)
