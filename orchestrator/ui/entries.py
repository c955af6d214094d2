"""Entries of switches, read once and shown in pages: filters and orders cost no device anything."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import Ports
from orchestrator.errors import InputError, unknown
from orchestrator.observation.matching import parse_matches
from orchestrator.observation.rows import Filter, Row, counts, row_json, sort_rows, with_rates
from orchestrator.ui.questions import EntriesQuestion

ALL = "all"
_KEPT = 4
"""Readings that are kept: each may be of 100,000 entries."""


@dataclass(frozen=True, slots=True)
class EntriesReading:
    """The entries of some devices at one time (seconds since 1970), with the names of their programs."""

    rows: Sequence[Row]
    schemas: Mapping[str, Schema]
    ports: Mapping[str, Ports]
    at: float


class Pages:
    """The last readings by device (or `all`); `read` makes one anew."""

    def __init__(self, read: Callable[[str], EntriesReading]) -> None:
        self._read = read
        self._kept: OrderedDict[str, EntriesReading] = OrderedDict()
        self._shown: tuple[EntriesReading, EntriesQuestion, list[Row]] | None = None
        self._lock = threading.Lock()

    def reading(self, device: str, *, fresh: bool) -> EntriesReading:
        """The last reading of a device; a `fresh` one has rates since the one before."""
        with self._lock:
            before = self._kept.get(device)
            if before is not None and not fresh:
                return before
            now = self._read(device)
            if before is not None:
                now = _rated(now, before)
            self._kept[device] = now
            self._kept.move_to_end(device)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return now

    def page(self, asked: EntriesQuestion) -> dict[str, object]:
        """A page: `rows` as `tables --json` has them, `total` of those that pass, entries by table."""
        reading = self.reading(asked.device, fresh=asked.fresh)
        rows = self._chosen(reading, asked)
        shown = rows[asked.offset : asked.offset + asked.limit]
        used = Counter((row.device, row.entry.table) for row in reading.rows)
        return {
            "device": asked.device,
            "at": reading.at,
            "tables": [
                {
                    "device": device,
                    "table": table,
                    "entries": entries,
                    "size": reading.schemas[device].tables[table].size,
                }
                for (device, table), entries in sorted(used.items())
            ],
            "nfs": sorted({row.nf for row in reading.rows if row.nf}),
            "graphs": sorted({row.installed.graph for row in reading.rows if row.installed.graph}),
            "total": len(rows),
            "offset": asked.offset,
            "rows": [
                row_json(reading.schemas[row.device], row, reading.ports[row.device])
                for row in shown
            ],
        }

    def _chosen(self, reading: EntriesReading, asked: EntriesQuestion) -> list[Row]:
        key = asked.model_copy(update={"offset": 0, "limit": 1, "fresh": False})
        with self._lock:
            if self._shown is not None and self._shown[0] is reading and self._shown[1] == key:
                return self._shown[2]
        rows = sort_rows(_passing(reading, asked), asked.sort)
        with self._lock:
            self._shown = (reading, key, rows)
        return rows


def _passing(reading: EntriesReading, asked: EntriesQuestion) -> list[Row]:
    """Rows that pass the filter; InputError names a table or field that no device has."""
    tables = dict.fromkeys(name for s in reading.schemas.values() for name in s.tables)
    if asked.table and asked.table not in tables:
        raise InputError(f"table: {unknown('table', asked.table, tuple(tables))}")
    wanted = ()
    if asked.match:
        first = next(iter(reading.schemas.values()), None)
        wanted = () if first is None else parse_matches(asked.match, first)
    chosen = Filter(asked.nf, asked.graph, wanted, asked.hit, asked.unhit)
    return [
        row
        for row in reading.rows
        if (not asked.table or row.entry.table == asked.table)
        and (not asked.rule or asked.rule in row.entry.origin)
        and chosen.passes(reading.schemas[row.device], row)
    ]


def _rated(now: EntriesReading, before: EntriesReading) -> EntriesReading:
    rows: list[Row] = []
    for device in now.schemas:
        old = counts(row for row in before.rows if row.device == device)
        mine = [row for row in now.rows if row.device == device]
        rows += with_rates(mine, old, now.at - before.at)
    return EntriesReading(rows, now.schemas, now.ports, now.at)


def stamped(
    rows: Sequence[Row], schemas: Mapping[str, Schema], ports: Mapping[str, Ports]
) -> EntriesReading:
    """A reading of now."""
    return EntriesReading(rows, schemas, ports, time.time())
