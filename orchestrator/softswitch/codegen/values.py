"""What fields have behind assignments, as expressions: equal ones are one number (value numbering)."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.softswitch.ir.program import Json, P4Program

Field = tuple[str, str]
"""(header, field)."""

WORD = 32
_MAX_SHIFT = 64
_UNBOUNDED = 1 << 16
"""Bits of what nothing is known of: more than any field takes."""


class Values:
    """Expressions over what fields had at the beginning, each one once, by number.

    None is negative. Sums modulo 2^32 are `add`, rotations of 32 bits to the left `turn`.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int, int], int] = {}
        self._keys: list[tuple[str, int, int]] = []
        """Operator and operands: values, or a shift's and a mask's bits."""
        self._fields: dict[Field, int] = {}
        self.bits: list[int] = []
        """How many bits a value has at most."""
        self.sums: list[tuple[int, int]] = []
        """Operands of each `add`."""
        self.with_xor: dict[int, list[int]] = {}
        """Of an operand of exclusive ors: the other ones."""

    def constant(self, number: int) -> int:
        return self._made("constant", number, 0, number.bit_length())

    def initial(self, name: Field, bits: int) -> int:
        return self._made("field", self._fields.setdefault(name, len(self._fields)), 0, bits)

    def unknown(self) -> int:
        """A value that equals no other one."""
        return self._made("unknown", len(self._keys), 0, _UNBOUNDED)

    def operation(self, op: str, left: int, right: int) -> int:
        most = max(self.bits[left], self.bits[right])
        by = self._number(right)
        match op:
            case "^":
                return self._symmetric("^", left, right, most)
            case "+":
                return self._symmetric("+", left, right, most + 1)
            case "|":
                turned = self._turned(left, right) or self._turned(right, left)
                return turned or self._symmetric("|", left, right, most)
            case "&":
                value, mask = (left, by) if by is not None else (right, self._number(left))
                if mask is None or mask & (mask + 1):
                    return self.unknown()
                return self.low(value, mask.bit_length())
            case "<<" if by is not None and by <= _MAX_SHIFT:
                return self._made("<<", left, by, self.bits[left] + by)
            case ">>" if by is not None and by <= _MAX_SHIFT:
                return self._made(">>", left, by, max(self.bits[left] - by, 0))
            case _:
                return self.unknown()

    def low(self, value: int, bits: int) -> int:
        """The low bits of a value, as a field of so many takes them."""
        if self.bits[value] <= bits:
            return value
        op, left, right = self._keys[value]
        if op == "+" and bits == WORD and self.bits[value] == WORD + 1:
            return self._symmetric("add", left, right, WORD)
        return self._made("&", value, bits, bits)

    def find(self, op: str, left: int | None, right: int | None) -> int | None:
        """The result of `^` or `add`, if the program makes it."""
        if left is None or right is None:
            return None
        return self._numbers.get((op, min(left, right), max(left, right)))

    def turned(self, value: int | None, by: int) -> int | None:
        """A rotated value, if the program makes it."""
        return None if value is None else self._numbers.get(("turn", value, by))

    def _made(self, op: str, left: int, right: int, bits: int) -> int:
        number = self._numbers.setdefault((op, left, right), len(self._keys))
        if number == len(self._keys):
            self._keys.append((op, left, right))
            self.bits.append(bits)
        return number

    def _symmetric(self, op: str, left: int, right: int, bits: int) -> int:
        first, second = min(left, right), max(left, right)
        count = len(self._keys)
        made = self._made(op, first, second, bits)
        if made == count and op == "add":
            self.sums.append((first, second))
        if made == count and op == "^":
            self.with_xor.setdefault(first, []).append(second)
            self.with_xor.setdefault(second, []).append(first)
        return made

    def _number(self, value: int) -> int | None:
        op, number, _ = self._keys[value]
        return number if op == "constant" else None

    def _turned(self, high: int, low: int) -> int | None:
        """(v & ones) << n | v >> (32 - n), of a v of 32 bits."""
        (left, kept, by), (right, value, rest) = self._keys[high], self._keys[low]
        if (left, right) != ("<<", ">>") or by + rest != WORD or self.bits[value] != WORD:
            return None
        if self._keys[kept] != ("&", value, rest):
            return None
        return self._made("turn", value, by, WORD)


@dataclass(slots=True)
class Run:
    """What fields have, one assignment after the other."""

    program: P4Program
    values: Values
    now: dict[Field, int] = field(default_factory=dict[Field, int])
    said: dict[int, Json] = field(default_factory=dict[int, Json])
    """How the program says a value."""

    def assign(self, primitive: Json) -> None:
        """Take an assignment (`target_of`) into account."""
        to, source = primitive["parameters"]
        width = self.program.field(*to["value"]).width
        self.now[to["value"]] = self.values.low(self.value(source), width)

    def value(self, node: Json) -> int:
        """What an expression has here."""
        kind, what = node["type"], node["value"]
        if kind == "expression":
            made = self._operation(what) if "op" in what else self.value(what)
        elif kind == "hexstr" and what >= 0:
            made = self.values.constant(what)
        elif kind == "field" and _is_plain(self.program, what):
            width = self.program.field(*what).width
            made = self.now.get(what, self.values.initial(what, width))
        else:
            made = self.values.unknown()
        self.said.setdefault(made, node)
        return made

    def _operation(self, what: Json) -> int:
        if what["op"] not in ("^", "+", "&", "|", "<<", ">>") or what["left"] is None:
            return self.values.unknown()
        left, right = self.value(what["left"]), self.value(what["right"])
        return self.values.operation(what["op"], left, right)

    def words(self, of: tuple[int, ...]) -> list[Json] | None:
        """How to say these values here; None: the fields that they were read from have changed since."""
        nodes = [self.said.get(value) for value in of]
        if any(node is None for node in nodes):
            return None
        same = all(self.value(node) == value for node, value in zip(nodes, of, strict=True))
        return nodes if same else None


def target_of(program: P4Program, primitive: Json) -> Field | None:
    """The field of which a primitive does nothing but give it an unsigned number."""
    if primitive["op"] not in ("assign", "keyed_hash"):
        return None
    to = primitive["parameters"][0]
    if to["type"] != "field":
        return None
    # What conditions read instead of a hash is no field of the program as it was read.
    own = primitive["op"] == "keyed_hash" or _is_plain(program, to["value"])
    return to["value"] if own else None


def _is_plain(program: P4Program, name: Json) -> bool:
    """Whether it is a field of a known header, and an unsigned number."""
    if not isinstance(name[0], str) or name[1] == "$valid$":
        return False
    of = program.field(*name)
    return not (of.signed or of.varbit or of.saturating)
