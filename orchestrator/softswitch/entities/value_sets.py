"""Parser value sets as entities; `softswitch.state.value_sets` has what a `select` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.base import MODIFY, ById, Entities, Operation, in_program
from orchestrator.softswitch.entity_errors import Named, listed
from orchestrator.softswitch.state.value_sets import Test, ValueSet


class ValueSetCodec(Named):
    """Between p4r.ValueSetEntry and a `ValueSet`."""

    word = "value set"

    def __init__(self, info: p4i.ValueSet, live: ValueSet) -> None:
        super().__init__(info.preamble)
        self.size = int(info.size)
        self.live = live
        self.fields = list(info.match)
        self.stored: p4r.ValueSetEntry | None = None

    def decode(self, kind: int, e: p4r.ValueSetEntry) -> Operation:
        if kind != MODIFY:
            raise self.invalid("only MODIFY writes a value set: it replaces all members")
        if self.size and len(e.members) > self.size:
            raise self.error(
                rpc_code.RESOURCE_EXHAUSTED,
                f"{len(e.members)} members given, its size is {self.size}",
            )
        decoded = [self.member(m.match) for m in e.members]
        return self.apply, (decoded, e)

    def member(self, matches: Sequence[p4r.FieldMatch]) -> tuple[Test, ...]:
        given: dict[int, p4r.FieldMatch] = {}
        for m in matches:
            if m.field_id in given:
                raise self.invalid(f"field id {m.field_id} is given twice")
            given[m.field_id] = m
        unknown = sorted(set(given) - {f.id for f in self.fields})
        if unknown:
            valid = listed(f"{f.id} ({f.name or 'value'})" for f in self.fields)
            raise self.invalid(f"unknown field id {unknown[0]} (valid: {valid})")
        return tuple(self.test(f, given.get(f.id)) for f in self.fields)

    def test(self, f: p4i.MatchField, m: p4r.FieldMatch | None) -> Test:
        name = f"field '{f.name or f.id}'"
        ones = (1 << f.bitwidth) - 1
        kind = p4i.MatchField.MatchType.Name(f.match_type).lower()
        if m is None:
            if kind == "exact":
                raise self.invalid(f"{name} is missing from a member")
            return "mask", 0, 0
        which = m.WhichOneof("field_match_type")
        if which != kind:
            raise self.invalid(
                f"{name} is an {kind} match, not {which or 'empty'}; set FieldMatch.{kind}"
            )

        def number(raw: bytes, part: str) -> int:
            value = int.from_bytes(raw, "big")
            if not raw or value > ones:
                shown = f"{value:#x}" if raw else "an empty byte string"
                raise self.invalid(
                    f"{name}: {part} {shown} does not fit {f.bitwidth} bits (largest: {ones:#x})"
                )
            return value

        if kind == "range":
            low, high = number(m.range.low, "low"), number(m.range.high, "high")
            if low > high:
                raise self.invalid(f"{name}: low {low} is above high {high}")
            return "range", low, high
        if kind == "ternary":
            value, mask = number(m.ternary.value, "value"), number(m.ternary.mask, "mask")
            return "mask", value & mask, mask
        if kind == "lpm":
            length = m.lpm.prefix_len
            if not 0 <= length <= f.bitwidth:
                raise self.invalid(f"{name}: prefix length {length} is not in 0..{f.bitwidth}")
            mask = ones >> (f.bitwidth - length) << (f.bitwidth - length)
            return "mask", number(m.lpm.value, "value") & mask, mask
        raw = m.optional.value if kind == "optional" else m.exact.value
        return "exact", number(raw, "value"), ones

    def apply(self, decoded: list[tuple[Test, ...]], e: p4r.ValueSetEntry) -> None:
        self.live.replace(decoded)
        stored = p4r.ValueSetEntry()
        stored.CopyFrom(e)
        self.stored = stored


class ValueSets(Entities[p4r.ValueSetEntry, ValueSetCodec, p4r.ValueSetEntry | None]):
    def __init__(
        self, p4info: p4i.P4Info, live: Mapping[str, ValueSet], problems: list[str]
    ) -> None:
        value_sets = in_program("value set", p4info.value_sets, live, problems)
        self.by_id = ById(
            "value set", (ValueSetCodec(info, members) for info, members in value_sets)
        )

    def decode(self, kind: int, e: p4r.ValueSetEntry) -> Operation:
        return self.by_id[e.value_set_id].decode(kind, e)

    def chosen(self, e: p4r.ValueSetEntry) -> list[ValueSetCodec]:
        return self.by_id.chosen(e.value_set_id)

    def select(self, of: ValueSetCodec, e: p4r.ValueSetEntry) -> list[p4r.ValueSetEntry | None]:
        return [of.stored]

    def encode(
        self, of: ValueSetCodec, item: p4r.ValueSetEntry | None, e: p4r.ValueSetEntry
    ) -> p4r.Entity:
        entity = p4r.Entity(value_set_entry=item)
        entity.value_set_entry.value_set_id = of.id
        return entity
