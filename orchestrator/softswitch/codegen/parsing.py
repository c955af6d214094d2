"""The parser: states in topological order, each tested once; a loop only if the graph has one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.softswitch.codegen.actions import emit_primitives
from orchestrator.softswitch.codegen.context import (
    STRUCT_CODE,
    Context,
    Ex,
    chunks_of,
    literal,
    quoted,
)
from orchestrator.softswitch.codegen.expressions import clear_siblings, expr, store
from orchestrator.softswitch.codegen.layout import HeaderDecoding, HeaderRun
from orchestrator.softswitch.ir.program import Action, Header, Json, Param, Transition

_MAX_PARSER_ROUNDS = 256


def emit_parser(c: Context) -> None:
    if c.p.init_state is None:
        return
    order, back = state_order(c)
    number = {name: i + 1 for i, name in enumerate(order)}
    if back:
        c.emit("rounds = 0")
    c.emit(f"s = {literal(number[c.p.init_state])}")
    with c.block("while True:"):
        for i, name in enumerate(order):
            # The first state is always entered first unless a loop leads back to it.
            head = "if True:" if i == 0 and not back else f"if s == {literal(i + 1)}:"
            with c.block(head):
                emit_state(c, name, number)
        if not back:
            c.emit("break")
        else:
            c.emit("rounds += 1")
            with c.block(f"if rounds > {_MAX_PARSER_ROUNDS}:"):
                parser_error(c, "ParserTimeout")


def state_order(c: Context) -> tuple[list[str], bool]:
    """Reverse postorder of the reachable states; True if a loop exists."""
    done: list[str] = []
    entered: dict[str, bool] = {}  # False: not left yet
    back = False
    assert c.p.init_state is not None
    way = [c.p.init_state]
    while way:
        name = way[-1]
        if name not in entered:
            entered[name] = False
            nexts = [t.next_state for t in c.p.states[name].transitions]
            back = back or any(entered.get(n) is False for n in nexts if n is not None)
            # Reversed: the first transition's state is visited first, as it is by a packet.
            for t in reversed(c.p.states[name].transitions):
                if t.next_state is not None and t.next_state not in entered:
                    way.append(t.next_state)
            continue
        way.pop()
        if not entered[name]:
            entered[name] = True
            done.append(name)
    return done[::-1], back


def parser_error(c: Context, name: str) -> None:
    c.emit(f"perr = {literal(c.p.errors.get(name, 0))}")
    c.event("parser_error", quoted(name))
    c.emit("break")


def need(c: Context, size: str) -> None:
    with c.block(f"if o + {size} > L:"):
        parser_error(c, "PacketTooShort")


def emit_state(c: Context, name: str, number: Mapping[str, int]) -> None:
    st = c.p.states[name]
    c.where = f"parser state {name}"
    c.event("state", quoted(name))
    for op in st.ops:
        parser_op(c, op)
    emit_transition(c, st.key, st.transitions, number)


def parser_op(c: Context, op: Json) -> None:
    kind, params = op["op"], op["parameters"]
    if kind == "extract":
        extract(c, params[0], None)
    elif kind == "extract_VL":
        extract(c, params[0], params[1])
    elif kind == "set":
        header, field = params[0]["value"]
        ahead = params[1]["type"] == "lookahead"
        ex = lookahead(c, params[1]["value"]) if ahead else expr(c, params[1])
        store(c, header, field, ex)
    elif kind == "verify":
        cond = expr(c, params[0])
        with c.block(f"if not {cond.code}:"):
            code = expr(c, params[1]).code
            c.emit(f"perr = {code}")
            c.event("parser_error", code)
            c.emit("break")
    elif kind == "shift":
        need(c, literal(params[0]))
        c.emit(f"o += {literal(params[0])}")
    elif kind == "advance":
        bits = expr(c, params[0])
        if bits.lo is not None and bits.lo == bits.hi and bits.lo % 8 == 0 and bits.lo >= 0:
            need(c, literal(bits.lo // 8))
            c.emit(f"o += {literal(bits.lo // 8)}")
            return
        c.emit(f"n = {bits.code}")
        with c.block("if n & 7 or n < 0:" if bits.lo is None or bits.lo < 0 else "if n & 7:"):
            parser_error(c, "ParserInvalidArgument")
        need(c, "(n >> 3)")
        c.emit("o += n >> 3")
    elif kind == "primitive":
        emit_primitives(c, (params[0],), Action(-1, c.where, (), (params[0],)))
    else:
        raise c.refuse(f"parser operation '{kind}'")


def lookahead(c: Context, value: tuple[int, int]) -> Ex:
    offset, width = value
    first, last = offset // 8, (offset + width + 7) // 8
    need(c, literal(last))
    size = last - first
    at = f"o + {literal(first)}" if first else "o"
    code = f"data[{at}]" if size == 1 else f"int.from_bytes(data[{at}:o + {literal(last)}], 'big')"
    spare = last * 8 - offset - width
    if spare:
        code = f"({code} >> {literal(spare)})"
    if first * 8 != offset:
        code = f"({code} & {literal((1 << width) - 1)})"
    return Ex(code, 0, (1 << width) - 1)


def extract(c: Context, target: Json, length: Json | None) -> None:
    if target["type"] == "regular":
        extract_into(c, target["value"], length)
        return
    if target["type"] == "union_stack":
        stack, member = target["value"]
        unions = c.p.union_stacks[stack].elements
        at = unions[0].names.index(member)
        elements = tuple(u.members[at] for u in unions)
    else:
        stack = target["value"]
        elements = c.p.stacks[stack].elements
    n = c.count(stack)
    for i, element in enumerate(elements):
        with c.block(f"{'if' if i == 0 else 'elif'} {n} == {literal(i)}:"):
            extract_into(c, element, length)
    with c.block("else:"):
        parser_error(c, "StackOutOfBounds")
    c.emit(f"{n} += 1")


def extract_into(c: Context, header: str, length: Json | None) -> None:
    h = c.p.headers[header]
    lay = c.layouts[h.type.name]
    fixed = literal(lay.size)
    if lay.varbit is None:
        need(c, fixed)
        unpack(c, header, lay.units, "o")
        c.emit(f"{c.origin(header)} = o")
        c.emit(f"o += {fixed}")
    else:
        bits = own_length(c, h, lay) if length is None else expr(c, length)
        c.emit(f"n = {bits.code}")
        with c.block("if n & 7 or n < 0:" if bits.lo is None or bits.lo < 0 else "if n & 7:"):
            parser_error(c, "ParserInvalidArgument")
        c.emit("n >>= 3")
        need(c, f"{fixed} + n")
        varbit = h.type.varbit
        assert varbit is not None
        with c.block(f"if n > {literal(varbit.width // 8)}:"):
            parser_error(c, "HeaderTooShort")
        head = literal(sum(u.size for u in lay.units))
        unpack(c, header, lay.units, "o")
        c.emit(f"{c.var(header, lay.varbit)} = data[o + {head}:o + {head} + n]")
        unpack(c, header, lay.tail, "o + n")
        c.emit(f"{c.origin(header)} = o")
        c.emit(f"o += {fixed} + n")
    c.emit(f"{c.var(header, '$valid$')} = 1")
    c.emit(f"{c.changed(header)} = 0")
    clear_siblings(c, header)
    c.event("extract", quoted(header), c.origin(header), "o")


def own_length(c: Context, h: Header, lay: HeaderDecoding) -> Ex:
    """P4_14: the varbit's bits by the header's own fields before it, so these come first."""
    length = c.p.lengths[h.type.name]
    need(c, literal(lay.size))
    unpack(c, h.name, lay.units, "o")
    params: list[Param] = []
    for f in h.type.fields:
        if f.varbit:
            break
        c.emit(f"{c.argument(len(params))} = {c.var(h.name, f.name)}")
        params.append(Param(f.name, f.width))
    return expr(c, length, Action(-1, "length", tuple(params), ()))


def unpack(c: Context, header: str, units: tuple[HeaderRun, ...], at: str) -> None:
    """Decode the used units of a header at `at` with one struct call."""
    if not any(u.parts for u in units):
        return
    fmt = ">"
    targets: list[str] = []
    post: list[str] = []
    signed = {f.name for f in c.p.headers[header].type.fields if f.signed}
    last = max(i for i, u in enumerate(units) if u.parts)
    skip = 0
    for i, u in enumerate(units[: last + 1]):
        if not u.parts:
            if i == 0:
                skip = u.size
            else:
                fmt += f"{u.size}x"
            continue
        chunks = chunks_of(u.size)
        if len(chunks) > 2:
            fmt += f"{u.size}s"
            whole = c.fresh("b")
            targets.append(whole)
            value = f"int.from_bytes({whole}, 'big')"
        else:
            names = [c.fresh("c") for _ in chunks]
            fmt += "".join(STRUCT_CODE[n] for n in chunks)
            if len(chunks) == 1 and len(u.parts) == 1:
                names = [c.var(header, u.parts[0][0])]
            targets += names
            value = (
                names[0]
                if len(names) == 1
                else f"{names[0]} << {literal(chunks[1] * 8)} | {names[1]}"
            )
        if len(u.parts) == 1:
            local = c.var(header, u.parts[0][0])
            if value != local:
                post.append(f"{local} = {value}")
        else:
            if not re.fullmatch(r"\w+", value):
                whole = c.fresh("w")
                post.append(f"{whole} = {value}")
                value = whole
            shift = u.size * 8
            for name, width in u.parts:
                shift -= width
                code = value if not shift else f"{value} >> {literal(shift)}"
                if shift + width != u.size * 8:
                    code += f" & {literal((1 << width) - 1)}"
                post.append(f"{c.var(header, name)} = {code}")
        for name, width in u.parts:
            if name in signed:
                half = literal(1 << (width - 1))
                local = c.var(header, name)
                post.append(f"{local} = ({local} ^ {half}) - {half}")
    if skip:
        at = f"{at} + {literal(skip)}"
    if len(targets) == 1 and fmt in (">B",):
        c.emit(f"{targets[0]} = data[{at}]")
    else:
        c.emit(f"{', '.join(targets)}, = {c.out('unpack_from', fmt)}(data, {at})")
    for line in post:
        c.emit(line)


def emit_transition(
    c: Context,
    key: tuple[Json, ...],
    transitions: tuple[Transition, ...],
    number: Mapping[str, int],
) -> None:
    def go(name: str | None) -> None:
        c.emit("break" if name is None else f"s = {literal(number[name])}")

    default: str | None = None
    cases: list[tuple[str, str | None]] = []
    if key:
        parts: list[tuple[str, int]] = []
        for k in key:
            if k["type"] == "lookahead":
                ex = lookahead(c, k["value"])
                name = c.fresh("k")
                c.emit(f"{name} = {ex.code}")
                parts.append((name, k["value"][1]))
            elif k["type"] == "stack_field":
                ex = expr(c, k)
                width = c.width(c.p.stacks[k["value"][0]].elements[0], k["value"][1])
                parts.append((ex.code, width))
            elif k["type"] == "union_stack_field":
                stack, member, field = k["value"]
                union = c.p.union_stacks[stack].elements[0]
                header = union.members[union.names.index(member)]
                parts.append((expr(c, k).code, c.width(header, field)))
            elif k["type"] == "field":
                parts.append((expr(c, k).code, c.width(*k["value"])))
            else:
                raise c.refuse(f"transition key of type '{k['type']}'")
    else:
        parts = []
    for t in transitions:
        if t.value_set is not None:
            cases.append((in_value_set(c, parts, t.value_set, t.mask), t.next_state))
            continue
        if t.value is None:
            default = t.next_state
            continue
        cases.append((case_condition(c, parts, t.value, t.mask), t.next_state))
    # Cases that lead where the default leads, at the end, need no test.
    while cases and cases[-1][1] == default:
        cases.pop()
    merged: list[tuple[str, str | None]] = []
    for cond, nxt in cases:
        if merged and merged[-1][1] == nxt:
            merged[-1] = (f"{merged[-1][0]} or {cond}", nxt)
        else:
            merged.append((cond, nxt))
    for i, (cond, nxt) in enumerate(merged):
        with c.block(f"{'if' if i == 0 else 'elif'} {cond}:"):
            go(nxt)
    if merged:
        with c.block("else:"):
            go(default)
    else:
        go(default)


def in_value_set(c: Context, parts: list[tuple[str, int]], name: str, mask: int | None) -> str:
    """Condition that the key is in a value set, which the controller fills."""
    codes = [code for code, _ in parts]
    key = codes[0] if len(codes) == 1 else f"({', '.join(codes)})"
    if mask is None:
        return f"{c.out('contains', name)}({key})"
    masks: list[str] = []
    for _, width in reversed(parts):
        masks.append(literal(mask & ((1 << width) - 1)))
        mask >>= (width + 7) // 8 * 8
    inner = ", ".join(reversed(masks))
    return f"{c.out('contains_masked', name)}({key}, ({inner},))"


def case_condition(c: Context, parts: list[tuple[str, int]], value: int, mask: int | None) -> str:
    """Condition of one select case; keys are byte-padded field by field."""
    tests: list[str] = []
    shift = 0
    for code, width in reversed(parts):
        size = (width + 7) // 8 * 8
        ones = (1 << width) - 1
        v = value >> shift & ones
        m = ones if mask is None else mask >> shift & ones
        shift += size
        if m == ones:
            tests.append(f"{code} == {literal(v)}")
        elif m:
            tests.append(f"{code} & {literal(m)} == {literal(v & m)}")
    return " and ".join(reversed(tests)) or "True"
