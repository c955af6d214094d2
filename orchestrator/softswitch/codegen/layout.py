"""Which fields a program touches, and how headers are decoded for that: no more than needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.ir.program import HeaderType, Json, P4Program, Union


@dataclass(frozen=True, slots=True)
class HeaderRun:
    """A run of whole bytes in a header: an opaque run or the fields inside it.

    `parts` = (field name, width in bits) highest first; empty means opaque.
    """

    offset: int
    size: int
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class HeaderDecoding:
    """How a header type is decoded: fixed bytes before and after a varbit (its field's name)."""

    size: int
    units: tuple[HeaderRun, ...]
    tail: tuple[HeaderRun, ...]
    varbit: str | None

    @property
    def opaque(self) -> bool:
        return any(not u.parts for u in (*self.units, *self.tail))


@dataclass(slots=True)
class UsedFields:
    """Fields that any part of the program, or the switch itself, reads or writes."""

    fields: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Of header types, by name."""
    metadata: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """(header, field) of metadata."""


def intrinsic(p: P4Program, name: str) -> tuple[str, str] | None:
    """A field that the switch itself uses: by alias (p4c) or in the headers that older programs have."""
    metadata = p.architecture.metadata
    for owner in (metadata.elsewhere.get(name, metadata.header), metadata.header):
        header, label = p.aliases.get(f"{owner}.{name}", (owner, name))
        instance = p.headers.get(header)
        if instance is not None and instance.metadata and label in instance.type.by_name:
            return header, label
    return None


def used_fields(p: P4Program) -> UsedFields:
    """What is decoded: fields that expressions, tables, checksums, lists or the switch touch."""
    usage = _Usage(p, UsedFields())
    for header in p.headers.values():
        if header.type.name in p.lengths:
            usage.touch_all(header.type)
    for node in _nodes(p):
        usage.walk(node)
    for meter in p.meters.values():
        if meter.target is not None:
            usage.touch(*meter.target)
    for table in p.tables():
        for key in table.keys:
            usage.touch(key.header, key.field)
    for checksum in p.checksums:
        usage.touch(checksum.header, checksum.field)
    for elements in p.field_lists.values():
        for name, label in elements:
            usage.touch(name, label)
    for calc in p.calculations.values():
        for item in calc.inputs:
            if item["type"] == "header":
                usage.touch_all(p.headers[item["value"]].type)
    for name in p.architecture.metadata.intrinsic:
        if (of_metadata := intrinsic(p, name)) is not None:
            usage.touch(*of_metadata)
    return usage.used


def _nodes(p: P4Program) -> Iterator[Json]:
    """All expressions and primitives of the program."""
    for state in p.states.values():
        yield from (state.ops, state.key)
    yield p.deparse_primitives
    for action in p.actions:
        yield action.primitives
    for pipe in p.pipelines.values():
        yield from (c.expression for c in pipe.conditionals.values())
    yield from (c.inputs for c in p.calculations.values())
    yield from (c.condition for c in p.checksums)
    yield from (d.elements for d in p.learn_lists.values())


@dataclass(frozen=True, slots=True)
class _Usage:
    """Collects into `used` what the nodes of a program name."""

    p: P4Program
    used: UsedFields

    def touch(self, header: str, label: str) -> None:
        h = self.p.headers.get(header)
        if h is None or label == "$valid$":
            return
        self._of_type(h.type.name).add(label)
        if h.metadata:
            self.used.metadata.add((header, label))

    def touch_all(self, type_: HeaderType) -> None:
        self._of_type(type_.name).update(f.name for f in type_.fields)

    def _of_type(self, name: str) -> set[str]:
        return self.used.fields.setdefault(name, set())

    def walk(self, node: Json) -> None:
        if isinstance(node, (list, tuple)):
            for item in cast("list[Json]", node):
                self.walk(item)
        elif isinstance(node, dict):
            node = cast("dict[str, Json]", node)
            self._reference(node.get("type"), node.get("value"))
            if node.get("op") in ("==", "!="):
                self._compared(node.get("left"))
                self._compared(node.get("right"))
            for value in node.values():
                self.walk(value)

    def _reference(self, kind: Json, value: Json) -> None:
        p = self.p
        if kind == "field":
            # An element picked at run time: its stack's node, which is walked too, touches all.
            if isinstance(value[0], str):
                self.touch(value[0], value[1])
        elif kind == "union_stack_field":
            for union in p.union_stacks[value[0]].elements:
                self.touch(union.members[union.names.index(value[1])], value[2])
        elif kind == "header_union":
            self._unions((p.unions[value],))
        elif kind == "header_union_stack":
            self._unions(p.union_stacks[value].elements)
        elif kind == "stack_field":
            self._of_type(p.stacks[value[0]].type.name).add(value[1])
        elif kind == "header_stack":
            self.touch_all(p.stacks[value].type)

    def _unions(self, unions: tuple[Union, ...]) -> None:
        for union in unions:
            for member in union.members:
                self.touch_all(self.p.headers[member].type)

    def _compared(self, side: Json) -> None:
        if side is not None and side["type"] == "header":
            header = self.p.headers.get(side["value"])
            if header is not None:
                self.touch_all(header.type)


def layouts_of(p: P4Program, used: UsedFields) -> dict[str, HeaderDecoding]:
    """How each type of packet headers is decoded."""
    types = {h.type.name: h.type for h in p.headers.values() if not h.metadata}
    return {name: _layout(type_, used.fields.get(name, set())) for name, type_ in types.items()}


def _layout(type_: HeaderType, used: set[str]) -> HeaderDecoding:
    before: list[tuple[str, int]] = []
    after: list[tuple[str, int]] = []
    varbit: str | None = None
    for f in type_.fields:
        if f.varbit:
            varbit = f.name
        else:
            (after if varbit else before).append((f.name, f.width))
    if sum(w for _, w in before) % 8 or sum(w for _, w in after) % 8:
        raise UnsupportedFeature(
            f"header_types.{type_.name}: a header must be whole bytes around its varbit"
        )
    units, size = _units(before, used, 0)
    tail, total = _units(after, used, size)
    return HeaderDecoding(total, units, tail, varbit)


def _units(
    fields: list[tuple[str, int]], used: set[str], start: int
) -> tuple[tuple[HeaderRun, ...], int]:
    """Group fields into minimal whole-byte units; merge neighbouring opaque ones."""
    units: list[HeaderRun] = []
    group: list[tuple[str, int]] = []
    bits = 0
    offset = start
    for name, width in fields:
        group.append((name, width))
        bits += width
        if bits % 8:
            continue
        size = bits // 8
        if any(n in used for n, _ in group):
            units.append(HeaderRun(offset, size, tuple(group)))
        elif units and not units[-1].parts:
            last = units.pop()
            units.append(HeaderRun(last.offset, last.size + size, ()))
        else:
            units.append(HeaderRun(offset, size, ()))
        offset += size
        group, bits = [], 0
    return tuple(units), offset


def stack_moves(size: int, count: int, *, push: bool) -> tuple[list[tuple[int, int]], range]:
    """(to, from) of the elements that push_front or pop_front moves, in order, and those that go."""
    count = min(count, size)
    if push:
        return [(i, i - count) for i in range(size - 1, count - 1, -1)], range(count)
    return [(i, i + count) for i in range(size - count)], range(size - count, size)


def primitive_ops(p: P4Program) -> set[str]:
    """Names of the primitives that a packet can come to."""
    reachable: set[str] = set()
    for table in p.tables():
        for action in table.actions:
            reachable.update(prim["op"] for prim in action.primitives)
    for pipe in p.pipelines.values():
        for call in pipe.calls.values():
            reachable.update(prim["op"] for prim in call.action.primitives)
    reachable.update(prim["op"] for prim in p.deparse_primitives)
    for state in p.states.values():
        for op in state.ops:
            if op["op"] == "primitive":
                reachable.add(op["parameters"][0]["op"])
    return reachable
