"""What devices are given, by name: table entries for switches, configs for workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
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

    @property
    def effect(self) -> tuple[object, ...]:
        """What it does to which packets, in which order: all but its meter and where it is from."""
        return self[:5]

    def same_effect(self, other: TableEntry) -> bool:
        """Whether another one differs in provenance at most."""
        return self is other or (self[:5] == other[:5] and self.meter == other.meter)


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


class Written(NamedTuple):
    """Entries in the form of a bundle, by which equal ones are told without being made: what devices are
    given, and the places of their rules.

    `form` says what that depends on besides the entries; `write` gives both of any.
    """

    data: memoryview
    places: str
    form: bytes
    write: Callable[[Sequence[TableEntry]], tuple[bytes | bytearray, str]]

    def says(self, entries: Sequence[TableEntry]) -> bool:
        """Whether these are the entries."""
        data, places = self.write(entries)
        return self.places == places and self.data == memoryview(data)


class LazyEntries(Sequence[TableEntry]):
    """Entries that are made once one is asked for; how many there are is known before, by table.

    `key` says what they follow from: those of equal keys are equal. Empty: nothing is known of that.
    `ranked`: some have a priority.
    """

    __slots__ = ("_count", "_made", "_make", "key", "ranked", "tables", "written")

    def __init__(
        self,
        make: Callable[[], Iterable[TableEntry]],
        tables: Mapping[str, int],
        key: bytes = b"",
        written: Written | None = None,
        *,
        ranked: bool = False,
    ) -> None:
        self._make = make
        self._made: tuple[TableEntry, ...] | None = None
        self._count = sum(tables.values())
        self.tables, self.key, self.written, self.ranked = tables, key, written, ranked

    @property
    def is_made(self) -> bool:
        """Whether somebody asked for one."""
        return self._made is not None

    def all(self) -> tuple[TableEntry, ...]:
        """Each as an object."""
        if self._made is None:
            self._made = tuple(self._make())
        return self._made

    def __iter__(self) -> Iterator[TableEntry]:
        return iter(self.all())

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TableEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TableEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> TableEntry | tuple[TableEntry, ...]:
        return self.all()[index]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, LazyEntries | tuple) or len(self) != len(other):
            return False
        if isinstance(other, LazyEntries):
            if self.key and self.key == other.key:
                return True
            mine, its = self.written, other.written
            if mine is not None and its is not None and mine.form == its.form:
                return mine.places == its.places and mine.data == its.data
        if self._made is None and self.written is not None:
            return self.written.says(other)
        return self.all() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.all())


class NodePart(NamedTuple):
    """Entries of one node (None: of none), and the other nodes that they name.

    Versions of a bundle share the parts that are equal.
    """

    node: Node | None
    entries: tuple[TableEntry, ...] | LazyEntries
    refs: tuple[Node, ...] = ()

    def tables(self) -> Mapping[str, int]:
        """How many entries it has of each table."""
        if isinstance(self.entries, LazyEntries):
            return self.entries.tables
        return Counter(map(itemgetter(0), self.entries))

    def ranked(self) -> bool:
        """Whether some entry has a priority."""
        if isinstance(self.entries, LazyEntries):
            return self.entries.ranked
        return any(entry.priority for entry in self.entries)


class Entries(Sequence[TableEntry]):
    """Entries made of parts. Several parts may be of one node."""

    __slots__ = ("_count", "parts")

    def __init__(self, parts: Iterable[NodePart]) -> None:
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
        counts = Counter(map(itemgetter(0), self.activation))
        if not isinstance(self.entries, Entries):
            counts.update(map(itemgetter(0), self.entries))
            return counts
        listed = [part.entries for part in self.entries.parts]
        made = (some for some in listed if not isinstance(some, LazyEntries))
        counts.update(map(itemgetter(0), chain.from_iterable(made)))
        for some in listed:
            if isinstance(some, LazyEntries):
                counts.update(some.tables)
        return counts


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


RulePlaces = Mapping[str, Sequence[str]]
"""Where the rules of a config's lists were written, by list: `{"rules": ("rules[0]", "fw.json:4")}`."""


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What one graph puts on one worker: NF name -> (type, config), and the chains.

    `places`, of NFs with rules that came from files, the worker is not told: a line is no configuration.
    """

    server: str
    core: int
    nfs: Mapping[str, tuple[str, Mapping[str, Any]]]
    chains: tuple[ServerChain, ...]
    places: Mapping[str, RulePlaces] = field(
        default_factory=dict[str, RulePlaces], compare=False, repr=False
    )

    def place(self, nf: str, rule: str) -> str:
        """Where a rule that a worker names by its config (`rules[3]`) was written."""
        listed, _, index = rule.rstrip("]").partition("[")
        places = self.places.get(nf, {}).get(listed, ())
        return places[int(index)] if index.isdecimal() and int(index) < len(places) else rule
