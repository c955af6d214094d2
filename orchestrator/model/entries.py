"""What devices are given, by name: table entries for switches, configs for workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, overload

from orchestrator.model.refs import Node


class Exact(NamedTuple):
    """Equal to `value`."""

    value: int


class Lpm(NamedTuple):
    """The first `length` bits are those of `value`."""

    value: int
    length: int


class Ternary(NamedTuple):
    """Equal to `value` under `mask`."""

    value: int
    mask: int


class Between(NamedTuple):
    """From `low` to `high`, both included."""

    low: int
    high: int


Key = Exact | Lpm | Ternary | Between


class Meter(NamedTuple):
    """Bytes a second and bytes: a direct meter of two rates (RFC 2698)."""

    rate: int
    burst: int
    peak_rate: int
    peak_burst: int


class TableEntry(NamedTuple):
    """One entry: keys left out match anything; `origin` is 'NF: rule', kept as P4Runtime metadata.

    A NamedTuple, not a dataclass: half a million of them must fit in memory.
    """

    table: str
    keys: tuple[tuple[str, Key], ...]
    action: str
    params: tuple[tuple[str, int], ...]
    priority: int
    origin: str
    meter: Meter | None = None


PRIORITY_STRIDE = 1000
"""Distance of the priorities of two rules: room for rules between them (16,384 x 1,000 < 2^24)."""

FIRST_REMOTE_COPY = 1000
"""Replica ids of copies for hosts are below."""


class FloodGroup(NamedTuple):
    """A multicast group: copies to hosts at `ports`, and towards other switches at `remote`.

    The copy of `remote[i]` has replica id FIRST_REMOTE_COPY + i; table `flood.copies` addresses it.
    """

    group: int
    ports: tuple[int, ...]
    origin: str
    remote: tuple[int, ...] = ()


class Part(NamedTuple):
    """Entries of one node (None: of none), and the other nodes that they name.

    Versions of a bundle share the parts that are equal.
    """

    node: Node | None
    entries: tuple[TableEntry, ...]
    refs: tuple[Node, ...] = ()


class Entries(Sequence[TableEntry]):
    """Entries made of parts. Several parts may be of one node."""

    __slots__ = ("_count", "parts")

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)
        self._count = sum(map(len, map(attrgetter("entries"), self.parts)))

    def __iter__(self) -> Iterator[TableEntry]:
        return chain.from_iterable(part.entries for part in self.parts)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TableEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TableEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> TableEntry | tuple[TableEntry, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Entries) and self.parts == other.parts:
            return True
        return isinstance(other, Entries | tuple) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Entries({len(self)} in {len(self.parts)} parts)"


@dataclass(frozen=True, slots=True)
class PipelineProgram:
    """Everything that one graph puts on one P4Runtime device. `activation` puts it in force: it goes
    last."""

    entries: Sequence[TableEntry]
    activation: tuple[TableEntry, ...]
    floods: tuple[FloodGroup, ...]

    def entries_by_table(self) -> Counter[str]:
        """How many entries it has in each table."""
        return Counter(entry.table for entry in (*self.entries, *self.activation))


@dataclass(frozen=True, slots=True)
class ChainHop:
    """A hop of a server's service chain: an NF of the worker, or out to (MAC, SPI, SI)."""

    nf: str = ""
    port: str = ""
    mac: int = 0
    spi: int = 0
    si: int = 0


@dataclass(frozen=True, slots=True)
class ServerChain:
    """Packets tagged (spi, si) start at `hops[0]`; `outputs[i]` is the port by which they leave it."""

    spi: int
    si: int
    hops: tuple[ChainHop, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What one graph puts on one worker: NF name -> (type, config), and the chains."""

    server: str
    core: int
    nfs: Mapping[str, tuple[str, Mapping[str, Any]]]
    chains: tuple[ServerChain, ...]
