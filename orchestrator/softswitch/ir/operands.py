"""Expressions and primitives: checked, and rebuilt in the one form that `codegen` walks.

What comes out are JSON objects as in BMv2's format, with nothing in them that
was not looked at: constants are integers, references are names of what is
declared, offsets lie within what they count. The names that older compilers
gave primitives (P4_14's `modify_field`, `add_to_field`, ...) come out as what
they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.architectures import Operand
from orchestrator.softswitch.ir.node import MAX_BITS, Json, JsonNode
from orchestrator.softswitch.ir.objects import VALID, Objects, resolve
from orchestrator.softswitch.ir.program import HeaderType, Param, Union

MAX_DEPTH = 90
"""Nested operations of one expression. CPython reads 200 nested parentheses, an operation has two."""

_BINARY = (
    *("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"),
    *("==", "!=", "<", ">", "<=", ">=", "and", "or"),
)
_CASTS = ("two_comp_mod", "sat_cast", "usat_cast")
_UNARY = ("not", "~", "d2b", "b2d")
_STACK_OPS = ("last_stack_index", "size_stack")
OPERATORS = (
    *_BINARY,
    *_CASTS,
    *_UNARY,
    *_STACK_OPS,
    *("?", "valid", "valid_union", "access_field", "access_union_header"),
    *("dereference_header_stack", "dereference_stack", "dereference_union_stack"),
)

_LVALUE, _VALUE, _HEADER, _STACK, _ANY_STACK = "lvalue", "value", "header", "stack", "any stack"
_UNION, _UNION_STACK, _VARBIT, _CONST, _TEXT = "union", "union stack", "varbit", "const", "text"
_VALUES, _CALCULATION, _COUNTER = "values", "calculation", "counter"
_REGISTER = "register"

PRIMITIVES: Mapping[str, tuple[Operand, ...]] = {
    "assign": (_LVALUE, _VALUE),
    "assign_VL": (_VARBIT, _VARBIT),
    "assign_header": (_HEADER, _HEADER),
    "assign_header_stack": (_STACK, _STACK),
    "assign_union": (_UNION, _UNION),
    "assign_union_stack": (_UNION_STACK, _UNION_STACK),
    "add_header": (_HEADER,),
    "add_header_fast": (_HEADER,),
    "remove_header": (_HEADER,),
    "exit": (),
    "no_op": (),
    "push": (_ANY_STACK, _CONST),
    "pop": (_ANY_STACK, _CONST),
    "_jump": (_CONST,),
    "_jump_if_zero": (_VALUE, _CONST),
}
"""The language's own, and what their parameters are; an architecture adds its externs."""

_COPIES = ("assign_header", "assign_header_stack", "assign_union", "assign_union_stack")
_STACKS = ("header_stack", "header_union_stack")
_OLD_IN_PLACE = {"add_to_field": "+", "subtract_from_field": "-"}
_OLD_BINARY = {
    "add": "+",
    "subtract": "-",
    "bit_xor": "^",
    "bit_or": "|",
    "bit_and": "&",
    "shift_left": "<<",
    "shift_right": ">>",
}
_OLD_NAMES = {"modify_field": "assign", "copy_header": "assign_header"}


@dataclass(frozen=True, slots=True)
class _Checked:
    """A node in its one form, and what it yields: a value, or a header or union of these types."""

    json: Json
    kind: str
    types: tuple[HeaderType, ...] = ()


class Operands:
    """Checks what refers to `objects`; `params` are those of the action that it is in."""

    def __init__(self, objects: Objects, params: Sequence[Param] = ()) -> None:
        self.objects = objects
        self.params = params

    # ------------------------------------------------------------ expressions

    def value(self, node: JsonNode) -> Json:
        """An expression that yields a number or a truth value."""
        return self._of(node, _VALUE).json

    def _of(self, node: JsonNode, kind: str, depth: int = 0) -> _Checked:
        checked = self._expression(node, depth)
        if checked.kind != kind:
            raise node.wrong(f"a {checked.kind} where a {kind} belongs")
        return checked

    def _expression(self, node: JsonNode, depth: int) -> _Checked:
        if depth > MAX_DEPTH:
            raise UnsupportedFeature(
                f"BMv2 JSON: {node.path}: expressions of more than {MAX_DEPTH} nested "
                "operations are not implemented"
            )
        if node.get("type") is None and node.get("op") is not None:
            return self._read_expression(node, depth)
        while node["type"].value == "expression" and node["value"].get("op") is None:
            node = node["value"]
        kind = node["type"].name()
        read = getattr(self, f"_read_{kind}", None) if kind in _EXPRESSIONS else None
        if read is None:
            raise node["type"].unknown("expression of type", _EXPRESSIONS)
        return read(node["value"], depth)

    def _read_expression(self, node: JsonNode, depth: int) -> _Checked:
        checked = self._operation(node, depth + 1)
        return _Checked({"type": "expression", "value": checked.json}, checked.kind, checked.types)

    def _read_hexstr(self, node: JsonNode, depth: int) -> _Checked:
        return _constant(node.hexadecimal(signed=True))

    def _read_bool(self, node: JsonNode, depth: int) -> _Checked:
        return _Checked({"type": "bool", "value": node.flag()}, _VALUE)

    def _read_field(self, node: JsonNode, depth: int) -> _Checked:
        first, second = node.items(2)
        if isinstance(first.value, str):
            header, name = self.objects.field(node)
            fields = self.objects.headers[header].type.by_name.get(name)
            kind = _VARBIT if fields is not None and fields.varbit else _VALUE
            return _Checked({"type": "field", "value": (header, name)}, kind)
        # A field of a header that is picked at run time.
        header = self._of(first, _HEADER, depth + 1)
        name = second.name()
        if name != VALID:
            fields = header.types[0].by_name
            if name not in fields or fields[name].varbit:
                raise second.unknown(f"field of {header.types[0].name}", tuple(fields))
        return _Checked({"type": "field", "value": (header.json, name)}, _VALUE)

    def _read_local(self, node: JsonNode, depth: int) -> _Checked:
        if not self.params:
            raise node.wrong("an action without parameters has no runtime data")
        index = node.integer(0, len(self.params) - 1)
        return _Checked({"type": "runtime_data", "value": index}, _VALUE)

    _read_runtime_data = _read_local

    def _read_register(self, node: JsonNode, depth: int) -> _Checked:
        array, index = node.items(2)
        register = resolve(array, "register array", self.objects.registers)
        at = self._of(index, _VALUE, depth + 1).json
        return _Checked({"type": "register", "value": (register.name, at)}, _VALUE)

    def _read_stack_field(self, node: JsonNode, depth: int) -> _Checked:
        name, label = node.items(2)
        stack = resolve(name, "header stack", self.objects.stacks)
        self._member_field(label, stack.type)
        return _Checked({"type": "stack_field", "value": (stack.name, label.name())}, _VALUE)

    def _read_union_stack_field(self, node: JsonNode, depth: int) -> _Checked:
        name, member, label = node.items(3)
        stack = resolve(name, "header union stack", self.objects.union_stacks)
        first = stack.elements[0]
        at = _member(member, first)
        self._member_field(label, self.objects.headers[first.members[at]].type)
        json = {"type": "union_stack_field", "value": (stack.name, member.name(), label.name())}
        return _Checked(json, _VALUE)

    @staticmethod
    def _member_field(label: JsonNode, type_: HeaderType) -> None:
        field = type_.by_name.get(label.name())
        if field is None or field.varbit:
            raise label.unknown(f"field of {type_.name}", tuple(type_.by_name))

    def _read_header(self, node: JsonNode, depth: int) -> _Checked:
        header = resolve(node, "header", self.objects.headers)
        return _Checked({"type": "header", "value": header.name}, _HEADER, (header.type,))

    def _read_header_stack(self, node: JsonNode, depth: int) -> _Checked:
        stack = resolve(node, "header stack", self.objects.stacks)
        return _Checked({"type": "header_stack", "value": stack.name}, _STACK, (stack.type,))

    def _read_header_union(self, node: JsonNode, depth: int) -> _Checked:
        union = resolve(node, "header union", self.objects.unions)
        return _Checked({"type": "header_union", "value": union.name}, _UNION, self._types(union))

    def _read_header_union_stack(self, node: JsonNode, depth: int) -> _Checked:
        stack = resolve(node, "header union stack", self.objects.union_stacks)
        types = self._types(stack.elements[0])
        return _Checked({"type": "header_union_stack", "value": stack.name}, _UNION_STACK, types)

    def _types(self, union: Union) -> tuple[HeaderType, ...]:
        return tuple(self.objects.headers[m].type for m in union.members)

    def _operation(self, node: JsonNode, depth: int) -> _Checked:
        op = node["op"].name()
        if op not in OPERATORS:
            raise UnsupportedFeature(f"BMv2 JSON: {node.path}: operator '{op}' is not implemented")

        def side(key: str, kind: str) -> _Checked:
            return self._of(node[key], kind, depth)

        def made(kind: str, types: tuple[HeaderType, ...] = (), **parts: Json) -> _Checked:
            return _Checked({"op": op, "left": None, "right": None, **parts}, kind, types)

        if op in ("access_field", "access_union_header"):
            left = side("left", _HEADER if op == "access_field" else _UNION)
            last = len(left.types[0].fields if op == "access_field" else left.types) - 1
            offset = node["right"].integer(0, last)
            if op == "access_union_header":
                return made(_HEADER, (left.types[offset],), left=left.json, right=offset)
            if left.types[0].fields[offset].varbit:
                raise node["right"].wrong("a varbit field has no value")
            return made(_VALUE, left=left.json, right=offset)
        if op in ("dereference_header_stack", "dereference_stack"):
            stack, index = side("left", _STACK), side("right", _VALUE)
            return made(_HEADER, stack.types, left=stack.json, right=index.json)
        if op == "dereference_union_stack":
            stack, index = side("left", _UNION_STACK), side("right", _VALUE)
            return made(_UNION, stack.types, left=stack.json, right=index.json)
        if op == "valid":
            return made(_VALUE, right=side("right", _HEADER).json)
        if op == "valid_union":
            return made(_VALUE, right=side("right", _UNION).json)
        if op in _STACK_OPS:
            key = "left" if node.get("right") is None else "right"
            return made(_VALUE, right=self._any_stack(node[key]))
        if op in ("==", "!="):
            return self._equality(node, op, depth)
        if op in _UNARY or (op in ("+", "-") and node.get("left") is None):
            return made(_VALUE, right=side("right", _VALUE).json)
        if op in _CASTS:
            width = node["right"]
            bits = self._of(width, _VALUE, depth).json
            if bits["type"] != "hexstr" or not 1 <= bits["value"] <= MAX_BITS:
                raise width.wrong(f"a constant width (1 to {MAX_BITS}) is expected")
            return made(_VALUE, left=side("left", _VALUE).json, right=bits)
        parts = {"left": side("left", _VALUE).json, "right": side("right", _VALUE).json}
        if op == "?":
            parts["cond"] = side("cond", _VALUE).json
        return made(_VALUE, **parts)

    def _equality(self, node: JsonNode, op: str, depth: int) -> _Checked:
        left = self._expression(node["left"], depth)
        if left.kind not in (_VALUE, _HEADER, _UNION, _VARBIT):
            raise node["left"].wrong(f"a {left.kind} is not compared")
        right = self._of(node["right"], left.kind, depth)
        if left.kind == _UNION and left.types != right.types:
            raise node["right"].wrong("a union of another type")
        return _Checked({"op": op, "left": left.json, "right": right.json}, _VALUE)

    def _any_stack(self, node: JsonNode) -> Json:
        stack = self._expression(node, 0)
        if stack.kind not in (_STACK, _UNION_STACK):
            raise node.wrong(f"a {stack.kind} where a stack belongs")
        return _bare(stack.json)

    # ------------------------------------------------------------- primitives

    def primitive(self, node: JsonNode, where: str) -> Json:
        """A primitive call; one that is not implemented is noted and comes out as `no_op`."""
        op = node["op"].name()
        parameters = node["parameters"].items() if node.get("parameters") is not None else []
        if op in _OLD_NAMES:
            op = _OLD_NAMES[op]
        elif op in _OLD_IN_PLACE or op in _OLD_BINARY:
            return self._arithmetic(node, op, parameters)
        primitives = {**PRIMITIVES, **self.objects.architecture.externs}
        wanted = primitives.get(op)
        if wanted is None:
            self.objects.refuse(
                where,
                f"primitive '{op}' is not implemented",
                "implemented: " + ", ".join(sorted(primitives)),
            )
            return {"op": "no_op", "parameters": []}
        if op == "mark_to_drop":
            # Its parameter, if it has one, is always standard_metadata.
            parameters = []
        if len(parameters) != len(wanted):
            raise node.wrong(f"{op} has {len(wanted)} parameters, not {len(parameters)}")
        checked = [self._parameter(p, kind) for p, kind in zip(parameters, wanted, strict=True)]
        if op in _COPIES:
            self._alike(node, wanted[0], parameters)
        return {"op": op, "parameters": checked}

    def _alike(self, node: JsonNode, kind: str, parameters: list[JsonNode]) -> None:
        """Both sides of a copy have one type, stacks also one size."""
        to, source = (self._of(p, kind) for p in parameters)
        sizes = [self._size(_bare(side.json)) for side in (to, source)]
        if to.types != source.types or sizes[0] != sizes[1]:
            raise node.wrong("the two sides are of different types")

    def _size(self, node: Json) -> int:
        stacks = {**self.objects.stacks, **self.objects.union_stacks}
        kind = node.get("type")
        return len(stacks[node["value"]].elements) if kind in _STACKS else 1

    def _arithmetic(self, node: JsonNode, op: str, parameters: list[JsonNode]) -> Json:
        """P4_14's arithmetic primitives as an assignment."""
        count = 2 if op in _OLD_IN_PLACE else 3
        if len(parameters) != count:
            raise node.wrong(f"{op} has {count} parameters, not {len(parameters)}")
        target = self._parameter(parameters[0], _LVALUE)
        left, right = (self.value(p) for p in parameters[-2:])
        sign = _OLD_IN_PLACE.get(op) or _OLD_BINARY[op]
        value = {"type": "expression", "value": {"op": sign, "left": left, "right": right}}
        return {"op": "assign", "parameters": [target, value]}

    def _parameter(self, node: JsonNode, kind: str) -> Json:
        if kind == _VALUE:
            return self.value(node)
        if kind == _LVALUE:
            return self._target(node)
        if kind in (_HEADER, _UNION):
            return self._of(node, kind).json
        if kind in (_STACK, _UNION_STACK):
            return _bare(self._of(node, kind).json)
        if kind == _ANY_STACK:
            return self._any_stack(node)
        if kind == _CONST:
            value = self.value(node)
            if value["type"] != "hexstr" or not 0 <= value["value"] < 1 << 31:
                raise node.wrong("a constant is expected")
            return value
        if kind == _VARBIT:
            return self._varbit(node)
        if kind == _TEXT:
            node["type"].one_of(("string",))
            return {"type": "string", "value": node["value"].text()}
        if kind == _VALUES:
            node["type"].one_of(("parameters_vector",))
            values = [self.value(v) for v in node["value"].items(most=256)]
            return {"type": "parameters_vector", "value": values}
        return self._array(node, kind)

    def _array(self, node: JsonNode, kind: str) -> Json:
        objects = self.objects
        if kind == _CALCULATION:
            node["type"].one_of(("calculation",))
            name = resolve(node["value"], kind, objects.calculations).name
        elif kind == _COUNTER:
            node["type"].one_of(("counter_array",))
            name = resolve(node["value"], "counter array", objects.counters).name
        elif kind == _REGISTER:
            node["type"].one_of(("register_array",))
            name = resolve(node["value"], "register array", objects.registers).name
        else:
            node["type"].one_of(("meter_array",))
            meter = resolve(node["value"], "meter array", objects.meters)
            if meter.table is not None:
                raise node["value"].wrong(f"meter {meter.name} belongs to a table")
            name = meter.name
        return {"type": node["type"].name(), "value": name}

    def _target(self, node: JsonNode) -> Json:
        """What can be assigned to."""
        target = self.value(node)
        inner = _bare(target)
        if inner.get("type") in ("field", "stack_field", "register"):
            if inner["type"] == "field" and inner["value"][1] == VALID:
                raise node.wrong(
                    "validity is not assigned to; add_header and remove_header are for that"
                )
            return inner
        if inner.get("op") == "access_field":
            return target
        raise node.wrong("no field to assign to")

    def _varbit(self, node: JsonNode) -> Json:
        node["type"].one_of(("field",))
        header, name = self.objects.field(node["value"])
        field = self.objects.headers[header].type.by_name.get(name)
        if field is None or not field.varbit:
            raise node["value"].wrong(f"{header}.{name} is no varbit field")
        return {"type": "field", "value": (header, name)}


_EXPRESSIONS = (
    *("expression", "hexstr", "bool", "field", "local", "runtime_data", "register"),
    *("stack_field", "union_stack_field"),
    *("header", "header_stack", "header_union", "header_union_stack"),
)


def _constant(number: int) -> _Checked:
    return _Checked({"type": "hexstr", "value": number}, _VALUE)


def _bare(node: Json) -> Json:
    """The node inside `expression` wrappers."""
    while node.get("type") == "expression":
        node = node["value"]
    return node


def _member(node: JsonNode, union: Union) -> int:
    name = node.name()
    if name not in union.names:
        raise node.unknown(f"member of header union {union.name}", union.names)
    return union.names.index(name)
