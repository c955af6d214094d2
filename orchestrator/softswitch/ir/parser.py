"""The parser and deparser of a program, checked."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.softswitch.ir.node import MAX_BITS, Json, JsonNode
from orchestrator.softswitch.ir.objects import MAX_HEADER_BITS, VALID, Objects, resolve
from orchestrator.softswitch.ir.operands import Operands
from orchestrator.softswitch.ir.program import ParseState, Transition

MAX_STATES = 4096
_OPS = ("extract", "extract_VL", "set", "verify", "shift", "advance", "primitive")
_TRANSITIONS = ("default", "hexstr", "parse_vset")


def _chosen(root: JsonNode, section: str, name: str) -> JsonNode | None:
    """Of several, the one with the architecture's name counts; the only one may have any."""
    items = root.list(section)
    named = [n for n in items if n.get("name") is not None and n["name"].value == name]
    return (named or items or [None])[0]


def read_parser(root: JsonNode, objects: Objects) -> tuple[str | None, dict[str, ParseState]]:
    parser = _chosen(root, "parsers", objects.architecture.parser)
    if parser is None:
        return None, {}
    nodes = parser["parse_states"].items(most=MAX_STATES)
    names: dict[str, JsonNode] = {}
    for s in nodes:
        name = s["name"].name()
        if name in names:
            raise s["name"].wrong(f"there are two parse states {name}")
        names[name] = s
    first = parser.get("init_state")
    if first is not None:
        resolve(first, "parse state", names)
    states = {name: _state(name, s, names, objects) for name, s in names.items()}
    return None if first is None else first.name(), states


def _state(name: str, s: JsonNode, names: Mapping[str, JsonNode], objects: Objects) -> ParseState:
    operations = tuple(_operation(op, objects, f"parser.{name}") for op in s.list("parser_ops"))
    keys = [_key(k, objects) for k in s.list("transition_key", most=64)]
    bits = sum((width + 7) // 8 * 8 for _, width in keys)
    transitions = tuple(_transition(t, bits, names, objects) for t in s["transitions"].items())
    return ParseState(name, operations, tuple(k for k, _ in keys), transitions)


def _operation(node: JsonNode, objects: Objects, where: str) -> Json:
    op = node["op"].one_of(_OPS)
    operands = Operands(objects)
    count = 2 if op in ("extract_VL", "set", "verify") else 1
    parameters = node["parameters"].items(count)
    first, second = parameters[0], parameters[-1]
    out: list[Json]
    if op in ("extract", "extract_VL"):
        out = [_extracted(first, objects, with_length=op == "extract_VL")]
        if op == "extract_VL":
            out.append(operands.value(second))
    elif op == "set":
        first["type"].one_of(("field",))
        objects.value_field(first["value"])
        out = [{"type": "field", "value": objects.field(first["value"])}]
        if out[0]["value"][1] == VALID:
            raise first["value"].wrong("validity cannot be set")
        looks = second["type"].value == "lookahead"
        out.append(_lookahead(second) if looks else operands.value(second))
    elif op == "verify":
        # Compilers before P4_16's error expressions wrote the code itself.
        plain = type(second.value) is int
        code = {"type": "hexstr", "value": second.integer()} if plain else operands.value(second)
        out = [operands.value(first), code]
    elif op == "shift":
        out = [first.integer(0, MAX_HEADER_BITS // 8)]
    elif op == "advance":
        out = [operands.value(first)]
    else:
        out = [operands.primitive(first, where)]
    return {"op": op, "parameters": out}


def _extracted(node: JsonNode, objects: Objects, *, with_length: bool) -> Json:
    kind = node["type"].one_of(("regular", "stack", "union_stack"))
    value = node["value"]
    if kind == "regular":
        header = resolve(value, "header", objects.headers)
        if header.metadata:
            raise value.wrong(f"{header.name} is metadata")
        type_, into = header.type, header.name
    elif kind == "stack":
        stack = resolve(value, "header stack", objects.stacks)
        type_, into = stack.type, stack.name
    else:
        name, member = value.items(2)
        unions = resolve(name, "header union stack", objects.union_stacks)
        first = unions.elements[0]
        if member.name() not in first.names:
            raise member.unknown(f"member of {first.name}", first.names)
        header = first.members[first.names.index(member.name())]
        type_, into = objects.headers[header].type, (unions.name, member.name())
    if type_.name in objects.lengths and not with_length:
        return {"type": kind, "value": into}
    if (type_.varbit is not None) != with_length:
        wanted = "extract_VL" if type_.varbit else "extract"
        raise node.wrong(f"header type {type_.name} wants {wanted}")
    return {"type": kind, "value": into}


def _lookahead(node: JsonNode) -> Json:
    offset, width = node["value"].items(2)
    value = (offset.integer(0, MAX_HEADER_BITS), width.integer(1, MAX_BITS))
    return {"type": "lookahead", "value": value}


def _key(node: JsonNode, objects: Objects) -> tuple[Json, int]:
    """A part of a select's key, and its width in bits."""
    kind = node["type"].one_of(("field", "stack_field", "union_stack_field", "lookahead"))
    if kind == "lookahead":
        key = _lookahead(node)
        return key, key["value"][1]
    key = Operands(objects).value(node)
    if kind == "field":
        return key, objects.value_field(node["value"]).width
    if kind == "stack_field":
        stack, name = key["value"]
        return key, objects.stacks[stack].type.by_name[name].width
    stack, member, name = key["value"]
    union = objects.union_stacks[stack].elements[0]
    header = union.members[union.names.index(member)]
    return key, objects.headers[header].type.by_name[name].width


def _transition(
    node: JsonNode, bits: int, names: Mapping[str, JsonNode], objects: Objects
) -> Transition:
    """p4c before April 2020 wrote no `type`: the default was the value `default`."""
    kind = "hexstr" if node.get("type") is None else node["type"].one_of(_TRANSITIONS)
    if kind == "hexstr" and node["value"].value == "default":
        kind = "default"
    following = node.get("next_state")
    if following is not None:
        resolve(following, "parse state", names)
    to = None if following is None else following.name()
    if kind == "default":
        return Transition(None, None, to)
    given = node.get("mask")
    mask = None if given is None else given.hexadecimal(bits)
    if kind == "hexstr":
        return Transition(node["value"].hexadecimal(bits), mask, to)
    if not bits:
        raise node.wrong("a value set without a key")
    return Transition(None, mask, to, resolve(node["value"], "value set", objects.value_sets).name)


def read_deparser(root: JsonNode, objects: Objects) -> tuple[tuple[str, ...], tuple[Json, ...]]:
    deparser = _chosen(root, "deparsers", objects.architecture.deparser)
    if deparser is None:
        return (), ()
    order: list[str] = []
    for node in deparser["order"].items():
        header = resolve(node, "header", objects.headers)
        if header.metadata:
            raise node.wrong(f"{header.name} is metadata")
        order.append(header.name)
    operands = Operands(objects)
    primitives = [operands.primitive(p, "deparser") for p in deparser.list("primitives")]
    check_jumps(deparser, primitives)
    return tuple(order), tuple(primitives)


def check_jumps(node: JsonNode, primitives: list[Json]) -> None:
    """Jumps lead to a primitive of the same list, or right behind the last."""
    for i, primitive in enumerate(primitives):
        if primitive["op"] in ("_jump", "_jump_if_zero"):
            target = primitive["parameters"][-1]["value"]
            if target > len(primitives):
                raise node.wrong(f"primitives[{i}] jumps to {target}, behind the end")
