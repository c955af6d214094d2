"""Ranges for targets whose ternary tables know none: each becomes the prefixes that cover it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from orchestrator.linker.nodes import part_of, parts_of
from orchestrator.model.entries import Between, Entries, Key, PipelineProgram, TableEntry, Ternary
from orchestrator.model.match import PORT_BITS, range_prefixes


def without_ranges(switch: str, program: PipelineProgram) -> PipelineProgram:
    """The program with as many entries for each as its ranges have prefixes, of the same priority."""
    parts = (
        part_of(switch, part.node, (e for entry in part.entries for e in _expanded(entry)))
        for part in parts_of(switch, program.entries)
    )
    return replace(program, entries=Entries(parts))


def _expanded(entry: TableEntry) -> Iterator[TableEntry]:
    for keys in product(*(_options(name, key) for name, key in entry.keys)):
        yield entry._replace(keys=keys)


def _options(name: str, key: Key) -> Iterator[tuple[str, Key]]:
    if not isinstance(key, Between):
        yield name, key
        return
    for value, length in range_prefixes(key.low, key.high):
        yield name, Ternary(value, (1 << PORT_BITS) - (1 << PORT_BITS - length))
