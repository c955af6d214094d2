"""Matches of one table: between p4r.FieldMatch and the table's own form (see tables.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entity_errors import EntityError, Named, listed
from orchestrator.softswitch.ir.program import P4Table
from orchestrator.softswitch.packetmeta import canonical
from orchestrator.softswitch.state.tables import (
    ExactTable,
    LpmTable,
    MatchTable,
    StoredEntry,
    TernaryEntry,
    TernaryTable,
)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One match field: its P4Info id, and its place in the packed key."""

    id: int
    name: str
    kind: str
    width: int
    position: int
    shift: int
    bit: int


class MatchCodec(Named):
    word = "table"

    def __init__(self, info: p4i.Table, program: P4Table, table: MatchTable) -> None:
        super().__init__(info.preamble)
        self.table = table
        by_name = {k.name: i for i, k in enumerate(program.keys)}
        self.fields: list[FieldSpec] = []
        for n, m in enumerate(info.match_fields):
            position = by_name.get(m.name)
            if position is None and n < len(program.keys):
                position = n
            if position is None:
                raise SwitchError(
                    f"P4Info: table {self.name}: match field '{m.name}' is not in the BMv2 JSON"
                )
            key = program.keys[position]
            self.fields.append(
                FieldSpec(
                    m.id,
                    m.name,
                    # p4c writes optional fields as ternary into the JSON; P4Info tells them apart.
                    "optional" if m.match_type == p4i.MatchField.OPTIONAL else key.kind,
                    key.width,
                    position,
                    table.shifts[position],
                    1 << n,
                )
            )
        if len(self.fields) != len(program.keys):
            raise SwitchError(
                f"P4Info: table {self.name} has {len(self.fields)} match fields, "
                f"the BMv2 JSON has {len(program.keys)}"
            )
        self.by_id = {f.id: f for f in self.fields}
        self.required = sum(f.bit for f in self.fields if f.kind == "exact")
        self.needs_priority = isinstance(table, TernaryTable)
        self.ranges = [f for f in self.fields if f.kind == "range"]
        self.ranges.sort(key=lambda f: f.position)
        self.range_slot = {f.id: i for i, f in enumerate(self.ranges)}
        self.any_ranges = tuple((0, (1 << f.width) - 1) for f in self.ranges)
        self.exact_mask = sum(
            ((1 << f.width) - 1) << f.shift for f in self.fields if f.kind == "exact"
        )

    # ---------------------------------------------------------------- decoding

    def decode(self, e: p4r.TableEntry) -> Any:
        """The table's own form of the match."""
        by_id = self.by_id
        seen = value = mask = 0
        length = 0
        ranges: list[tuple[int, int]] | None = None
        values: dict[int, int] | None = {} if isinstance(self.table, ExactTable) else None
        for m in e.match:
            f = by_id.get(m.field_id)
            if f is None or seen & f.bit:
                raise self.bad_field(m.field_id, f)
            seen |= f.bit
            kind = f.kind
            if kind == "exact":
                v = self.value(f, m.exact.value, m, "value")
                if values is not None:
                    values[f.position] = v
                else:
                    value |= v << f.shift
            elif kind == "ternary":
                t = m.ternary
                v = self.value(f, t.value, m, "value")
                w = self.value(f, t.mask, m, "mask")
                if not w:
                    raise self.dont_care(f, "mask 0")
                if v & w != v:
                    raise self.outside_mask(f, v, w)
                value |= v << f.shift
                mask |= w << f.shift
            elif kind == "lpm":
                p = m.lpm
                v = self.value(f, p.value, m, "value")
                n = p.prefix_len
                if n == 0:
                    raise self.dont_care(f, "prefix length 0")
                if not 0 < n <= f.width:
                    raise self.invalid(
                        f"field '{f.name}': prefix length {n} is not in 1..{f.width}"
                    )
                rest = f.width - n
                if v & ((1 << rest) - 1):
                    raise self.beyond_prefix(f, v, n)
                length = n
                value |= v << f.shift
                mask |= ((1 << n) - 1) << rest << f.shift
            elif kind == "range":
                r = m.range
                low = self.value(f, r.low, m, "low")
                high = self.value(f, r.high, m, "high")
                if low > high:
                    raise self.invalid(
                        f"field '{f.name}': low {low} is above high {high}; low <= high is needed"
                    )
                if low == 0 and high == (1 << f.width) - 1:
                    raise self.dont_care(f, "the whole range")
                if ranges is None:
                    ranges = list(self.any_ranges)
                ranges[self.range_slot[f.id]] = (low, high)
            else:
                v = self.value(f, m.optional.value, m, "value")
                value |= v << f.shift
                mask |= ((1 << f.width) - 1) << f.shift
        if seen & self.required != self.required:
            raise self.missing(seen)
        priority = self.priority(e)
        if values is not None:
            if len(self.fields) == 1:
                return values[0]
            return tuple([values[i] for i in range(len(self.fields))])
        if isinstance(self.table, LpmTable):
            return value, length
        return (
            value,
            mask | self.exact_mask,
            self.any_ranges if ranges is None else tuple(ranges),
            priority,
        )

    def outside_mask(self, f: FieldSpec, value: int, mask: int) -> EntityError:
        return self.invalid(
            f"field '{f.name}': value {value:#x} has bits outside mask {mask:#x}; "
            f"value & mask must equal value ({value & mask:#x})"
        )

    def beyond_prefix(self, f: FieldSpec, value: int, length: int) -> EntityError:
        rest = f.width - length
        return self.invalid(
            f"field '{f.name}': value {value:#x} has bits beyond prefix length {length}; "
            f"the prefix is {value >> rest << rest:#x}/{length}"
        )

    def value(self, f: FieldSpec, raw: bytes, m: p4r.FieldMatch, part: str) -> int:
        if not raw:
            want = f.kind
            given = m.WhichOneof("field_match_type")
            if given != want:
                raise self.invalid(
                    f"field '{f.name}' is an {want} match, not {given or 'empty'}; "
                    f"set FieldMatch.{want}"
                )
            raise self.invalid(
                f"field '{f.name}': {part} is an empty byte string; "
                f"zero is b'\\x00', a {f.width}-bit value is expected"
            )
        v = int.from_bytes(raw, "big")
        if v >> f.width:
            raise self.invalid(
                f"field '{f.name}': {part} {v:#x} does not fit {f.width} bits "
                f"(largest: {(1 << f.width) - 1:#x})"
            )
        return v

    def bad_field(self, ident: int, twice: FieldSpec | None) -> EntityError:
        if twice is not None:
            return self.invalid(f"match field '{twice.name}' is given twice")
        valid = listed(f"{f.id} ({f.name})" for f in self.fields)
        return self.invalid(f"unknown match field id {ident} (valid: {valid})")

    def missing(self, seen: int) -> EntityError:
        absent = [f.name for f in self.fields if f.kind == "exact" and not seen & f.bit]
        return self.invalid(
            f"exact match field {listed(repr(n) for n in absent)} is missing; "
            "only lpm, ternary, range and optional fields may be left out"
        )

    def priority(self, e: p4r.TableEntry) -> int:
        priority = e.priority
        if self.needs_priority:
            if priority <= 0:
                kinds = listed(
                    f"{f.name} ({f.kind})"
                    for f in self.fields
                    if f.kind in ("ternary", "range", "optional")
                )
                raise self.invalid(
                    f"priority {priority} given, but an entry needs a priority > 0 because of "
                    f"{kinds}; the highest number wins"
                )
        elif priority:
            raise self.invalid(
                f"priority {priority} given, but the table has only exact and lpm fields; "
                "leave priority at 0"
            )
        return priority

    def dont_care(self, f: FieldSpec, how: str) -> EntityError:
        return self.invalid(
            f"field '{f.name}': {how} means 'any'; leave the field out of the match instead"
        )

    # ---------------------------------------------------------------- encoding

    def encode(self, entry: StoredEntry, out: p4r.TableEntry) -> None:
        table = self.table
        if isinstance(table, ExactTable):
            for f in self.fields:
                v = entry.key if len(self.fields) == 1 else entry.key[f.position]
                m = out.match.add()
                m.field_id = f.id
                m.exact.value = canonical(v)
            return
        packed = entry.key
        mask = entry.mask if isinstance(entry, TernaryEntry) else 0
        for f in self.fields:
            ones = (1 << f.width) - 1
            v = packed >> f.shift & ones
            w: int = mask >> f.shift & ones
            if f.kind == "exact":
                m = out.match.add()
                m.field_id = f.id
                m.exact.value = canonical(v)
            elif f.kind == "lpm":
                n: int = entry.spec if isinstance(table, LpmTable) else w.bit_count()
                if n:
                    m = out.match.add()
                    m.field_id = f.id
                    m.lpm.value = canonical(v)
                    m.lpm.prefix_len = n
            elif f.kind == "ternary":
                if w:
                    m = out.match.add()
                    m.field_id = f.id
                    m.ternary.value = canonical(v)
                    m.ternary.mask = canonical(w)
            elif f.kind == "optional":
                if w:
                    m = out.match.add()
                    m.field_id = f.id
                    m.optional.value = canonical(v)
            else:
                low, high = entry.spec[self.range_slot[f.id]]
                if (low, high) != (0, ones):
                    m = out.match.add()
                    m.field_id = f.id
                    m.range.low = canonical(low)
                    m.range.high = canonical(high)
        if self.needs_priority:
            out.priority = entry.priority

    def describe(self, entry: StoredEntry) -> str:
        """A match in words: names and values."""
        e = p4r.TableEntry()
        self.encode(entry, e)
        words: list[str] = []
        for m in e.match:
            f = self.by_id[m.field_id]
            which = m.WhichOneof("field_match_type")
            if which == "exact":
                words.append(f"{f.name}={int.from_bytes(m.exact.value, 'big'):#x}")
            elif which == "lpm":
                words.append(f"{f.name}={int.from_bytes(m.lpm.value, 'big'):#x}/{m.lpm.prefix_len}")
            elif which == "ternary":
                v, w = (int.from_bytes(x, "big") for x in (m.ternary.value, m.ternary.mask))
                words.append(f"{f.name}={v:#x}&&&{w:#x}")
            elif which == "range":
                v, w = (int.from_bytes(x, "big") for x in (m.range.low, m.range.high))
                words.append(f"{f.name}={v}..{w}")
            else:
                words.append(f"{f.name}={int.from_bytes(m.optional.value, 'big'):#x}")
        if e.priority:
            words.append(f"priority={e.priority}")
        return ", ".join(words) or "any"
