"""Digests of nodes: what packets meet from there on, whatever the numbers are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from hashlib import blake2b

from orchestrator.linker.nodes import Nodes
from orchestrator.model.entries import TableEntry
from orchestrator.model.refs import Node

_BYTES = 16


class Digests:
    """Those of the nodes of one version. What is the `same` in the other is told by its name alone."""

    def __init__(self, nodes: Nodes, same: Container[Node]) -> None:
        self._nodes, self._same = nodes, same
        self._known: dict[Node, bytes] = {}

    def of(self, node: Node) -> bytes:
        """The digest of a node."""
        if node in self._same:
            return repr(node).encode()
        digest = self._known.get(node)
        if digest is None:
            nodes, flood = self._nodes, self._nodes.floods.get(node)
            # A sum does not care for the order, and half a million lines need not be sorted.
            total = sum(self._lines(node)) % (1 << 8 * _BYTES)
            groups = flood and (flood.ports, flood.remote)
            text = repr((node.kind, nodes.where(node), nodes.is_gated(node), groups, total))
            digest = self._known[node] = _digest(text)
        return digest

    def _lines(self, node: Node) -> Iterator[int]:
        entries = tuple(self._nodes.entries(node))
        ranks = rank_of(entries)
        for entry in entries:
            line = self._nodes.line(node, entry)
            refs = tuple(map(self.of, line.refs))
            rank = ranks[entry.table][entry.priority]
            yield int.from_bytes(_digest(repr((*line.alone, refs, rank))), "big")
        for core, served in self._nodes.chains.get(node, ()):
            hops = self._nodes.hops(core, served)
            refs = tuple(map(self.of, hops.refs))
            yield int.from_bytes(_digest(repr((*hops.alone, refs))), "big")


def rank_of(entries: Iterable[TableEntry]) -> dict[str, dict[int, int]]:
    """Ranks of the priorities of each table: priorities may have gaps, ranks have none."""
    priorities: dict[str, set[int]] = defaultdict(set)
    for entry in entries:
        priorities[entry.table].add(entry.priority)
    return {
        table: {priority: rank for rank, priority in enumerate(sorted(some, reverse=True))}
        for table, some in priorities.items()
    }


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_BYTES).digest()
