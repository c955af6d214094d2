"""Expressions and primitives of a program (softswitch/ir), asked for what a chip's stages ask."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.softswitch.ir.program import P4Program

Json = Any
Field = tuple[str, str]
"""(header, field)."""

_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = frozenset({"<", "<=", ">", ">="})
_TRUTH = frozenset({"d2b", "b2d", "not", "and", "or"})


@dataclass(frozen=True, slots=True)
class FieldWrite:
    """One field that a primitive writes: from which fields, in how many dependent steps of the ALUs.

    `constant` is what it becomes, where that is always the same; `copy`: it becomes what another field
    is, or a slice of it. `hash_bits`: the hash units make it. `data`: the action's parameters that it
    takes, as (index, bits).
    """

    target: Field
    reads: frozenset[Field]
    steps: int = 1
    constant: int | None = None
    copy: bool = False
    hash_bits: int = 0
    data: frozenset[tuple[int, int]] = frozenset()


def bare(node: Json) -> Json:
    """The node inside `expression` wrappers."""
    while isinstance(node, dict) and node.get("type") == "expression":
        node = node["value"]
    return node


def fields_of(node: Json) -> Iterator[Field]:
    """The fields that an expression reads."""
    node = bare(node)
    if not isinstance(node, dict):
        return
    if node.get("type") == "field":
        yield tuple(node["value"])
    elif node.get("type") == "header":
        yield (node["value"], "$valid$")
    else:
        for key in ("left", "right", "cond"):
            yield from fields_of(node.get(key))


def parameters_of(node: Json) -> Iterator[int]:
    """The indices of the action's parameters that an expression reads."""
    node = bare(node)
    if not isinstance(node, dict):
        return
    if node.get("type") == "runtime_data":
        yield node["value"]
    else:
        for key in ("left", "right", "cond"):
            yield from parameters_of(node.get(key))


def value_of(node: Json, values: Mapping[Field, int]) -> int | None:
    """What an expression is, where the known fields decide it."""
    node = bare(node)
    kind = node.get("type")
    if kind in ("hexstr", "bool"):
        return int(node["value"])
    if kind == "field":
        return values.get(tuple(node["value"]))
    op = node.get("op")
    if op in ("d2b", "b2d", "not"):
        value = value_of(node["right"], values)
        return None if value is None else int(not value) if op == "not" else value
    if op == "valid":
        return values.get((bare(node["right"])["value"], "$valid$"))
    if op not in _OPERATIONS and op not in ("and", "or"):
        return None
    if node.get("left") is None:
        return None
    sides = [value_of(node[side], values) for side in ("left", "right")]
    if op in ("and", "&") and 0 in sides:
        return 0
    if op == "or" and 1 in sides:
        return 1
    left, right = sides
    if left is None or right is None:
        return None
    if op in ("and", "or"):
        return int(bool(left and right) if op == "and" else bool(left or right))
    result = _OPERATIONS[op](left, right)
    return int(result) if result >= 0 else None


def steps_of(node: Json) -> int:
    """Dependent operations of an expression; slices and concatenations are none, they are wiring."""
    node = bare(node)
    op = node.get("op")
    if op is None:
        return 0
    sides = [node[side] for side in ("left", "right") if node.get(side) is not None]
    deepest = max((steps_of(side) for side in sides), default=0)
    if op in ("<<", ">>", "~") or op in _TRUTH:
        return deepest
    if op == "&" and any(_is_constant(side) for side in sides):
        return deepest
    if op == "|" and any(bare(side).get("op") in ("<<", "&") for side in sides):
        return deepest
    return deepest + 1


def compares(node: Json) -> bool:
    """Whether a condition asks for an order of two fields: an ALU subtracts first."""
    node = bare(node)
    if not isinstance(node, dict) or node.get("op") is None:
        return False
    sides = [node[side] for side in ("left", "right") if node.get(side) is not None]
    if node["op"] in _ORDERED and not any(_is_constant(side) for side in sides):
        return True
    return any(compares(side) for side in sides)


def computes(node: Json) -> int:
    """Steps of the ALUs before a condition can be asked."""
    node = bare(node)
    if not isinstance(node, dict) or node.get("op") is None:
        return 0
    sides = [node[side] for side in ("left", "right") if node.get(side) is not None]
    if node["op"] in _TRUTH:
        return max(computes(side) for side in sides)
    if node["op"] in ("==", "!=") or node["op"] in _ORDERED:
        return max(steps_of(side) for side in sides) + int(compares(node))
    return steps_of(node)


def _is_constant(node: Json) -> bool:
    return bare(node).get("type") in ("hexstr", "bool")


def writes_of(primitive: Json, program: P4Program) -> tuple[FieldWrite, ...]:
    """What a primitive does to fields; what it asks of the switch is a field of no header."""
    op, parameters = primitive["op"], primitive["parameters"]
    if op == "assign":
        target, source = bare(parameters[0]), bare(parameters[1])
        reads = frozenset(fields_of(source))
        steps = steps_of(source)
        constant = value_of(source, {}) if not reads else None
        written = tuple(target["value"])
        return (FieldWrite(written, reads, max(1, steps), constant, bool(reads) and not steps),)
    if op in ("add_header", "remove_header"):
        header = bare(parameters[0])["value"]
        return (FieldWrite((header, "$valid$"), frozenset(), 1, int(op == "add_header")),)
    if op == "assign_header":
        to, source = (bare(p)["value"] for p in parameters)
        names = [field.name for field in program.headers[to].type.fields]
        return tuple(FieldWrite((to, n), frozenset({(source, n)})) for n in (*names, "$valid$"))
    if op == "modify_field_with_hash_based_offset":
        target, calculation = tuple(bare(parameters[0])["value"]), parameters[2]["value"]
        inputs = program.calculations[calculation].inputs
        reads = frozenset(field for node in inputs for field in fields_of(node))
        bits = program.field(*target).width
        return (FieldWrite(target, reads, 1, hash_bits=bits),)
    reads = frozenset(field for parameter in parameters for field in fields_of(parameter))
    return (FieldWrite(("", op), reads),)
