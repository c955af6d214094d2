"""Where the parts of a bundle's programs are in its batches: what a journal's owner need not find again.

To make half a million entries of their bytes, and to find out what they belong to, takes longer than all
else that a small update does. With an index they stay bytes until somebody asks for one. It belongs to
one bundle, byte for byte, and is made by the code that reads it (orchestrator.durable sees to both).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.clients.encoding import Inserts
from orchestrator.linker.nodes import parts_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import LazyEntries, NodePart, TableEntry
from orchestrator.model.refs import Node


class PartPlace(NamedTuple):
    """A part without its entries: how many bytes they take, how many letters the places of their rules,
    how many entries there are of each table, and whether some have priorities."""

    node: Node | None
    refs: tuple[Node, ...]
    size: int
    letters: int
    tables: Mapping[str, int]
    key: bytes
    ranked: bool


Index = Mapping[str, Sequence[PartPlace]]
"""By device, in order."""


class Serialised(Inserts):
    """The entries of a device in the form of a bundle; `places` of their rules, a text for each part."""

    __slots__ = ("places",)

    def __init__(
        self,
        entries: Sequence[TableEntry],
        runs: Iterable[bytes | bytearray | memoryview],
        places: Iterable[str],
    ) -> None:
        super().__init__(entries, runs)
        self.places = list(places)


def index_of(bundle: Bundle, entries: Mapping[str, Serialised]) -> bytes:
    """The index of a bundle whose entries, and the places of their rules, are written so."""
    index: dict[str, list[Any]] = {}
    for device, program in bundle.programs.items():
        parts = parts_of(device, program.entries)
        sizes, texts = entries[device].sizes, entries[device].places
        if len(parts) == len(sizes):
            listed = index[device] = []
            for part, size, text in zip(parts, sizes, texts, strict=True):
                listed.append(_document(part, size, len(text)))
    return json.dumps(index).encode()


def read_index(data: bytes) -> Index:
    """The index of a document; ValueError, LookupError or TypeError where that is none."""
    return {device: list(_places(listed)) for device, listed in json.loads(data).items()}


def _document(part: NodePart, size: int, letters: int) -> list[Any]:
    refs: dict[tuple[str, str], list[int]] = {}
    for ref in part.refs:
        refs.setdefault((ref.kind, ref.switch), []).append(ref.number)
    key = part.entries.key if isinstance(part.entries, LazyEntries) else b""
    grouped = [[*of, numbers] for of, numbers in refs.items()]
    return [part.node, grouped, size, letters, part.tables(), key.hex(), part.ranked()]


def _places(listed: Iterable[Any]) -> Iterator[PartPlace]:
    shared: dict[tuple[tuple[str, int], ...], Mapping[str, int]] = {}
    for node, refs, size, letters, tables, key, ranked in listed:
        counts = shared.setdefault(tuple(tables.items()), tables)
        yield PartPlace(
            None if node is None else Node(*node),
            tuple([Node(kind, switch, n) for kind, switch, numbers in refs for n in numbers]),
            size,
            letters,
            counts,
            bytes.fromhex(key),
            bool(ranked),
        )
