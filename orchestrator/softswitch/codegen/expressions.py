"""Expressions with the bounds of their values, and assignments that mask only where needed."""

from __future__ import annotations

import re

from orchestrator.softswitch.codegen.context import Context, Ex, least, literal, most, quoted
from orchestrator.softswitch.ir.program import Action, Header, Json, Union

_MAX_SHIFT = 4096
_HEADER_OPS = ("dereference_header_stack", "dereference_stack", "access_union_header")


def bounds_of(c: Context, header: str, field: str) -> tuple[int, int]:
    if field == "$valid$":
        return 0, 1
    f = c.p.field(header, field)
    if f.signed:
        return -(1 << (f.width - 1)), (1 << (f.width - 1)) - 1
    return 0, (1 << f.width) - 1


def expr(c: Context, node: Json, action: Action | None = None) -> Ex:
    """Expression for a type-value object of the JSON."""
    kind, value = node["type"], node["value"]
    if kind == "expression":
        if "op" in value:
            return operation(c, value, action)
        return expr(c, value, action)
    if kind == "hexstr":
        return Ex(literal(value) if value >= 0 else f"({literal(value)})", value, value)
    if kind == "bool":
        return Ex("1" if value else "0", int(value), int(value))
    if kind == "field" and not isinstance(value[0], str):
        return chosen_field(c, value[0], value[1], action)
    if kind == "field":
        lo, hi = bounds_of(c, value[0], value[1])
        return Ex(c.var(value[0], value[1]), lo, hi)
    if kind in ("local", "runtime_data"):
        assert action is not None
        index: int = value
        return Ex(c.argument(index), 0, (1 << action.params[index].width) - 1)
    if kind == "register":
        return register_cell(c, value[0], expr(c, value[1], action))
    if kind == "stack_field":
        return last_field(c, value[0], value[1])
    if kind == "union_stack_field":
        unions = c.p.union_stacks[value[0]].elements
        at = unions[0].names.index(value[1])
        return last_of(c, value[0], tuple(u.members[at] for u in unions), value[2])
    raise c.refuse(f"expression of type '{kind}'")


def register_cell(c: Context, name: str, index: Ex) -> Ex:
    """A register read in an expression; 0 beyond its end."""
    register = c.p.registers[name]
    cell = f"{c.out('register', name)}[{index.code}]"
    if index.hi is None or index.hi >= register.size or index.lo is None or index.lo < 0:
        cell = f"({cell} if 0 <= {index.code} < {literal(register.size)} else 0)"
    return Ex(cell, 0, (1 << register.width) - 1)


def last_field(c: Context, stack_name: str, field: str) -> Ex:
    return last_of(c, stack_name, c.p.stacks[stack_name].elements, field)


def last_of(c: Context, stack_name: str, elements: tuple[str, ...], field: str) -> Ex:
    n = c.count(stack_name)
    code = c.var(elements[0], field)
    for i, element in enumerate(elements[1:], 2):
        code = f"({c.var(element, field)} if {n} == {literal(i)} else {code})"
    lo, hi = bounds_of(c, elements[0], field)
    return Ex(code, lo, hi)


def operation(c: Context, node: Json, action: Action | None) -> Ex:
    op = node["op"]
    if op in ("valid",):
        return chosen_field(c, node["right"], "$valid$", action)
    if op == "valid_union":
        at, unions = unions_of(c, node["right"], action)
        codes = [union_valid(c, u) for u in unions]
        return Ex(pick(at, codes), 0, 1)
    if op == "access_field":
        at, names = headers_of(c, node["left"], action)
        offset: int = node["right"]
        field = c.p.headers[names[0]].type.fields[offset].name
        return chosen_field(c, node["left"], field, action)
    if op in ("last_stack_index", "size_stack"):
        name: str = node["right"]["value"]
        stack = c.p.stacks.get(name) or c.p.union_stacks[name]
        depth = len(stack.elements)
        if op == "size_stack":
            return Ex(c.count(name), 0, depth)
        return Ex(f"({c.count(name)} - 1)", -1, depth - 1)
    if op in ("==", "!="):
        side = unwrapped(node["left"])
        if side.get("type") == "header" or side.get("op") in _HEADER_OPS:
            return header_equal(c, node, action)
        if side.get("type") == "header_union" or side.get("op") == "dereference_union_stack":
            return union_equal(c, node, action)
    right = expr(c, node["right"], action)
    if op == "d2b":
        if right.lo == 0 and right.hi is not None and right.hi <= 1:
            return right
        return Ex(f"({right.code} != 0)", 0, 1)
    if op == "b2d":
        # A validity local is 0 or 1 already; comparisons give a bool.
        if re.fullmatch(r"\w+", right.code):
            return Ex(right.code, 0, 1)
        return Ex(f"(1 if {right.code} else 0)", 0, 1)
    if op == "not":
        return Ex(f"(not {right.code})", 0, 1)
    if op == "~":
        lo = None if right.hi is None else -right.hi - 1
        hi = None if right.lo is None else -right.lo - 1
        return Ex(f"(~{right.code})", lo, hi)
    if op == "+" and node["left"] is None:
        return right
    if op == "-" and node["left"] is None:
        lo = None if right.hi is None else -right.hi
        hi = None if right.lo is None else -right.lo
        return Ex(f"(-{right.code})", lo, hi)
    left = expr(c, node["left"], action)
    if op == "?":
        cond = expr(c, node["cond"], action)
        return Ex(
            f"({left.code} if {cond.code} else {right.code})",
            least(left.lo, right.lo),
            most(left.hi, right.hi),
        )
    return binary(c, op, left, right)


def binary(c: Context, op: str, left: Ex, right: Ex) -> Ex:
    a, b = left.code, right.code
    bounded = None not in (left.lo, left.hi, right.lo, right.hi)
    llo, lhi, rlo, rhi = left.lo or 0, left.hi or 0, right.lo or 0, right.hi or 0
    positive = left.lo is not None and left.lo >= 0 and right.lo is not None and right.lo >= 0
    if op in ("==", "!=", "<", ">", "<=", ">="):
        return Ex(f"({a} {op} {b})", 0, 1)
    if op in ("and", "or"):
        return Ex(f"({a} {op} {b})", 0, 1)
    if op == "+":
        return (
            Ex(f"({a} + {b})", llo + rlo, lhi + rhi) if bounded else Ex(f"({a} + {b})", None, None)
        )
    if op == "-":
        return (
            Ex(f"({a} - {b})", llo - rhi, lhi - rlo) if bounded else Ex(f"({a} - {b})", None, None)
        )
    if op == "*":
        if not bounded:
            return Ex(f"({a} * {b})", None, None)
        ends = (llo * rlo, llo * rhi, lhi * rlo, lhi * rhi)
        return Ex(f"({a} * {b})", min(ends), max(ends))
    if op == "/":
        return Ex(f"({a} // {b} if {b} else 0)", 0 if positive else None, left.hi)
    if op == "%":
        return Ex(f"({a} % {b} if {b} else 0)", 0 if positive else None, right.hi)
    if op == "&":
        return bit_and(left, right)
    if op in ("|", "^"):
        if positive and bounded:
            return Ex(f"({a} {op} {b})", 0, (1 << max(lhi, rhi).bit_length()) - 1)
        return Ex(f"({a} {op} {b})", None, None)
    if op == "<<":
        if right.lo is None or right.lo < 0 or right.hi is None or right.hi > _MAX_SHIFT:
            # A shift beyond every field's width leaves nothing after the mask.
            return Ex(
                f"({a} << {b} if 0 <= {b} < {_MAX_SHIFT} else 0)", 0 if positive else None, None
            )
        if bounded and llo >= 0:
            return Ex(f"({a} << {b})", llo << rlo, lhi << rhi)
        return Ex(f"({a} << {b})", None, None)
    if op == ">>":
        if bounded and llo >= 0 and rlo >= 0:
            return Ex(f"({a} >> {b})", llo >> rhi if rhi < _MAX_SHIFT else 0, lhi >> rlo)
        return Ex(f"({a} >> {b})", left.lo if llo < 0 else 0, left.hi)
    if op in ("two_comp_mod", "usat_cast", "sat_cast"):
        assert right.lo is not None
        return cast(op, left, right.lo)
    raise c.refuse(f"operator '{op}'")


def bit_and(left: Ex, right: Ex) -> Ex:
    # `x & mask` is x where x cannot exceed an all-ones mask.
    for x, m in ((left, right), (right, left)):
        if m.lo is not None and m.lo == m.hi and m.lo >= 0:
            mask = m.lo
            if (
                mask & (mask + 1) == 0
                and x.lo is not None
                and x.lo >= 0
                and x.hi is not None
                and x.hi <= mask
            ):
                return x
            return Ex(f"({x.code} & {literal(mask)})", 0, mask)
    if left.lo is not None and left.lo >= 0 and left.hi is not None:
        hi = left.hi
        if right.lo is not None and right.lo >= 0 and right.hi is not None:
            hi = min(hi, right.hi)
        return Ex(f"({left.code} & {right.code})", 0, (1 << hi.bit_length()) - 1)
    return Ex(f"({left.code} & {right.code})", None, None)


def cast(op: str, x: Ex, width: int) -> Ex:
    if op == "usat_cast":
        lo, hi = 0, (1 << width) - 1
    else:
        lo, hi = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if x.lo is not None and x.hi is not None and lo <= x.lo and x.hi <= hi:
        return x
    if op == "two_comp_mod":
        half = literal(1 << (width - 1))
        ones = literal((1 << width) - 1)
        return Ex(f"(({x.code} + {half} & {ones}) - {half})", lo, hi)
    return Ex(f"min(max({x.code}, {literal(lo)}), {literal(hi)})", lo, hi)


def unwrapped(node: Json) -> Json:
    """The node inside `expression` wrappers."""
    while node.get("type") == "expression":
        node = node["value"]
    return node


def unions_of(c: Context, node: Json, action: Action | None) -> tuple[Ex | None, tuple[Union, ...]]:
    """Unions that a node may mean, and the index that picks one (None: there is one)."""
    node = unwrapped(node)
    if node.get("value") in c.p.unions:
        return None, (c.p.unions[node["value"]],)
    if node.get("op") == "dereference_union_stack":
        stack = c.p.union_stacks[node["left"]["value"]]
        return expr(c, node["right"], action), stack.elements
    raise c.refuse(f"header union from '{node.get('op', node.get('type'))}'")


def headers_of(c: Context, node: Json, action: Action | None) -> tuple[Ex | None, tuple[str, ...]]:
    """Headers that a node may mean, and the index that picks one (None: there is one)."""
    node = unwrapped(node)
    if node.get("type") == "header" and node["value"] in c.p.headers:
        return None, (node["value"],)
    op = node.get("op")
    if op in ("dereference_header_stack", "dereference_stack"):
        return expr(c, node["right"], action), c.p.stacks[node["left"]["value"]].elements
    if op == "access_union_header":
        at, unions = unions_of(c, node["left"], action)
        offset: int = node["right"]
        return at, tuple(u.members[offset] for u in unions)
    raise c.refuse(f"header from '{op or node.get('type')}'")


def pick(at: Ex | None, codes: list[str]) -> str:
    """One of `codes` by index; 0 beyond them."""
    if at is None:
        return codes[0]
    code = "0"
    for i, each in reversed(list(enumerate(codes))):
        code = f"({each} if {at.code} == {literal(i)} else {code})"
    return code


def chosen_field(c: Context, node: Json, field: str, action: Action | None) -> Ex:
    """A field of a header that may be picked at run time; 0 if the index is out of bounds."""
    at, names = headers_of(c, node, action)
    lo, hi = bounds_of(c, names[0], field)
    code = pick(at, [c.var(n, field) for n in names])
    return Ex(code, lo if at is None else min(lo, 0), hi)


def union_valid(c: Context, union: Union) -> str:
    return "(" + " or ".join(c.var(m, "$valid$") for m in union.members) + ")"


def same_header(c: Context, a: str, b: str) -> str:
    """Both headers valid and equal."""
    if c.p.headers[a].type.name != c.p.headers[b].type.name:
        return "0"
    parts = [c.var(a, "$valid$"), c.var(b, "$valid$")]
    for f in c.p.headers[a].type.fields:
        parts.append(f"{c.var(a, f.name)} == {c.var(b, f.name)}")
    return "(" + " and ".join(parts) + ")"


def header_equal(c: Context, node: Json, action: Action | None) -> Ex:
    at_a, names_a = headers_of(c, node["left"], action)
    at_b, names_b = headers_of(c, node["right"], action)
    rows = [pick(at_b, [same_header(c, a, b) for b in names_b]) for a in names_a]
    code = pick(at_a, rows)
    return Ex(code if node["op"] == "==" else f"(not {code})", 0, 1)


def union_equal(c: Context, node: Json, action: Action | None) -> Ex:
    at_a, unions_a = unions_of(c, node["left"], action)
    at_b, unions_b = unions_of(c, node["right"], action)

    def same(a: Union, b: Union) -> str:
        pairs = zip(a.members, b.members, strict=True)
        return "(" + " or ".join(same_header(c, x, y) for x, y in pairs) + ")"

    rows = [pick(at_b, [same(a, b) for b in unions_b]) for a in unions_a]
    code = pick(at_a, rows)
    return Ex(code if node["op"] == "==" else f"(not {code})", 0, 1)


def fit(c: Context, ex: Ex, header: str, field: str) -> str:
    """`ex` wrapped so that it fits header.field."""
    f = c.p.field(header, field)
    if f.saturating:
        return cast("sat_cast" if f.signed else "usat_cast", ex, f.width).code
    if f.signed:
        return cast("two_comp_mod", ex, f.width).code
    top = (1 << f.width) - 1
    if ex.lo is not None and ex.lo >= 0 and ex.hi is not None and ex.hi <= top:
        return ex.code
    if ex.lo is not None and ex.lo == ex.hi:
        return literal(ex.lo & top)
    return f"{ex.code} & {literal(top)}"


# ------------------------------------------------------------------ fields


def mark_dirty(c: Context, header: str) -> None:
    if not c.p.headers[header].metadata:
        c.emit(f"{c.changed(header)} = 1")


def store(c: Context, header: str, field: str, ex: Ex) -> None:
    c.emit(f"{c.var(header, field)} = {fit(c, ex, header, field)}")
    mark_dirty(c, header)
    if c.trace:
        c.event("set", quoted(f"{header}.{field}"), c.var(header, field))


def size_code(c: Context, header: str) -> str:
    lay = c.layouts[c.p.headers[header].type.name]
    if lay.varbit:
        return f"({literal(lay.size)} + len({c.var(header, lay.varbit)}))"
    return literal(lay.size)


def init_header(c: Context, h: Header, reset_valid: bool) -> None:
    lay = c.layouts[h.type.name]
    names = c.header_locals(h)
    varbit = c.var(h.name, lay.varbit) if lay.varbit else None
    zero = [n for n in names if n != varbit and n != c.origin(h.name)]
    c.assign_zero(zero if reset_valid else zero[1:])
    c.emit(f"{c.origin(h.name)} = -1")
    if varbit:
        c.emit(f"{varbit} = b''")


def add_header(c: Context, header: str) -> None:
    h = c.p.headers[header]
    v = c.var(header, "$valid$")
    if h.metadata:
        return
    with c.block(f"if not {v}:"):
        init_header(c, h, reset_valid=False)
        c.emit(f"{v} = {c.changed(header)} = 1")
        clear_siblings(c, header)
        if c.track_length:
            c.emit(f"plen_reg += {size_code(c, header)}")
        c.event("valid", quoted(header))


def clear_siblings(c: Context, header: str) -> None:
    others = c.siblings(header)
    if others:
        c.emit(" = ".join(others) + " = 0")


def remove_header(c: Context, header: str) -> None:
    if c.p.headers[header].metadata:
        return
    v = c.var(header, "$valid$")
    if c.track_length:
        with c.block(f"if {v}:"):
            c.emit(f"plen_reg -= {size_code(c, header)}")
    c.emit(f"{v} = 0")
    c.event("invalid", quoted(header))


def copy_header(c: Context, dst: str, src: str) -> None:
    d, s = c.p.headers[dst], c.p.headers[src]
    if d.metadata or s.metadata:
        for f in d.type.fields:
            if (dst, f.name) in c.used.metadata:
                c.emit(f"{c.var(dst, f.name)} = {c.var(src, f.name)}")
        return
    with c.block(f"if {c.var(src, '$valid$')}:"):
        c.emit(", ".join(c.header_locals(d)) + " = " + ", ".join(c.header_locals(s)))
        clear_siblings(c, dst)
    with c.block("else:"):
        c.emit(f"{c.var(dst, '$valid$')} = 0")
    c.event("copy", quoted(dst), quoted(src), c.var(src, "$valid$"))
