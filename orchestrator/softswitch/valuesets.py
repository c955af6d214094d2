"""Parser value sets: what a `select` asks, and P4Runtime's entity for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entity_errors import EntityError, listed

Test = tuple[str, int, int]
"""(kind, value, mask) or ('range', low, high) for one field."""


class ValueSet:
    """Members of a set: exact ones in a hash set, others as a list of tests."""

    def __init__(self) -> None:
        self.exact: set[Any] = set()
        self.tests: list[tuple[Test, ...]] = []

    def contains(self, key: Any) -> bool:
        """`key` is a number, or a tuple of them for several fields."""
        if key in self.exact:
            return True
        if not self.tests:
            return False
        parts = key if isinstance(key, tuple) else (key,)
        return any(all(map(_holds, tests, parts)) for tests in self.tests)

    def contains_masked(self, key: Any, masks: tuple[int, ...]) -> bool:
        parts = key if isinstance(key, tuple) else (key,)
        wanted = tuple(p & m for p, m in zip(parts, masks, strict=True))
        for member in self.exact:
            values = member if isinstance(member, tuple) else (member,)
            if tuple(v & m for v, m in zip(values, masks, strict=True)) == wanted:
                return True
        return False


def _holds(test: Test, value: int) -> bool:
    kind, a, b = test
    return a <= value <= b if kind == "range" else value & b == a


class ValueSetCodec:
    """Between p4r.ValueSetEntry and a `ValueSet`."""

    def __init__(self, info: p4i.ValueSet, live: ValueSet) -> None:
        self.id = info.preamble.id
        self.name = info.preamble.name
        self.size = int(info.size)
        self.live = live
        self.fields = list(info.match)
        self.stored: p4r.ValueSetEntry | None = None

    def error(self, code: int, what: str) -> EntityError:
        return EntityError(code, f"value set {self.name}: {what}")

    def decode(
        self, kind: int, e: p4r.ValueSetEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        if kind != p4r.Update.MODIFY:
            raise self.error(
                rpc_code.INVALID_ARGUMENT, "only MODIFY writes a value set: it replaces all members"
            )
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
                raise self.error(rpc_code.INVALID_ARGUMENT, f"field id {m.field_id} is given twice")
            given[m.field_id] = m
        unknown = sorted(set(given) - {f.id for f in self.fields})
        if unknown:
            valid = listed(f"{f.id} ({f.name or 'value'})" for f in self.fields)
            raise self.error(
                rpc_code.INVALID_ARGUMENT, f"unknown field id {unknown[0]} (valid: {valid})"
            )
        return tuple(self.test(f, given.get(f.id)) for f in self.fields)

    def test(self, f: p4i.MatchField, m: p4r.FieldMatch | None) -> Test:
        name = f"field '{f.name or f.id}'"
        ones = (1 << f.bitwidth) - 1
        kind = p4i.MatchField.MatchType.Name(f.match_type).lower()
        if m is None:
            if kind == "exact":
                raise self.error(rpc_code.INVALID_ARGUMENT, f"{name} is missing from a member")
            return "mask", 0, 0
        which = m.WhichOneof("field_match_type")
        if which != kind:
            raise self.error(
                rpc_code.INVALID_ARGUMENT,
                f"{name} is an {kind} match, not {which or 'empty'}; set FieldMatch.{kind}",
            )

        def number(raw: bytes, part: str) -> int:
            value = int.from_bytes(raw, "big")
            if not raw or value > ones:
                shown = f"{value:#x}" if raw else "an empty byte string"
                raise self.error(
                    rpc_code.INVALID_ARGUMENT,
                    f"{name}: {part} {shown} does not fit {f.bitwidth} bits (largest: {ones:#x})",
                )
            return value

        if kind == "range":
            low, high = number(m.range.low, "low"), number(m.range.high, "high")
            if low > high:
                raise self.error(
                    rpc_code.INVALID_ARGUMENT, f"{name}: low {low} is above high {high}"
                )
            return "range", low, high
        if kind == "ternary":
            value, mask = number(m.ternary.value, "value"), number(m.ternary.mask, "mask")
            return "mask", value & mask, mask
        if kind == "lpm":
            length = m.lpm.prefix_len
            if not 0 <= length <= f.bitwidth:
                raise self.error(
                    rpc_code.INVALID_ARGUMENT,
                    f"{name}: prefix length {length} is not in 0..{f.bitwidth}",
                )
            mask = ones >> (f.bitwidth - length) << (f.bitwidth - length)
            return "mask", number(m.lpm.value, "value") & mask, mask
        raw = m.optional.value if kind == "optional" else m.exact.value
        return "exact", number(raw, "value"), ones

    def apply(self, decoded: list[tuple[Test, ...]], e: p4r.ValueSetEntry) -> None:
        live = self.live
        live.exact.clear()
        live.tests.clear()
        for tests in decoded:
            if all(kind == "exact" for kind, _, _ in tests):
                values = tuple(value for _, value, _ in tests)
                live.exact.add(values[0] if len(values) == 1 else values)
            else:
                live.tests.append(tests)
        stored = p4r.ValueSetEntry()
        stored.CopyFrom(e)
        self.stored = stored

    def read(self) -> p4r.Entity:
        entity = p4r.Entity()
        if self.stored is not None:
            entity.value_set_entry.CopyFrom(self.stored)
        entity.value_set_entry.value_set_id = self.id
        return entity
