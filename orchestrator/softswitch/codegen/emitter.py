"""What all parts of the generator share: fields used, header layouts, lines, local names."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.ir.program import (
    Header,
    HeaderType,
    Json,
    Program,
)

# Where a packet comes from: `mode` of the generated function, equal to BMv2's
# instance_type where that exists.
NORMAL, RESUBMIT, RECIRCULATE, INGRESS_CLONE = 0, 6, 4, 1
EGRESS_CLONE, REPLICATION = 2, 5

_ALWAYS = ("ingress_port", "egress_spec", "egress_port", "instance_type", "mcast_grp", "egress_rid")
_OWNERS = {
    **dict.fromkeys(("mcast_grp", "egress_rid", "priority"), "intrinsic_metadata"),
    **dict.fromkeys(("ingress_global_timestamp", "egress_global_timestamp"), "intrinsic_metadata"),
    "enq_timestamp": "queueing_metadata",
}
"""Where simple_switch looks for its fields, if not in standard_metadata."""


@dataclass(slots=True)
class Ex:
    """A generated expression with the bounds of its value (None: unbounded)."""

    code: str
    lo: int | None
    hi: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of whole bytes in a header: an opaque run or the fields inside it.

    `parts` = (field name, width in bits) highest first; empty means opaque.
    """

    offset: int
    size: int
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a header type is decoded: fixed bytes before and after a varbit (its field's name)."""

    size: int
    units: tuple[Unit, ...]
    tail: tuple[Unit, ...]
    varbit: str | None

    @property
    def opaque(self) -> bool:
        return any(not u.parts for u in (*self.units, *self.tail))


@dataclass(frozen=True, slots=True)
class Generated:
    """Source of the function and what its globals must hold.

    `outside` maps a global's identifier to what it is: a kind (`probe`, `miss`,
    `packets`, `hash`, `pack`, ...) and the P4 name of the thing it is of.
    """

    source: str
    outside: Mapping[str, tuple[str, str]]


class Names:
    """Identifiers of the generated code: numbers, so that no text of a program is in them.

    Different things have different ones (`acl.ipv4` and `acl_ipv4`), and none of
    them is one of the generator's own, which have no `__`.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], str] = {}

    def of(self, stem: str, *names: str) -> str:
        """The identifier of one thing: what it is, and its P4 names."""
        key = (stem, *names)
        found = self._of.get(key)
        if found is None:
            found = self._of[key] = f"{stem}__{len(self._of)}"
        return found


MAX_SOURCE = 32 << 20
"""Characters of generated code; a program of ours takes two million, with all steps told four."""


def chunks_of(size: int) -> list[int]:
    """Split a byte count into what struct reads as integers, big ones first."""
    out: list[int] = []
    for n in (8, 4, 2, 1):
        while size >= n:
            out.append(n)
            size -= n
    return out


STRUCT_CODE = {1: "B", 2: "H", 4: "I", 8: "Q"}


def literal(n: int) -> str:
    """A number of the program in the code; nothing but an `int` gets there."""
    if type(n) is not int:
        raise TypeError(f"{type(n).__name__} where an int belongs")
    return hex(n) if n > 9 or n < -9 else str(n)


def quoted(text: str) -> str:
    """Text of the program in the code: a string constant, in ASCII and on one line."""
    if type(text) is not str:
        raise TypeError(f"{type(text).__name__} where a str belongs")
    return ascii(text)


def least(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a, b)


def most(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


class Emitter:
    """Lines of the function under construction, and the names of its locals."""

    def __init__(self, program: Program, trace: bool, drop_port: int, queues: int = 1) -> None:
        self.p = program
        self.queues = queues
        self.trace = trace
        self.drop_port = drop_port
        self.lines: list[str] = []
        self.depth = 0
        self.tmp = 0
        self.names = Names()
        self.outside: dict[str, tuple[str, str]] = {}
        self.where = ""
        self.size = 0
        self.used = self._used_fields()
        self.layouts = {
            h.type.name: self._layout(h.type) for h in program.headers.values() if not h.metadata
        }
        self.ops = self._primitive_ops()
        self.emitted = 0
        self.track_length = self.has_meta("packet_length")

    # ---------------------------------------------------------------- analysis

    def _primitive_ops(self) -> set[str]:
        reachable: set[str] = set()
        for table in self.p.tables():
            for action in table.actions:
                reachable.update(p["op"] for p in action.primitives)
        for pipe in (self.p.ingress, self.p.egress):
            for call in pipe.calls.values():
                reachable.update(p["op"] for p in call.action.primitives)
        reachable.update(p["op"] for p in self.p.deparse_primitives)
        for state in self.p.states.values():
            for op in state.ops:
                if op["op"] == "primitive":
                    reachable.add(op["parameters"][0]["op"])
        return reachable

    def _nodes(self) -> Iterator[Json]:
        """All expressions and primitives of the program."""
        p = self.p
        for state in p.states.values():
            yield from (state.ops, state.key)
        yield p.deparse_primitives
        for action in p.actions:
            yield action.primitives
        for pipe in (p.ingress, p.egress):
            yield from (c.expression for c in pipe.conditionals.values())
        yield from (c.inputs for c in p.calculations.values())
        yield from (c.condition for c in p.checksums)
        yield from (d.elements for d in p.learn_lists.values())

    def _used_fields(self) -> dict[str, set[str]]:
        """Header type -> names of the fields that any part of the program touches."""
        used: dict[str, set[str]] = {t: set() for t in ()}
        self.used_meta: set[tuple[str, str]] = set()

        def touch(header: str, field: str) -> None:
            h = self.p.headers.get(header)
            if h is None or field == "$valid$":
                return
            used.setdefault(h.type.name, set()).add(field)
            if h.metadata:
                self.used_meta.add((header, field))

        def touch_all(type_: HeaderType) -> None:
            used.setdefault(type_.name, set()).update(f.name for f in type_.fields)

        def walk(node: Json) -> None:
            if isinstance(node, (list, tuple)):
                for item in cast("list[Json]", node):
                    walk(item)
            elif isinstance(node, dict):
                node = cast("dict[str, Json]", node)
                kind: Json = node.get("type")
                value: Json = node.get("value")
                if kind == "field":
                    # An element picked at run time: its stack's node, below, touches all.
                    if isinstance(value[0], str):
                        touch(value[0], value[1])
                elif kind == "union_stack_field":
                    for union in self.p.union_stacks[value[0]].elements:
                        touch(union.members[union.names.index(value[1])], value[2])
                elif kind in ("header_union", "header_union_stack"):
                    unions = (
                        self.p.union_stacks[value].elements
                        if kind == "header_union_stack"
                        else (self.p.unions[value],)
                    )
                    for union in unions:
                        for member in union.members:
                            touch_all(self.p.headers[member].type)
                elif kind == "stack_field":
                    used.setdefault(self.p.stacks[value[0]].type.name, set()).add(value[1])
                elif kind == "header_stack":
                    touch_all(self.p.stacks[value].type)
                if node.get("op") in ("==", "!="):
                    sides: tuple[Json, Json] = (node.get("left"), node.get("right"))
                    for side in sides:
                        if side is not None and side["type"] == "header":
                            header = self.p.headers.get(side["value"])
                            if header is not None:
                                touch_all(header.type)
                for v in node.values():
                    walk(v)

        for header in self.p.headers.values():
            if header.type.name in self.p.lengths:
                touch_all(header.type)
        for node in self._nodes():
            walk(node)
        for meter in self.p.meters.values():
            if meter.target is not None:
                touch(*meter.target)
        for table in self.p.tables():
            for key in table.keys:
                touch(key.header, key.field)
        for checksum in self.p.checksums:
            touch(checksum.header, checksum.field)
        for elements in self.p.field_lists.values():
            for header, field in elements:
                touch(header, field)
        for calc in self.p.calculations.values():
            for item in calc.inputs:
                if item["type"] == "header":
                    touch_all(self.p.headers[item["value"]].type)
        for name in _ALWAYS:
            if (found := self._intrinsic(name)) is not None:
                touch(*found)
        return used

    def _layout(self, type_: HeaderType) -> Layout:
        used = self.used.get(type_.name, set())
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
        units, size = self._units(before, used, 0)
        tail, total = self._units(after, used, size)
        return Layout(total, units, tail, varbit)

    @staticmethod
    def _units(
        fields: list[tuple[str, int]], used: set[str], start: int
    ) -> tuple[tuple[Unit, ...], int]:
        """Group fields into minimal whole-byte units; merge neighbouring opaque ones."""
        units: list[Unit] = []
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
                units.append(Unit(offset, size, tuple(group)))
            elif units and not units[-1].parts:
                last = units.pop()
                units.append(Unit(last.offset, last.size + size, ()))
            else:
                units.append(Unit(offset, size, ()))
            offset += size
            group, bits = [], 0
        return tuple(units), offset

    # ---------------------------------------------------------------- emission

    def emit(self, line: str) -> None:
        """One line of code: what is no line, or is one too many, ends the generation."""
        if not line.isascii() or not line.isprintable():
            raise ValueError("generated code with a character that is no code's")
        self.size += self.depth + len(line) + 1
        if self.size > MAX_SOURCE:
            raise UnsupportedFeature(
                f"BMv2 JSON: {self.where or 'the program'}: so much code ({MAX_SOURCE >> 20} MiB) "
                "is not implemented"
            )
        self.lines.append(" " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Generator[None, None, None]:
        self.emit(head)
        self.depth += 1
        mark = len(self.lines)
        yield
        if len(self.lines) == mark:
            self.emit("pass")
        self.depth -= 1

    def event(self, kind: str, *parts: str) -> None:
        if self.trace:
            self.emit(f"T({quoted(kind)}{''.join(', ' + p for p in parts)})")

    def fresh(self, stem: str) -> str:
        self.tmp += 1
        return f"{stem}{self.tmp}"

    def out(self, kind: str, name: str) -> str:
        """A global: what a thing outside, known by its kind and P4 name, gives the code."""
        found = self.names.of(kind, name)
        self.outside[found] = (kind, name)
        return found

    def refuse(self, what: str) -> UnsupportedFeature:
        return UnsupportedFeature(f"BMv2 JSON: {self.where}: {what} is not implemented")

    # ------------------------------------------------------------------ locals

    def var(self, header: str, field: str) -> str:
        """The local of a field, or of a header's validity."""
        if field == "$valid$":
            # Metadata is always there, as in BMv2.
            return "1" if self.p.headers[header].metadata else self.names.of("valid", header)
        return self.names.of("f", header, field)

    def origin(self, header: str) -> str:
        """The local with the offset at which a header was extracted, -1: it was not."""
        return self.names.of("at", header)

    def changed(self, header: str) -> str:
        """The local that is 1 when a header's bytes are no longer those that came in."""
        return self.names.of("dirty", header)

    @staticmethod
    def argument(index: int) -> str:
        """The local with an action's parameter."""
        return f"p{int(index)}"

    def count(self, stack: str) -> str:
        """The local with the number of elements that a stack has."""
        return self.names.of("count", stack)

    def width(self, header: str, field: str) -> int:
        return 1 if field == "$valid$" else self.p.field(header, field).width

    def header_locals(self, h: Header) -> list[str]:
        """Locals of a packet header: validity, origin offset, dirty flag, fields."""
        lay = self.layouts[h.type.name]
        out = [self.var(h.name, "$valid$"), self.origin(h.name), self.changed(h.name)]
        for unit in (*lay.units, *lay.tail):
            out += [self.var(h.name, name) for name, _ in unit.parts]
        if lay.varbit:
            out.append(self.var(h.name, lay.varbit))
        return out

    def stack_counts(self) -> list[str]:
        return [self.count(s) for s in (*self.p.stacks, *self.p.union_stacks)]

    def siblings(self, header: str) -> list[str]:
        """Validity locals that turn 0 when this header turns valid: its union's others."""
        union = self.p.union_of.get(header)
        if union is None:
            return []
        return [self.var(m, "$valid$") for m in union.members if m != header]

    def packet_headers(self) -> list[Header]:
        return [h for h in self.p.headers.values() if not h.metadata]

    def header_state(self) -> list[str]:
        out: list[str] = []
        for h in self.packet_headers():
            out += self.header_locals(h)
        out += self.stack_counts()
        out.append("o")
        if self.track_length:
            out.append("plen_reg")
        return out

    def meta_locals(self) -> list[str]:
        out: list[str] = []
        for h in self.p.headers.values():
            if h.metadata:
                out += [
                    self.var(h.name, f.name)
                    for f in h.type.fields
                    if (h.name, f.name) in self.used_meta
                ]
        return out

    def _intrinsic(self, field: str) -> tuple[str, str] | None:
        """A field that the switch itself uses: by alias (p4c) or in P4_14's own headers."""
        for owner in (_OWNERS.get(field, "standard_metadata"), "standard_metadata"):
            header, name = self.p.aliases.get(f"{owner}.{field}", (owner, field))
            known = self.p.headers.get(header)
            if known is not None and known.metadata and name in known.type.by_name:
                return header, name
        return None

    def has_meta(self, field: str) -> bool:
        return self._intrinsic(field) in self.used_meta

    def sm(self, field: str) -> str:
        """The local of a field that the switch itself uses."""
        found = self._intrinsic(field)
        assert found is not None
        return self.var(*found)

    def sm_width(self, field: str) -> int:
        found = self._intrinsic(field)
        assert found is not None
        return self.width(*found)

    def assign_zero(self, names: list[str]) -> None:
        # One chained assignment a line: a constant and a store for each name.
        for i in range(0, len(names), 24):
            self.emit(" = ".join(names[i : i + 24]) + " = 0")
