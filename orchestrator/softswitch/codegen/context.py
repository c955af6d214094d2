"""What all parts of the generator share: the program, header layouts, lines, names of locals."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.architectures import PacketOrigin, TrafficStep
from orchestrator.softswitch.codegen.layout import intrinsic, layouts_of, primitive_ops, used_fields
from orchestrator.softswitch.ir.program import Header, P4Program


@dataclass(slots=True)
class Ex:
    """A generated expression with the bounds of its value (None: unbounded)."""

    code: str
    lo: int | None
    hi: int | None


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
        name = self._of.get(key)
        if name is None:
            name = self._of[key] = f"{stem}__{len(self._of)}"
        return name


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


class Context:
    """The function under construction: its lines, the names of its locals, and what it is made of."""

    def __init__(
        self, program: P4Program, *, trace: bool = False, drop_port: int = 511, queues: int = 1
    ) -> None:
        self.p = program
        self.trace = trace
        self.drop_port = drop_port
        self.queues = queues
        self.lines: list[str] = []
        self.depth = 0
        self.where = ""
        self.outside: dict[str, tuple[str, str]] = {}
        self.used = used_fields(program)
        self.layouts = layouts_of(program, self.used)
        self.ops = primitive_ops(program)
        self.track_length = self.has_meta("packet_length")
        self._size = 0
        self._numbered = 0
        self._names = Names()

    def asked(self, step: TrafficStep) -> bool:
        """Whether the program can ask for a step; if not there is no code for it."""
        return self.p.architecture.may_take(step, self.ops)

    def origin_number(self, origin: PacketOrigin) -> int:
        """What instance_type says of a packet from there; also the `mode` of the function."""
        return self.p.architecture.instance_types[origin]

    def emit(self, line: str) -> None:
        """One line of code: what is no line, or is one too many, ends the generation."""
        if not line.isascii() or not line.isprintable():
            raise ValueError("generated code with a character that is no code's")
        self._size += self.depth + len(line) + 1
        if self._size > MAX_SOURCE:
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
        self._numbered += 1
        return f"{stem}{self._numbered}"

    def out(self, kind: str, name: str) -> str:
        """A global: what a thing outside, known by its kind and P4 name, gives the code."""
        local = self._names.of(kind, name)
        self.outside[local] = (kind, name)
        return local

    def refuse(self, what: str) -> UnsupportedFeature:
        return UnsupportedFeature(f"BMv2 JSON: {self.where}: {what} is not implemented")

    # ------------------------------------------------------------------ locals

    def var(self, header: str, field: str) -> str:
        """The local of a field, or of a header's validity."""
        if field == "$valid$":
            # Metadata is always there, as in BMv2.
            return "1" if self.p.headers[header].metadata else self._names.of("valid", header)
        return self._names.of("f", header, field)

    def origin(self, header: str) -> str:
        """The local with the offset at which a header was extracted, -1: it was not."""
        return self._names.of("at", header)

    def changed(self, header: str) -> str:
        """The local that is 1 when a header's bytes are no longer those that came in."""
        return self._names.of("dirty", header)

    @staticmethod
    def argument(index: int) -> str:
        """The local with an action's parameter."""
        return f"p{int(index)}"

    def count(self, stack: str) -> str:
        """The local with the number of elements that a stack has."""
        return self._names.of("count", stack)

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
                    if (h.name, f.name) in self.used.metadata
                ]
        return out

    def has_meta(self, field: str) -> bool:
        return intrinsic(self.p, field) in self.used.metadata

    def sm(self, field: str) -> str:
        """The local of a field that the switch itself uses."""
        field_of = intrinsic(self.p, field)
        assert field_of is not None
        return self.var(*field_of)

    def sm_width(self, field: str) -> int:
        field_of = intrinsic(self.p, field)
        assert field_of is not None
        return self.width(*field_of)

    def assign_zero(self, names: list[str]) -> None:
        # One chained assignment a line: a constant and a store for each name.
        for i in range(0, len(names), 24):
            self.emit(" = ".join(names[i : i + 24]) + " = 0")
