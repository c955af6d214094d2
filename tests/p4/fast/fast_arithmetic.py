"""Random programs in BMv2's JSON that do nothing but arithmetic on the fields of one header."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import bmv2_programs as by_hand

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.fast.ccode import generate
from orchestrator.softswitch.ir import read_program

WIDTHS = (1, 3, 7, 8, 9, 16, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 200, 512, 2048)
ASSIGNMENTS = 40

_BINARY = ("+", "-", "*", "&", "|", "^")
_COMPARED = ("==", "!=", "<", ">", "<=", ">=")


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fields: list[tuple[str, int, bool, bool]] = []

    def program(self) -> Any:
        rng = self.rng
        made = by_hand.small()
        for i in range(16):
            width = rng.choice(WIDTHS[:16] if i < 13 else WIDTHS)
            signed = rng.random() < 0.3 and width > 1
            self.fields.append((f"f{i}", width, signed, rng.random() < 0.2))
        pad = -sum(width for _, width, _, _ in self.fields) % 8
        fields: list[list[Any]] = [list(f) for f in self.fields]
        if pad:
            fields.append(["pad", pad, False, False])
        made["header_types"][1]["fields"] = fields
        prims: list[Any] = []
        while len(prims) < ASSIGNMENTS:
            candidate = self.assignment()
            made["actions"][0]["primitives"] = [candidate]
            with suppress(UnsupportedFeature):  # numbers of more than 4,096 bits
                generate(read_program(made))
                prims.append(candidate)
        made["actions"][0]["primitives"] = [*prims, by_hand.send_to(2)]
        return made

    def assignment(self) -> Any:
        name, width, signed, saturating = self.rng.choice(self.fields)
        value = self.value(3)
        if not saturating:
            value = self.cut(value, width, signed=signed)
        return by_hand.call("assign", by_hand.field("h", name), value)

    def cut(self, value: Any, width: int, *, signed: bool) -> Any:
        """As p4c ends an expression of a type."""
        if signed:
            return by_hand.operation("two_comp_mod", value, by_hand.number(width))
        return by_hand.operation("&", value, by_hand.number((1 << width) - 1))

    def value(self, depth: int) -> Any:
        rng = self.rng
        if depth == 0 or rng.random() < 0.15:
            if rng.random() < 0.3:
                return by_hand.number(rng.getrandbits(rng.choice(WIDTHS[:14])))
            return by_hand.field("h", rng.choice(self.fields)[0])
        kind = rng.randrange(10)
        if kind < 5:
            op, sides = rng.choice(_BINARY), [self.value(depth - 1) for _ in range(2)]
            if op == "*":  # p4c, too, cuts what could grow without end
                sides = [self.cut(s, 128, signed=rng.random() < 0.5) for s in sides]
            return by_hand.operation(op, *sides)
        if kind == 5:
            width = rng.choice(WIDTHS[:16])
            name = rng.choice(("usat_cast", "sat_cast", "two_comp_mod"))
            return by_hand.operation(name, self.value(depth - 1), by_hand.number(width))
        if kind == 6:
            count = by_hand.number(rng.choice((0, 1, 5, 31, 64, 70, 200)))
            inner = self.cut(self.value(depth - 1), rng.choice(WIDTHS[:16]), signed=False)
            return by_hand.operation(rng.choice(("<<", ">>")), inner, count)
        if kind == 7:
            count = self.cut(self.value(0), 6, signed=False)
            inner = self.cut(self.value(depth - 1), 64, signed=rng.random() < 0.5)
            return by_hand.operation(rng.choice(("<<", ">>")), inner, count)
        if kind == 8:
            divided = [self.cut(self.value(depth - 1), 64, signed=False) for _ in range(2)]
            return by_hand.operation(rng.choice(("/", "%")), *divided)
        test = by_hand.operation(rng.choice(_COMPARED), self.value(depth - 1), self.value(0))
        chosen = {
            "op": "?",
            "cond": test,
            "left": self.value(depth - 1),
            "right": self.value(depth - 1),
        }
        return {"type": "expression", "value": {"type": "expression", "value": chosen}}


def program(seed: int) -> Any:
    return _Maker(seed).program()


def frame(made: Any, rng: random.Random) -> bytes:
    """Random fields, often all zeros or all ones, with a short payload."""
    bits = size = 0
    for _, width, *_ in made["header_types"][1]["fields"]:
        top = (1 << width) - 1
        value = rng.choice((0, top, 1, rng.randint(0, top), rng.randint(0, top), 1 << (width - 1)))
        bits, size = bits << width | value, size + width
    return bits.to_bytes(size // 8, "big") + b"payload"
