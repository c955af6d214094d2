"""Expressions: exact where their number counts, low bits where those are enough; and assignments."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.softswitch.codegen.expressions import bounds_of, unwrapped
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.kinds import (
    I64,
    I128,
    U64,
    U128,
    WIDE,
    CType,
    Value,
    constant,
    kind_of,
    kind_of_bits,
    literal,
    to,
    truth,
    unsigned,
    words_of_bits,
)
from orchestrator.softswitch.ir.program import Action, Header, Json, Union

_MAX_SHIFT = 4096
_HEADER_OPS = ("dereference_header_stack", "dereference_stack", "access_union_header")
_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
_WIDE = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}


def expr(c: CContext, node: Json, action: Action | None = None, low: int | None = None) -> Value:
    """An expression of the program; with `low` only that many of its low bits are asked for."""
    kind, value = node["type"], node["value"]
    if kind == "expression":
        return _operation(c, value, action, low) if "op" in value else expr(c, value, action, low)
    if kind == "hexstr":
        return constant(value if low is None or value >= 0 else value & (1 << low) - 1)
    if kind == "bool":
        return constant(int(value))
    if kind == "field":
        if isinstance(value[0], str):
            return field(c, value[0], value[1])
        return chosen_field(c, value[0], value[1], action)
    if kind in ("local", "runtime_data"):
        assert action is not None
        width = action.params[value].width
        return Value(c.argument(value), kind_of_bits(width), 0, (1 << width) - 1)
    if kind == "register":
        return register_cell(c, value[0], expr(c, value[1], action))
    if kind == "stack_field":
        return last_of(c, value[0], c.p.stacks[value[0]].elements, value[1])
    if kind == "union_stack_field":
        unions = c.p.union_stacks[value[0]].elements
        at = unions[0].names.index(value[1])
        return last_of(c, value[0], tuple(u.members[at] for u in unions), value[2])
    raise c.refuse(f"expression of type '{kind}'")


def exact(c: CContext, node: Json, action: Action | None = None) -> Value:
    """An expression whose number is known; refused where it may be larger than any of our types."""
    value = expr(c, node, action)
    if value.bounds is None:
        raise c.refuse("a number of more than 4,096 bits")
    return value


def field(c: CContext, header: str, name: str) -> Value:
    lo, hi = bounds_of(c, header, name)
    code = c.var(header, name)
    return Value("UINT64_C(1)" if code == "1" else code, c.kind_of_field(header, name), lo, hi)


def register_cell(c: CContext, name: str, index: Value) -> Value:
    """A register read in an expression; 0 beyond its end."""
    register = c.p.registers[name]
    kind, words = kind_of_bits(register.width), words_of_bits(register.width)
    at = index_code(c, index)
    cells = f"d->registers[{c.register_number[name]}]"
    cell = load_words(kind, f"{cells} + {words} * (size_t){at}", words)
    code = f"({at} < {register.size}u ? {cell} : {literal(0, kind)})"
    return Value(code, kind, 0, (1 << register.width) - 1)


def load_words(kind: CType, at: str, words: int) -> str:
    """A number from words in memory."""
    if kind is U64:
        return f"*({at})"
    return f"words_long({at})" if kind is U128 else f"wide_of_words({at}, {words})"


def index_code(c: CContext, index: Value) -> str:
    """An index as u64: one that is negative, or beyond 64 bits, is beyond every array."""
    if index.kind in (U64, I64):
        return to(index, U64)
    if index.kind is WIDE:
        raise c.refuse("an index of more than 128 bits")
    return f"({index.code} >> 64 ? ~UINT64_C(0) : {to(index, U64)})"


def last_of(c: CContext, stack: str, elements: Sequence[str], name: str) -> Value:
    """A field of the last element of a stack, the first where it is empty."""
    first = field(c, elements[0], name)
    code = first.code
    for i, element in enumerate(elements[1:], 2):
        code = f"({c.count(stack)} == {i} ? {c.var(element, name)} : {code})"
    return Value(code, first.kind, first.lo, first.hi)


# ------------------------------------------------------------------ operations


def _operation(c: CContext, node: Json, action: Action | None, low: int | None) -> Value:
    op = node["op"]
    if op == "valid":
        return chosen_field(c, node["right"], "$valid$", action)
    if op == "valid_union":
        at, unions = unions_of(c, node["right"], action)
        return _flag(pick(c, at, [union_valid(c, u) for u in unions], U64))
    if op == "access_field":
        _, names = headers_of(c, node["left"], action)
        name = c.p.headers[names[0]].type.fields[node["right"]].name
        return chosen_field(c, node["left"], name, action)
    if op in ("last_stack_index", "size_stack"):
        return _stack_size(c, op, node["right"]["value"])
    if op in ("==", "!="):
        side = unwrapped(node["left"])
        if side.get("type") == "header" or side.get("op") in _HEADER_OPS:
            return _headers_equal(c, node, action)
        if side.get("type") == "header_union" or side.get("op") == "dereference_union_stack":
            return _unions_equal(c, node, action)
        if _is_varbit(c, side):
            sides = (c.var(*each["value"]) for each in (side, unwrapped(node["right"])))
            return _equal(c, op, f"((u64)same_varbit({', '.join(sides)}))")
    if op in ("d2b", "b2d"):
        return _flag(f"({truth(expr(c, node['right'], action))} != 0)")
    if op == "not":
        return _flag(f"(!{truth(expr(c, node['right'], action))})")
    if op in ("~", "-", "+") and node["left"] is None:
        return _unary(c, op, expr(c, node["right"], action, low), low)
    if op == "?":
        return _choice(c, node, action, low)
    return _binary(c, op, node, action, low)


def _is_varbit(c: CContext, node: Json) -> bool:
    """Whether it is a field, of one header, that has no fixed size."""
    if node.get("type") != "field" or not isinstance(node["value"][0], str):
        return False
    header, name = node["value"]
    return name != "$valid$" and c.p.field(header, name).varbit


def _flag(code: str) -> Value:
    return Value(f"((u64){code})", U64, 0, 1)


def _stack_size(c: CContext, op: str, name: str) -> Value:
    stack = c.p.stacks.get(name) or c.p.union_stacks[name]
    depth = len(stack.elements)
    if op == "size_stack":
        return Value(c.count(name), U64, 0, depth)
    return Value(f"((i64){c.count(name)} - 1)", I64, -1, depth - 1)


def _result(
    bounds: tuple[int, int] | None, low: int | None
) -> tuple[CType, tuple[int, int] | None]:
    """The type of a result: as large as its bounds, or as the low bits that are asked for."""
    kind = kind_of(*bounds) if bounds is not None else None
    if low is not None and (kind is None or kind.bits > kind_of_bits(low).bits):
        return kind_of_bits(low), None
    return (WIDE, None) if kind is None else (kind, bounds)


def _made(code: str, kind: CType, bounds: tuple[int, int] | None) -> Value:
    lo, hi = bounds if bounds is not None else (None, None)
    return Value(
        f"(({kind.name})({code}))" if kind.signed and kind is not WIDE else code, kind, lo, hi
    )


def _unary(c: CContext, op: str, value: Value, low: int | None) -> Value:
    if op == "+":
        return value
    offset = 1 if op == "~" else 0
    of_value = value.bounds
    bounds = None if of_value is None else (-of_value[1] - offset, -of_value[0] - offset)
    kind, bounds = _result(bounds, low)
    _whole(c, kind, bounds, low)
    if kind is WIDE:
        inner = to(value, WIDE)
        code = f"wide_not({inner})" if op == "~" else f"wide_sub(wide_of_u64(0), {inner})"
    else:
        inner = to(value, unsigned(kind))
        code = f"(~{inner})" if op == "~" else f"({literal(0, unsigned(kind))} - {inner})"
    return _made(code, kind, bounds)


def _whole(c: CContext, kind: CType, bounds: tuple[int, int] | None, low: int | None) -> None:
    if bounds is None and low is None:
        raise c.refuse("a number of more than 4,096 bits")


def _choice(c: CContext, node: Json, action: Action | None, low: int | None) -> Value:
    condition = truth(expr(c, node["cond"], action))
    left, right = expr(c, node["left"], action, low), expr(c, node["right"], action, low)
    sides = left.bounds, right.bounds
    bounds = None
    if sides[0] is not None and sides[1] is not None:
        bounds = min(sides[0][0], sides[1][0]), max(sides[0][1], sides[1][1])
    kind, bounds = _result(bounds, low)
    _whole(c, kind, bounds, low)
    return _made(f"({condition} ? {to(left, kind)} : {to(right, kind)})", kind, bounds)


def _binary(c: CContext, op: str, node: Json, action: Action | None, low: int | None) -> Value:
    if op in ("and", "or"):
        left, right = (truth(expr(c, node[side], action)) for side in ("left", "right"))
        return _flag(f"({left} {'&&' if op == 'and' else '||'} {right})")
    if op in _COMPARISONS:
        return compared(op, exact(c, node["left"], action), exact(c, node["right"], action))
    if op in ("two_comp_mod", "usat_cast", "sat_cast"):
        width: int = node["right"]["value"]
        if op == "two_comp_mod":
            return wrapped(expr(c, node["left"], action, width), width)
        return saturated(exact(c, node["left"], action), width, signed=op == "sat_cast")
    if op == "&":
        return _and(c, node, action, low)
    if op == "<<":
        return _left(c, node, action, low)
    if op == ">>":
        return _right(c, node, action, low)
    if op in ("/", "%"):
        return _quotient(c, op, exact(c, node["left"], action), exact(c, node["right"], action))
    if op in ("+", "-", "*", "|", "^"):
        left, right = expr(c, node["left"], action, low), expr(c, node["right"], action, low)
        kind, bounds = _result(_bounds(op, left.bounds, right.bounds), low)
        _whole(c, kind, bounds, low)
        return _made(_applied(op, left, right, kind), kind, bounds)
    raise c.refuse(f"operator '{op}'")


def _applied(op: str, left: Value, right: Value, kind: CType) -> str:
    if kind is WIDE:
        return f"wide_{_WIDE[op]}({to(left, WIDE)}, {to(right, WIDE)})"
    inner = unsigned(kind)
    return f"({to(left, inner)} {op} {to(right, inner)})"


def _bounds(
    op: str, left: tuple[int, int] | None, right: tuple[int, int] | None
) -> tuple[int, int] | None:
    if left is None or right is None:
        return None
    (llo, lhi), (rlo, rhi) = left, right
    if op == "+":
        return llo + rlo, lhi + rhi
    if op == "-":
        return llo - rhi, lhi - rlo
    if op == "*":
        ends = (llo * rlo, llo * rhi, lhi * rlo, lhi * rhi)
        return min(ends), max(ends)
    bits = max(n.bit_length() for n in (*left, *right))
    return (0 if llo >= 0 and rlo >= 0 else -(1 << bits)), (1 << bits) - 1


def compared(op: str, left: Value, right: Value) -> Value:
    """Numbers compared, in a type that holds both."""
    bounded = [b for b in (left.bounds, right.bounds) if b is not None]
    kind = kind_of(min(lo for lo, _ in bounded), max(hi for _, hi in bounded)) or WIDE
    a, b = to(left, kind), to(right, kind)
    if kind is WIDE:
        return _flag(f"(wide_compare({a}, {b}) {op} 0)")
    return _flag(f"({a} {op} {b})")


def _and(c: CContext, node: Json, action: Action | None, low: int | None) -> Value:
    for side, other in (("left", "right"), ("right", "left")):
        mask = unwrapped(node[side])
        if mask.get("type") == "hexstr" and mask["value"] >= 0:
            return masked(
                expr(c, node[other], action, _least(low, mask["value"].bit_length())), mask["value"]
            )
    left, right = expr(c, node["left"], action, low), expr(c, node["right"], action, low)
    tops = [b[1] for b in (left.bounds, right.bounds) if b is not None and b[0] >= 0]
    bounds = (0, min(tops)) if tops else _bounds("&", left.bounds, right.bounds)
    if None in (left.bounds, right.bounds) and bounds and bounds[1].bit_length() > (low or 0):
        bounds = None  # of one operand only the low bits are known
    kind, bounds = _result(bounds, low)
    _whole(c, kind, bounds, low)
    return _made(_applied("&", left, right, kind), kind, bounds)


def _least(low: int | None, bits: int) -> int:
    return max(1, bits if low is None else min(low, bits))


def masked(value: Value, mask: int) -> Value:
    """The bits of a value that a mask leaves; nothing to do where it can have no others."""
    bounds = value.bounds
    if mask & (mask + 1) == 0 and bounds is not None and bounds[0] >= 0 and bounds[1] <= mask:
        return value
    kind = kind_of_bits(mask.bit_length())
    if kind is WIDE:
        return Value(f"wide_and({to(value, WIDE)}, {literal(mask, WIDE)})", WIDE, 0, mask)
    return Value(f"({to(value, kind)} & {literal(mask, kind)})", kind, 0, mask)


def _left(c: CContext, node: Json, action: Action | None, low: int | None) -> Value:
    value, count = expr(c, node["left"], action, low), exact(c, node["right"], action)
    lo, hi = count.bounds or (0, 0)
    of_value, bounds = value.bounds, None
    if of_value is not None and lo >= 0 and hi <= _MAX_SHIFT:
        bounds = (
            of_value[0] << (lo if of_value[0] >= 0 else hi),
            of_value[1] << (hi if of_value[1] >= 0 else lo),
        )
    kind, bounds = _result(bounds, low)
    _whole(c, kind, bounds, low)
    by = index_code(c, count)
    if kind is WIDE:
        return _made(f"wide_shl({to(value, WIDE)}, {by})", kind, bounds)
    inner = to(value, unsigned(kind))
    fixed = count.constant
    if fixed is not None and 0 <= fixed < kind.bits:
        return _made(f"({inner} << {fixed})", kind, bounds)
    return _made(f"shl{'_long' if kind.bits == 128 else ''}({inner}, {by})", kind, bounds)


def _right(c: CContext, node: Json, action: Action | None, low: int | None) -> Value:
    count = exact(c, node["right"], action)
    lo, hi = count.bounds or (0, 0)
    if lo < 0:
        raise c.refuse("a shift by a number that may be negative")
    fixed = count.constant
    wanted = None if low is None or fixed is None else low + fixed
    value = expr(c, node["left"], action, wanted)
    of_value = value.bounds
    bounds = None
    if of_value is not None:
        far = hi if hi < _MAX_SHIFT else _MAX_SHIFT
        bounds = (of_value[0] >> far if of_value[0] >= 0 else of_value[0]), of_value[1] >> lo
    elif wanted is None:
        raise c.refuse("a number of more than 4,096 bits")
    by, kind = index_code(c, count), value.kind
    if kind is WIDE:
        code = f"wide_sar({value.code}, {by})"
    elif fixed is not None and fixed < kind.bits:
        code = f"({value.code} >> {fixed})"
    else:
        name = ("sar" if kind.signed else "shr") + ("_long" if kind.bits == 128 else "")
        code = f"{name}({value.code}, {by})"
    shifted = Value(code, kind, *(bounds or (None, None)))
    smaller, bounds = _result(bounds, low)
    if smaller.bits >= kind.bits:
        return shifted
    return Value(to(shifted, smaller), smaller, *(bounds or (None, None)))


def _quotient(c: CContext, op: str, left: Value, right: Value) -> Value:
    (llo, lhi), (rlo, rhi) = left.bounds or (0, 0), right.bounds or (0, 0)
    if llo < 0 or rlo < 0:
        raise c.refuse("division of numbers that may be negative")
    bounds = (0, lhi if op == "/" else min(lhi, rhi))
    kind = kind_of(0, max(lhi, rhi)) or WIDE
    a, b = to(left, kind), to(right, kind)
    if kind is WIDE:
        code = f"wide_{'over' if op == '/' else 'modulo'}({a}, {b})"
    else:
        code = f"({b} ? {a} {op} {b} : 0)"
    return Value(code, kind, *bounds)


def wrapped(value: Value, width: int) -> Value:
    """The low `width` bits as a signed number."""
    lo, hi = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if value.within(lo, hi):
        return value
    if width <= 64:
        return Value(f"signed_of({to(value, U64)}, {width})", I64, lo, hi)
    if width <= 128:
        return Value(f"signed_of_long({to(value, U128)}, {width})", I128, lo, hi)
    return Value(f"wide_signed({to(value, WIDE)}, {width})", WIDE, lo, hi)


def saturated(value: Value, width: int, *, signed: bool) -> Value:
    """The number nearest to it that a field of this width can have."""
    lo, hi = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    bounds = value.bounds
    assert bounds is not None
    if value.within(lo, hi):
        return value
    kind = kind_of(min(lo, bounds[0]), max(hi, bounds[1])) or WIDE
    code, low, high = to(value, kind), literal(lo, kind), literal(hi, kind)
    if kind is WIDE:
        made = f"wide_least(wide_most({code}, {low}), {high})"
    else:
        made = f"({code} < {low} ? {low} : {code} > {high} ? {high} : {code})"
    return Value(made, kind, lo, hi)


# --------------------------------------------------------- headers picked at run time


def unions_of(
    c: CContext, node: Json, action: Action | None
) -> tuple[Value | None, tuple[Union, ...]]:
    """Unions that a node may mean, and the index that picks one (None: there is one)."""
    node = unwrapped(node)
    if node.get("value") in c.p.unions:
        return None, (c.p.unions[node["value"]],)
    if node.get("op") == "dereference_union_stack":
        stack = c.p.union_stacks[node["left"]["value"]]
        return exact(c, node["right"], action), stack.elements
    raise c.refuse(f"header union from '{node.get('op', node.get('type'))}'")


def headers_of(
    c: CContext, node: Json, action: Action | None
) -> tuple[Value | None, tuple[str, ...]]:
    """Headers that a node may mean, and the index that picks one (None: there is one)."""
    node = unwrapped(node)
    if node.get("type") == "header" and node["value"] in c.p.headers:
        return None, (node["value"],)
    op = node.get("op")
    if op in ("dereference_header_stack", "dereference_stack"):
        return exact(c, node["right"], action), c.p.stacks[node["left"]["value"]].elements
    if op == "access_union_header":
        at, unions = unions_of(c, node["left"], action)
        return at, tuple(u.members[node["right"]] for u in unions)
    raise c.refuse(f"header from '{op or node.get('type')}'")


def pick(c: CContext, at: Value | None, codes: Sequence[str], kind: CType) -> str:
    """One of `codes` by index; 0 beyond them."""
    if at is None:
        return codes[0]
    index = index_code(c, at)
    code = literal(0, kind)
    for i, each in reversed(list(enumerate(codes))):
        code = f"({index} == {i} ? {each} : {code})"
    return code


def chosen_field(c: CContext, node: Json, name: str, action: Action | None) -> Value:
    """A field of a header that may be picked at run time; 0 if the index is out of bounds."""
    at, names = headers_of(c, node, action)
    fields = [field(c, n, name) for n in names]
    lo, hi = fields[0].bounds or (0, 0)
    code = pick(c, at, [f.code for f in fields], fields[0].kind)
    return Value(code, fields[0].kind, lo if at is None else min(lo, 0), hi)


def union_valid(c: CContext, union: Union) -> str:
    return "(" + " | ".join(c.var(m, "$valid$") for m in union.members) + ")"


def same_header(c: CContext, a: str, b: str) -> str:
    """Both headers valid and equal."""
    if c.p.headers[a].type.name != c.p.headers[b].type.name:
        return "UINT64_C(0)"
    parts = [field(c, a, "$valid$").code, field(c, b, "$valid$").code]
    for f in c.p.headers[a].type.fields:
        if f.varbit:
            parts.append(f"same_varbit({c.var(a, f.name)}, {c.var(b, f.name)})")
        else:
            parts.append(compared("==", field(c, a, f.name), field(c, b, f.name)).code)
    return "((u64)(" + " && ".join(parts) + "))"


def _equal(c: CContext, op: str, code: str) -> Value:
    return _flag(code if op == "==" else f"(!{code})")


def _headers_equal(c: CContext, node: Json, action: Action | None) -> Value:
    at_a, names_a = headers_of(c, node["left"], action)
    at_b, names_b = headers_of(c, node["right"], action)
    rows = [pick(c, at_b, [same_header(c, a, b) for b in names_b], U64) for a in names_a]
    return _equal(c, node["op"], pick(c, at_a, rows, U64))


def _unions_equal(c: CContext, node: Json, action: Action | None) -> Value:
    at_a, unions_a = unions_of(c, node["left"], action)
    at_b, unions_b = unions_of(c, node["right"], action)

    def same(a: Union, b: Union) -> str:
        pairs = zip(a.members, b.members, strict=True)
        return "((u64)(" + " || ".join(same_header(c, x, y) for x, y in pairs) + "))"

    rows = [pick(c, at_b, [same(a, b) for b in unions_b], U64) for a in unions_a]
    return _equal(c, node["op"], pick(c, at_a, rows, U64))


# ------------------------------------------------------------------ assignments


def bits_wanted(c: CContext, header: str, name: str) -> int | None:
    """How many low bits of a number a field takes; None: one that saturates takes all of it."""
    f = c.p.field(header, name)
    return None if f.saturating else f.width


def fit(c: CContext, value: Value, header: str, name: str) -> str:
    """A value as it is in a field."""
    f = c.p.field(header, name)
    if f.saturating:
        fitted = saturated(value, f.width, signed=f.signed)
    elif f.signed:
        fitted = wrapped(value, f.width)
    else:
        fitted = masked(value, (1 << f.width) - 1)
    return to(fitted, c.kind_of_field(header, name))


def mark_dirty(c: CContext, header: str) -> None:
    if not c.p.headers[header].metadata:
        c.emit(f"{c.changed(header)} = 1;")


def store(c: CContext, header: str, name: str, value: Value) -> None:
    c.emit(f"{c.var(header, name)} = {fit(c, value, header, name)};")
    mark_dirty(c, header)


def size_code(c: CContext, header: str) -> str:
    lay = c.layouts[c.p.headers[header].type.name]
    if lay.varbit:
        return f"({lay.size}u + {c.var(header, lay.varbit)}.size)"
    return f"{lay.size}u"


def add_header(c: CContext, header: str) -> None:
    h = c.p.headers[header]
    if h.metadata:
        return
    valid = c.var(header, "$valid$")
    with c.block(f"if (!{valid})"):
        _init_header(c, h)
        c.emit(f"{valid} = {c.changed(header)} = 1;")
        clear_siblings(c, header)
        if c.track_length:
            c.emit(f"plen_reg += {size_code(c, header)};")


def _init_header(c: CContext, h: Header) -> None:
    names = c.header_locals(h)
    c.assign_zero([n for n in names[1:] if n != c.origin(h.name)])
    c.emit(f"{c.origin(h.name)} = -1;")


def clear_siblings(c: CContext, header: str) -> None:
    for other in c.siblings(header):
        c.emit(f"{other} = 0;")


def remove_header(c: CContext, header: str) -> None:
    if c.p.headers[header].metadata:
        return
    valid = c.var(header, "$valid$")
    if c.track_length:
        c.emit(f"if ({valid}) plen_reg -= {size_code(c, header)};")
    c.emit(f"{valid} = 0;")


def copy_header(c: CContext, to_: str, source: str) -> None:
    d, s = c.p.headers[to_], c.p.headers[source]
    if d.metadata or s.metadata:
        for f in d.type.fields:
            if (to_, f.name) in c.used.metadata:
                c.emit(f"{c.var(to_, f.name)} = {c.var(source, f.name)};")
        return
    with c.block(f"if ({c.var(source, '$valid$')})"):
        for a, b in zip(c.header_locals(d), c.header_locals(s), strict=True):
            c.emit(f"{a} = {b};")
        clear_siblings(c, to_)
    c.emit(f"else {c.var(to_, '$valid$')} = 0;")
