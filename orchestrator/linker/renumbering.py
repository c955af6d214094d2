"""A compiled graph under another graph id: the id is the upper part of all numbers of its nodes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.linker.epochs import epoch_entry
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    ChainHop,
    Exact,
    Key,
    PipelineProgram,
    ServerChain,
    TableEntry,
    WorkerProgram,
)
from orchestrator.model.refs import LAYOUTS, Role
from orchestrator.targets.references import key_role, param_role


def renumbered(bundle: Bundle, graph_id: int) -> Bundle:
    """What the compiler would have made with this id; the bundle itself if it has it."""
    if bundle.graph_id == graph_id:
        return bundle
    moved = _Renumbering(graph_id - bundle.graph_id)
    return replace(
        bundle,
        graph_id=graph_id,
        programs={
            name: moved.program(program, graph_id) for name, program in bundle.programs.items()
        },
        workers=tuple(map(moved.worker, bundle.workers)),
    )


class _Renumbering:
    def __init__(self, by: int) -> None:
        self.by = by

    def program(self, program: PipelineProgram, graph_id: int) -> PipelineProgram:
        entries = tuple(map(self.entry, program.entries))
        activation = tuple(
            epoch_entry(graph_id, dict(entry.params)["epoch"]) for entry in program.activation
        )
        floods = tuple(
            flood._replace(group=self._number(Role.GROUP, flood.group)) for flood in program.floods
        )
        return PipelineProgram(entries, activation, floods)

    def entry(self, entry: TableEntry) -> TableEntry:
        keys = tuple((name, self._key(entry.table, name, key)) for name, key in entry.keys)
        params = tuple(
            (name, self._number(param_role(entry.action, name), value))
            for name, value in entry.params
        )
        return entry._replace(keys=keys, params=params)

    def worker(self, worker: WorkerProgram) -> WorkerProgram:
        return replace(worker, chains=tuple(map(self._chain, worker.chains)))

    def _chain(self, chain: ServerChain) -> ServerChain:
        hops = tuple(map(self._hop, chain.hops))
        return replace(chain, spi=self._number(Role.PATH, chain.spi), hops=hops)

    def _hop(self, hop: ChainHop) -> ChainHop:
        return replace(hop, spi=self._number(Role.PATH, hop.spi))

    def _key(self, table: str, name: str, key: Key) -> Key:
        if not isinstance(key, Exact):
            return key
        return Exact(self._number(key_role(table, name), key.value))

    def _number(self, role: Role | None, value: int) -> int:
        layout = None if role is None else LAYOUTS.get(role)
        return value if layout is None else layout.moved(value, self.by)
