"""Ranges for targets whose ternary tables know none: each becomes the prefixes that cover it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from orchestrator.model.entries import Between, Key, Ternary
from orchestrator.model.match import PORT_BITS, range_prefixes
from orchestrator.model.refs import Ref
from orchestrator.model.symbolic import SymbolicEntry, SymbolicProgram, Unmade


def without_ranges(program: SymbolicProgram) -> SymbolicProgram:
    """The program with as many entries for each as its ranges have prefixes, of the same priority."""
    sections = tuple(
        section._replace(
            parts=tuple(part._replace(entries=_within(part.entries)) for part in section.parts)
        )
        for section in program.sections
    )
    return replace(program, sections=sections, entries=_all(program.entries))


def _within(entries: tuple[SymbolicEntry, ...] | Unmade) -> tuple[SymbolicEntry, ...] | Unmade:
    return entries if isinstance(entries, Unmade) else _all(entries)  # routes ask for no range


def _all(entries: Iterable[SymbolicEntry]) -> tuple[SymbolicEntry, ...]:
    return tuple(expanded for entry in entries for expanded in _expanded(entry))


def _expanded(entry: SymbolicEntry) -> Iterator[SymbolicEntry]:
    for keys in product(*(_options(name, key) for name, key in entry.keys)):
        yield entry._replace(keys=keys)


def _options(name: str, key: Key | Ref) -> Iterator[tuple[str, Key | Ref]]:
    if not isinstance(key, Between):
        yield name, key
        return
    for value, length in range_prefixes(key.low, key.high):
        yield name, Ternary(value, (1 << PORT_BITS) - (1 << PORT_BITS - length))
