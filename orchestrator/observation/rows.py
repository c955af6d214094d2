"""A switch's entries as rows that an operator can filter, sort, compare and count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.clients.words import (
    NO_PORTS,
    Ports,
    action_words,
    key_texts,
    origins_of,
    segment_of,
    split_origin,
)
from orchestrator.errors import InputError, unknown
from orchestrator.model.entries import TableEntry
from orchestrator.model.provenance import told
from orchestrator.observation.matching import FieldWanted, matches


@dataclass(frozen=True, slots=True)
class Row:
    """An entry with its counters; `rate` is packets per second since the reading before."""

    device: str
    installed: InstalledEntry
    rate: float | None = None

    @property
    def entry(self) -> TableEntry:
        """The entry by names."""
        return self.installed.entry

    @property
    def nf(self) -> str:
        """The NF that the entry comes from; empty for the fabric's and the graph's own."""
        return split_origin(self.entry.origin)[0]

    @property
    def rule(self) -> str:
        """Which rule of the NF (`access.json:14`), or what the entry is for."""
        return split_origin(self.entry.origin)[1]

    def comes_from(self, nf: str) -> bool:
        """Whether a rule of this NF is in it, alone or merged with others."""
        return any(name == nf for name, _ in origins_of(self.entry.origin))

    @property
    def packets(self) -> int:
        """Packets that hit it; 0 where the table does not count."""
        return self.installed.packets or 0


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; everything empty shows all."""

    nf: str = ""
    graph: str = ""
    wanted: tuple[FieldWanted, ...] = ()
    hit: bool = False
    unhit: bool = False

    def passes(self, schema: Schema, row: Row) -> bool:
        """Whether a row is to be shown."""
        return (
            (not self.nf or row.entry.origin == self.nf or row.comes_from(self.nf))
            and (not self.graph or row.installed.graph == self.graph)
            and not (self.hit and not row.packets)
            and not (self.unhit and row.packets)
            and (not self.wanted or matches(schema.table(row.entry.table), row.entry, self.wanted))
        )


def _number(value: float | None) -> float:
    return -(value or 0)


SORTS: Mapping[str, Callable[[Row], tuple[object, ...]]] = {
    "packets": lambda row: (_number(row.installed.packets),),
    "bytes": lambda row: (_number(row.installed.bytes),),
    "rate": lambda row: (_number(row.rate), _number(row.installed.packets)),
    "priority": lambda row: (-row.entry.priority,),
    "rule": lambda row: (row.installed.graph, row.nf, *_numbered(row.rule)),
    "match": lambda row: (tuple((name, tuple(key)) for name, key in row.entry.keys),),
    "action": lambda row: (row.entry.action,),
}


def _numbered(text: str) -> tuple[object, ...]:
    """`access.json:14` sorts behind `access.json:9`."""
    head, colon, number = text.rpartition(":")
    return (head, int(number)) if colon and number.isdigit() else (text, -1)


def sort_rows(rows: Iterable[Row], by: str) -> list[Row]:
    """Rows sorted; InputError names the ways there are."""
    if by not in SORTS:
        raise InputError(f"--sort: {unknown('order', by, tuple(SORTS))}")
    return sorted(rows, key=SORTS[by])


def row_json(schema: Schema, row: Row, ports: Ports = NO_PORTS) -> dict[str, object]:
    """A row as JSON values; everything in words, secrets never."""
    entry = row.entry
    table = schema.table(entry.table)
    texts = key_texts(table, entry, ports)
    return {
        "device": row.device,
        "table": entry.table,
        "segment": segment_of(entry),
        "match": ", ".join(f"{name} {text}" for name, text in texts.items()) or "any",
        "keys": texts,
        "action": action_words(entry, ports),
        "priority": entry.priority,
        "graph": row.installed.graph,
        "nf": row.nf,
        "rule": row.rule,
        "origin": entry.origin,
        "packets": row.installed.packets,
        "bytes": row.installed.bytes,
        "rate": row.rate,
    }


def with_rates(rows: Iterable[Row], before: Mapping[object, int], seconds: float) -> list[Row]:
    """Rows with packets per second since an earlier reading (`counts`)."""
    return [
        replace(row, rate=max(0, row.packets - before[identity(row.entry)]) / seconds)
        if identity(row.entry) in before and seconds > 0
        else row
        for row in rows
    ]


def counts(rows: Iterable[Row]) -> dict[object, int]:
    """Packets of each entry, to compute rates from later."""
    return {identity(row.entry): row.packets for row in rows}


def identity(entry: TableEntry) -> object:
    """What tells an entry from the others of a switch (P4Runtime: table, match, priority)."""
    return (entry.table, frozenset(entry.keys), entry.priority)


# -- what should be there ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryDifference:
    """One difference between a switch and what should be on it: missing, extra or changed."""

    kind: str
    expected: tuple[str, TableEntry] | None
    found: tuple[str, TableEntry] | None

    @property
    def entry(self) -> TableEntry:
        """The entry as found, or as it should be."""
        shown = self.found or self.expected
        assert shown is not None
        return shown[1]


def compare(
    schema: Schema,
    expected: Iterable[tuple[str, TableEntry]],
    present: Iterable[tuple[str, TableEntry]],
) -> list[EntryDifference]:
    """Differences, by table; (graph, entry) both ways."""
    want: dict[object, tuple[str, TableEntry]] = {}
    for graph, entry in expected:
        if entry.table in schema.tables:  # as a switch would answer
            entry = schema.decode(schema.encode(entry, graph))[1]._replace(origin=entry.origin)
        want[identity(entry)] = (graph, entry)
    have = {identity(entry): (graph, entry) for graph, entry in present}
    result = [EntryDifference("missing", want[key], None) for key in want.keys() - have.keys()]
    result += [EntryDifference("extra", None, have[key]) for key in have.keys() - want.keys()]
    for key in want.keys() & have.keys():
        ours, theirs = want[key], have[key]
        same = (
            ours[1].action == theirs[1].action
            and frozenset(ours[1].params) == frozenset(theirs[1].params)
            and ours[0] == theirs[0]
            and told(ours[1].origin) == told(theirs[1].origin)
        )
        if not same:
            result.append(EntryDifference("changed", ours, theirs))
    return sorted(result, key=lambda d: (d.entry.table, d.kind, d.entry.origin, str(d.entry.keys)))


def difference_json(schema: Schema, item: EntryDifference) -> dict[str, object]:
    """A difference as JSON values; parameters in words, secrets never."""

    def one(side: tuple[str, TableEntry] | None) -> dict[str, object] | None:
        if side is None:
            return None
        return {"action": action_words(side[1]), "graph": side[0], "origin": side[1].origin}

    return {
        "kind": item.kind,
        "table": item.entry.table,
        "segment": segment_of(item.entry),
        "match": ", ".join(
            f"{n} {t}" for n, t in key_texts(schema.table(item.entry.table), item.entry).items()
        )
        or "any"
        if item.entry.table in schema.tables
        else str(item.entry.keys),
        "priority": item.entry.priority,
        "expected": one(item.expected),
        "found": one(item.found),
    }


# -- coverage ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleHits:
    """A rule of an NF and the packets that hit any of its entries on any of the switches."""

    graph: str
    nf: str
    rule: str
    entries: int
    packets: int


def coverage(rows: Iterable[Row]) -> list[RuleHits]:
    """Hits by rule; entries of no NF are left out, merged ones count for each of their rules."""
    hits: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        if row.installed.packets is None:
            continue
        for nf, rule in origins_of(row.entry.origin):
            sums = hits.setdefault((row.installed.graph, nf, rule), [0, 0])
            sums[0] += 1
            sums[1] += row.packets
    rules = [RuleHits(*key, entries, packets) for key, (entries, packets) in hits.items()]
    return sorted(rules, key=lambda r: (r.graph, r.nf, *_numbered(r.rule)))


def chosen_tables(schema: Schema, wanted: Sequence[str]) -> list[str]:
    """Table names of a pipeline: those asked for, or all."""
    return [schema.table(name).name for name in wanted] or list(schema.tables)
