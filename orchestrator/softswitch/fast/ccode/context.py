"""The C program under construction: names and layouts as for Python, lines and types of C."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.context import Context
from orchestrator.softswitch.fast.ccode.kinds import I64, I128, WIDE, CType, kind_of_bits
from orchestrator.softswitch.ir.program import P4Program


class CContext(Context):
    """What all parts of the generator share.

    Statements stand in one function, so labels and `fresh` names are numbered.
    """

    def __init__(self, program: P4Program, *, drop_port: int, queues: int) -> None:
        super().__init__(program, drop_port=drop_port, queues=queues)
        self.table_number = {t.name: i for i, t in enumerate(program.tables())}
        first = len(self.table_number)
        self.value_set_number = {name: first + i for i, name in enumerate(program.value_sets)}
        """Their tables stand behind those of the program."""
        self.profile_number = {name: i for i, name in enumerate(program.profiles)}
        self.counter_number = {name: i for i, name in enumerate(program.counters)}
        self.register_number = {name: i for i, name in enumerate(program.registers)}
        arrays = [m for m in program.meters.values() if m.table is None]
        self.meter_number = {m.name: i for i, m in enumerate(arrays)}
        self.digest_number = {ident: i for i, ident in enumerate(program.learn_lists)}

    @contextmanager
    def block(self, head: str) -> Generator[None, None, None]:
        self.emit(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.emit("}")

    def label(self, name: str) -> None:
        """A label; what follows may be a declaration or the end of a block."""
        self.emit(f"{name}:;")

    def goto(self, name: str) -> None:
        self.emit(f"goto {name};")

    def backward(self, name: str) -> None:
        """A jump that may lead to where the packet has been: bounded."""
        self.emit("if (++steps > MAX_STEPS) goto fault;")
        self.goto(name)

    def kind_of_field(self, header: str, field: str) -> CType:
        """The type of a field's local; a signed field's is signed."""
        if field == "$valid$":
            return kind_of_bits(1)
        f = self.p.field(header, field)
        if not f.signed:
            return kind_of_bits(f.width)
        return I64 if f.width <= 64 else I128 if f.width <= 128 else WIDE

    def declarations(self) -> list[tuple[str, str]]:
        """(type, name) of every local that holds a part of the packet or its metadata."""
        out: list[tuple[str, str]] = []
        for h in self.packet_headers():
            lay = self.layouts[h.type.name]
            out.append(("u64", self.var(h.name, "$valid$")))
            out.append(("u32", self.changed(h.name)))
            out.append(("i64", self.origin(h.name)))
            for unit in (*lay.units, *lay.tail):
                out += [
                    (self.kind_of_field(h.name, n).name, self.var(h.name, n)) for n, _ in unit.parts
                ]
            if lay.varbit:
                out.append(("struct varbit", self.var(h.name, lay.varbit)))
        for h in self.p.headers.values():
            if h.metadata:
                out += [
                    (
                        "struct varbit" if f.varbit else self.kind_of_field(h.name, f.name).name,
                        self.var(h.name, f.name),
                    )
                    for f in h.type.fields
                    if (h.name, f.name) in self.used.metadata
                ]
        out += [("u64", name) for name in self.stack_counts()]
        return list(dict.fromkeys(out))

    def assign_zero(self, names: list[str]) -> None:
        types = {name: kind for kind, name in self.declarations()}
        for name in names:
            self.emit(f"{name} = {zero_of(types.get(name, 'u64'))};")


def zero_of(kind: str) -> str:
    """The zero of a local's type."""
    if kind == "wide":
        return "(wide){{0}}"
    return "(struct varbit){0}" if kind.startswith("struct") else "0"
