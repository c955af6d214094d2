"""The parser: a label a state, jumps between them."""

from __future__ import annotations

from orchestrator.softswitch.codegen.layout import HeaderDecoding, HeaderRun
from orchestrator.softswitch.codegen.parsing import state_order
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.expressions import (
    bits_wanted,
    clear_siblings,
    exact,
    expr,
    field,
    store,
    wrapped,
)
from orchestrator.softswitch.fast.ccode.kinds import (
    U64,
    U128,
    WIDE,
    Value,
    compare_masked,
    kind_of_bits,
    packed_words,
    to,
    truth,
)
from orchestrator.softswitch.fast.ccode.statements import emit_primitives
from orchestrator.softswitch.ir.program import (
    Action,
    Header,
    Json,
    P4Program,
    Param,
    Transition,
)

_MAX_ROUNDS = 256
PARSED = "parsed"
"""The label behind the parser."""


def emit_parser(c: CContext) -> None:
    if c.p.init_state is None:
        return
    order, back = state_order(c)
    number = {name: i for i, name in enumerate(order)}
    if back:
        c.emit("u32 rounds = 0;")
    c.goto(f"state_{number[c.p.init_state]}")
    for i, name in enumerate(order):
        c.label(f"state_{i}")
        with c.block(""):
            _state(c, name, number)
    c.label(PARSED)


def parser_error(c: CContext, name: str) -> None:
    c.emit(f"parser_error = {c.p.errors.get(name, 0)};")
    c.goto(PARSED)


def _need(c: CContext, size: str) -> None:
    with c.block(f"if (unlikely(o + {size} > size))"):
        parser_error(c, "PacketTooShort")


def _state(c: CContext, name: str, number: dict[str, int]) -> None:
    state = c.p.states[name]
    c.where = f"parser state {name}"
    for op in state.ops:
        _operation(c, op)
    _transition(c, state.key, state.transitions, number[name], number)


def _operation(c: CContext, op: Json) -> None:
    kind, params = op["op"], op["parameters"]
    if kind == "extract":
        _extract(c, params[0], None)
    elif kind == "extract_VL":
        _extract(c, params[0], params[1])
    elif kind == "set":
        header, name = params[0]["value"]
        if params[1]["type"] == "lookahead":
            value = _lookahead(c, params[1]["value"])
        else:
            wanted = bits_wanted(c, header, name)
            value = exact(c, params[1]) if wanted is None else expr(c, params[1], None, wanted)
        store(c, header, name, value)
    elif kind == "verify":
        with c.block(f"if (!{truth(expr(c, params[0]))})"):
            c.emit(f"parser_error = (u32){to(exact(c, params[1]), U64)};")
            c.goto(PARSED)
    elif kind == "shift":
        _need(c, f"{params[0]}u")
        c.emit(f"o += {params[0]};")
    elif kind == "advance":
        n = _whole_bytes(c, exact(c, params[0]))
        _need(c, n)
        c.emit(f"o += (u32){n};")
    elif kind == "primitive":
        emit_primitives(c, (params[0],), Action(-1, c.where, (), (params[0],)))
    else:
        raise c.refuse(f"parser operation '{kind}'")


def _whole_bytes(c: CContext, bits: Value) -> str:
    """A local with a number of bits in bytes; a parser error where they are no whole ones."""
    n = c.fresh("n")
    if bits.kind.bits > 64:
        raise c.refuse("a length of more than 64 bits")
    c.emit(f"u64 {n} = {to(bits, U64)};")
    negative = f" || (i64){n} < 0" if bits.lo is None or bits.lo < 0 else ""
    with c.block(f"if ({n} & 7{negative})"):
        parser_error(c, "ParserInvalidArgument")
    c.emit(f"{n} >>= 3;")
    return n


def _lookahead(c: CContext, value: tuple[int, int]) -> Value:
    offset, width = value
    first, last = offset // 8, (offset + width + 7) // 8
    _need(c, f"{last}u")
    return bits_at(f"data + o + {first}", last - first, last * 8 - offset - width, width)


def bits_at(at: str, size: int, shift: int, width: int) -> Value:
    """`width` bits of `size` big-endian bytes, `shift` above the last one."""
    kind = kind_of_bits(width)
    top = (1 << width) - 1
    if size <= 8:
        code = f"load_be({at}, {size})"
    elif size <= 16:
        code = f"load_be_long({at}, {size})"
    else:
        code = f"wide_load({at}, {size})"
        code = f"wide_bits(wide_sar({code}, {shift}), {width})"
        return Value(to(Value(code, WIDE, 0, top), kind), kind, 0, top)
    long = size > 8
    if shift:
        code = f"({code} >> {shift})"
    if shift + width != size * 8:
        code = f"({code} & ones{'_long' if long else ''}({width}))"
    loaded = Value(code, U128 if long else U64, 0, top)
    return Value(to(loaded, kind), kind, 0, top)


def _extract(c: CContext, target: Json, length: Json | None) -> None:
    if target["type"] == "regular":
        _extract_into(c, target["value"], length)
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
        with c.block(f"{'if' if i == 0 else 'else if'} ({n} == {i})"):
            _extract_into(c, element, length)
    with c.block("else"):
        parser_error(c, "StackOutOfBounds")
    c.emit(f"{n}++;")


def _extract_into(c: CContext, header: str, length: Json | None) -> None:
    h = c.p.headers[header]
    lay = c.layouts[h.type.name]
    if lay.varbit is None:
        _need(c, f"{lay.size}u")
        _unpack(c, header, lay.units, "data + o")
        c.emit(f"{c.origin(header)} = o;")
        c.emit(f"o += {lay.size};")
    else:
        bits = _own_length(c, h, lay) if length is None else exact(c, length)
        n = _whole_bytes(c, bits)
        _need(c, f"{lay.size}u + {n}")
        varbit = h.type.varbit
        assert varbit is not None
        with c.block(f"if ({n} > {varbit.width // 8}u)"):
            parser_error(c, "HeaderTooShort")
        head = sum(u.size for u in lay.units)
        _unpack(c, header, lay.units, "data + o")
        c.emit(f"{c.var(header, lay.varbit)} = (struct varbit){{data + o + {head}, (u32){n}}};")
        _unpack(c, header, lay.tail, f"data + o + {n}")
        c.emit(f"{c.origin(header)} = o;")
        c.emit(f"o += {lay.size} + (u32){n};")
    c.emit(f"{c.var(header, '$valid$')} = 1;")
    c.emit(f"{c.changed(header)} = 0;")
    clear_siblings(c, header)


def _own_length(c: CContext, h: Header, lay: HeaderDecoding) -> Value:
    """P4_14: the varbit's bits by the header's own fields before it, so these come first."""
    _need(c, f"{lay.size}u")
    _unpack(c, h.name, lay.units, "data + o")
    params: list[Param] = []
    for f in h.type.fields:
        if f.varbit:
            break
        kind = kind_of_bits(f.width)
        c.emit(f"{kind.name} {c.argument(len(params))} = {to(field(c, h.name, f.name), kind)};")
        params.append(Param(f.name, f.width))
    return exact(c, c.p.lengths[h.type.name], Action(-1, "length", tuple(params), ()))


def _unpack(c: CContext, header: str, units: tuple[HeaderRun, ...], at: str) -> None:
    """Decode the used units of a header whose bytes are at `at`."""
    signed = {f.name for f in c.p.headers[header].type.fields if f.signed}
    for unit in units:
        shift = unit.size * 8
        whole = f"{at} + {unit.offset}" if unit.offset else at
        for name, width in unit.parts:
            shift -= width
            # The bytes that the field is in, of those of its unit.
            low, high = shift // 8, (shift + width + 7) // 8
            start = unit.size - high
            value = bits_at(
                f"{whole} + {start}" if start else whole, high - low, shift - 8 * low, width
            )
            if name in signed:
                value = wrapped(value, width)
            c.emit(f"{c.var(header, name)} = {to(value, c.kind_of_field(header, name))};")


def _transition(
    c: CContext,
    key: tuple[Json, ...],
    transitions: tuple[Transition, ...],
    here: int,
    number: dict[str, int],
) -> None:
    def go(name: str | None) -> None:
        if name is None:
            c.goto(PARSED)
            return
        if number[name] <= here:
            with c.block(f"if (++rounds > {_MAX_ROUNDS})"):
                parser_error(c, "ParserTimeout")
        c.goto(f"state_{number[name]}")

    parts: list[tuple[Value, int]] = []
    for k, width in zip(key, key_widths(c.p, key), strict=True):
        value = _lookahead(c, k["value"]) if k["type"] == "lookahead" else expr(c, k)
        local = c.fresh("k")
        kind = kind_of_bits(width)
        c.emit(f"{kind.name} {local} = {to(value, kind)};")
        parts.append((Value(local, kind, 0, (1 << width) - 1), width))
    default: str | None = None
    cases: list[tuple[str, str | None]] = []
    for t in transitions:
        if t.value_set is not None:
            cases.append((_in_value_set(c, parts, t), t.next_state))
            continue
        if t.value is None:
            default = t.next_state
            continue
        cases.append((_case(parts, t.value, t.mask), t.next_state))
    for condition, following in cases:
        with c.block(f"if ({condition})"):
            go(following)
    go(default)


def key_widths(program: P4Program, key: tuple[Json, ...]) -> tuple[int, ...]:
    """Bits of each part of what a state selects by."""
    return tuple(_key_width(program, k) for k in key)


def _key_width(program: P4Program, key: Json) -> int:
    if key["type"] == "lookahead":
        return key["value"][1]
    if key["type"] == "field":
        return program.field(*key["value"]).width
    if key["type"] == "stack_field":
        stack, name = key["value"]
        return program.field(program.stacks[stack].elements[0], name).width
    stack, member, name = key["value"]
    union = program.union_stacks[stack].elements[0]
    return program.field(union.members[union.names.index(member)], name).width


def value_set_widths(program: P4Program) -> dict[str, tuple[int, ...]]:
    """Bits of the fields of each value set, as the first state that asks it has them."""
    widths: dict[str, tuple[int, ...]] = dict.fromkeys(program.value_sets, ())
    for state in program.states.values():
        for t in state.transitions:
            if t.value_set is not None and not widths[t.value_set]:
                widths[t.value_set] = key_widths(program, state.key)
    return widths


def _in_value_set(c: CContext, parts: list[tuple[Value, int]], t: Transition) -> str:
    """Condition that the key is in a set, which is a table: members' masks, no action."""
    assert t.value_set is not None
    name = t.value_set
    if t.mask is not None:
        raise c.refuse(f"value set {name} behind a mask")
    if value_set_widths(c.p)[name] != tuple(width for _, width in parts):
        raise c.refuse(f"value set {name} of two types")
    words = packed_words([(part.code, part.kind, width) for part, width in parts])
    at = f"d->tables[{c.value_set_number[name]}]"
    key = f"(const u64[]){{{', '.join(words)}}}"
    return f"memo_find(&{at}, {key}, {len(words)}) != {at}.miss"


def _case(parts: list[tuple[Value, int]], value: int, mask: int | None) -> str:
    """Condition of one select case; keys are byte-padded field by field."""
    tests: list[str] = []
    shift = 0
    for part, width in reversed(parts):
        ones = (1 << width) - 1
        wanted = value >> shift & ones
        bits = ones if mask is None else mask >> shift & ones
        shift += (width + 7) // 8 * 8
        if bits:
            tests.append(compare_masked(part, wanted & bits, bits, ones))
    return " && ".join(reversed(tests)) or "1"
