"""Registers."""

from __future__ import annotations

from collections.abc import Mapping

from finsy.proto import p4d, p4i, p4r

from orchestrator.softswitch.entities.arrays import Array, Arrays
from orchestrator.softswitch.entities.base import MODIFY, ById, Operation, in_program
from orchestrator.softswitch.ir.program import P4Program
from orchestrator.softswitch.packetmeta import canonical


class RegisterArray(Array):
    word = "register"

    def __init__(self, info: p4i.Register, cells: list[int], width: int) -> None:
        super().__init__(info.preamble, len(cells))
        self.cells = cells
        self.width = width

    def set(self, where: range, value: int) -> None:
        for i in where:
            self.cells[i] = value


class Registers(Arrays[p4r.RegisterEntry, RegisterArray]):
    def __init__(
        self,
        p4info: p4i.P4Info,
        live: Mapping[str, list[int]],
        program: P4Program,
        problems: list[str],
    ) -> None:
        registers = in_program("register", p4info.registers, live, problems)
        self.by_id = ById(
            "register",
            (
                RegisterArray(info, cells, program.registers[info.preamble.name].width)
                for info, cells in registers
            ),
        )

    def decode(self, kind: int, e: p4r.RegisterEntry) -> Operation:
        register = self.by_id[e.register_id]
        if kind != MODIFY:
            raise register.invalid("only MODIFY writes a register")
        value = int.from_bytes(e.data.bitstring, "big")
        if value >> register.width or not e.data.bitstring:
            raise register.invalid(f"data must be a bitstring of at most {register.width} bits")
        return register.set, (register.cells_of(e), value)

    def chosen(self, e: p4r.RegisterEntry) -> list[RegisterArray]:
        return self.by_id.chosen(e.register_id)

    def encode(self, of: RegisterArray, item: int, e: p4r.RegisterEntry) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.register_entry
        out.register_id, out.index.index = of.id, item
        out.data.CopyFrom(p4d.P4Data(bitstring=canonical(of.cells[item])))
        return entity
