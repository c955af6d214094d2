"""What all parts of the generator share: fields used, header layouts, lines, local names."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.program import (
    Header,
    HeaderType,
    Json,
    Program,
    Union,
)

# Where a packet comes from: `mode` of the generated function, equal to BMv2's
# instance_type where that exists.
NORMAL, RESUBMIT, RECIRCULATE, INGRESS_CLONE = 0, 6, 4, 1
EGRESS_CLONE, REPLICATION = 2, 5

_ALWAYS = ("ingress_port", "egress_spec", "egress_port", "instance_type", "mcast_grp", "egress_rid")


@dataclass(slots=True)
class Ex:
    """A generated expression with the bounds of its value (None: unbounded)."""

    code: str
    lo: int | None
    hi: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of whole bytes in a header: an opaque run or the fields inside it.

    `parts` = (local suffix, width in bits) highest first; empty means opaque.
    """

    offset: int
    size: int
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a header type is decoded: fixed bytes before and after a varbit."""

    size: int
    units: tuple[Unit, ...]
    tail: tuple[Unit, ...]
    varbit: str | None
    names: Mapping[str, str]

    @property
    def opaque(self) -> bool:
        return any(not u.parts for u in (*self.units, *self.tail))


@dataclass(frozen=True, slots=True)
class Generated:
    """Source of the function and what its globals must hold."""

    source: str
    structs: Mapping[str, str]


def ident(name: str) -> str:
    return re.sub(r"\W", "_", name)


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
    return hex(n) if n > 9 else str(n)


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
        self.structs: dict[str, str] = {}
        self.where = ""
        self.used = self._used_fields()
        self.layouts = {
            h.type.name: self._layout(h.type) for h in program.headers.values() if not h.metadata
        }
        self.prefix = self._prefixes()
        self.ops = self._primitive_ops()
        self.emitted = 0
        self.track_length = ("standard_metadata", "packet_length") in self.used_meta

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
            if isinstance(node, list):
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
                    index = 0
                    for union in self.p.union_stacks[value[0]].elements:
                        index = self.member_index(union, value[1])
                        touch(union.members[index], value[2])
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

        for section in (
            "parsers",
            "deparsers",
            "actions",
            "pipelines",
            "calculations",
            "checksums",
            "learn_lists",
        ):
            walk(self.p.raw.get(section))
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
        if "standard_metadata" in self.p.headers:
            names = {f.name for f in self.p.headers["standard_metadata"].type.fields}
            for name in _ALWAYS:
                if name in names:
                    touch("standard_metadata", name)
        return used

    @staticmethod
    def member_index(union: Union, member: str) -> int:
        """Which header of a union is called `member` inside it."""
        for i, header in enumerate(union.members):
            if header.rpartition(".")[2] == member:
                return i
        raise UnsupportedFeature(
            f"BMv2 JSON: header union {union.name} has no member '{member}' "
            f"({', '.join(union.members)})"
        )

    def _layout(self, type_: HeaderType) -> Layout:
        used = self.used.get(type_.name, set())
        before: list[tuple[str, int]] = []
        after: list[tuple[str, int]] = []
        varbit: str | None = None
        for f in type_.fields:
            if f.varbit:
                varbit = ident(f.name)
            else:
                (after if varbit else before).append((f.name, f.width))
        names = {f.name: ident(f.name) for f in type_.fields}
        if sum(w for _, w in before) % 8 or sum(w for _, w in after) % 8:
            raise UnsupportedFeature(
                f"header_types.{type_.name}: a header must be whole bytes around its varbit"
            )
        units, size = self._units(before, used, names, 0)
        tail, total = self._units(after, used, names, size)
        return Layout(total, units, tail, varbit, names)

    @staticmethod
    def _units(
        fields: list[tuple[str, int]], used: set[str], names: Mapping[str, str], start: int
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
                units.append(Unit(offset, size, tuple((names[n], w) for n, w in group)))
            elif units and not units[-1].parts:
                last = units.pop()
                units.append(Unit(last.offset, last.size + size, ()))
            else:
                units.append(Unit(offset, size, ()))
            offset += size
            group, bits = [], 0
        return tuple(units), offset

    def _prefixes(self) -> dict[str, str]:
        """Header name -> unique prefix of its locals."""
        out: dict[str, str] = {}
        taken: set[str] = set()
        for name in self.p.headers:
            prefix = ident(name)
            if prefix == "standard_metadata":
                prefix = "sm"
            elif prefix == "scalars":
                prefix = "m"
            while prefix in taken:
                prefix += "_"
            taken.add(prefix)
            out[name] = prefix
        return out

    # ---------------------------------------------------------------- emission

    def emit(self, line: str) -> None:
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
            self.emit(f"T({kind!r}{''.join(', ' + p for p in parts)})")

    def fresh(self, stem: str) -> str:
        self.tmp += 1
        return f"{stem}{self.tmp}"

    def struct(self, fmt: str, method: str) -> str:
        name = f"{method}_{ident(fmt)}"
        self.structs[name] = fmt
        return name

    def refuse(self, what: str) -> UnsupportedFeature:
        return UnsupportedFeature(f"BMv2 JSON: {self.where}: {what} is not implemented")

    # ------------------------------------------------------------------ locals

    def var(self, header: str, field: str) -> str:
        prefix = self.prefix[header]
        return f"{prefix}_v" if field == "$valid$" else f"{prefix}__{ident(field)}"

    def width(self, header: str, field: str) -> int:
        return 1 if field == "$valid$" else self.p.field(header, field).width

    def header_locals(self, h: Header) -> list[str]:
        """Locals of a packet header: validity, origin offset, dirty flag, fields."""
        lay = self.layouts[h.type.name]
        prefix = self.prefix[h.name]
        out = [f"{prefix}_v", f"{prefix}_o", f"{prefix}_d"]
        for unit in (*lay.units, *lay.tail):
            out += [f"{prefix}__{name}" for name, _ in unit.parts]
        if lay.varbit:
            out.append(f"{prefix}__{lay.varbit}")
        return out

    def stack_counts(self) -> list[str]:
        return [f"{ident(s)}_n" for s in (*self.p.stacks, *self.p.union_stacks)]

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

    def has_meta(self, field: str) -> bool:
        return ("standard_metadata", field) in self.used_meta

    def sm(self, field: str) -> str:
        return self.var("standard_metadata", field)

    def assign_zero(self, names: list[str]) -> None:
        # One chained assignment a line: a constant and a store for each name.
        for i in range(0, len(names), 24):
            self.emit(" = ".join(names[i : i + 24]) + " = 0")
