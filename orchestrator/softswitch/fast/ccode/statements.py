"""Primitives and actions: one function a primitive; jumps are jumps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from orchestrator.softswitch.codegen.expressions import unwrapped
from orchestrator.softswitch.codegen.layout import stack_moves
from orchestrator.softswitch.fast.ccode.calculations import calculate
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.expressions import (
    add_header,
    bits_wanted,
    copy_header,
    exact,
    expr,
    headers_of,
    index_code,
    load_words,
    mark_dirty,
    masked,
    remove_header,
    store,
    unions_of,
)
from orchestrator.softswitch.fast.ccode.kinds import (
    U64,
    U128,
    WIDE,
    Value,
    kind_of_bits,
    literal,
    to,
    truth,
    words_of_bits,
)
from orchestrator.softswitch.ir.program import Action, Json

Emit = Callable[[CContext, list[Json], Action], None]
U64_MAX = (1 << 64) - 1
_EMITTERS: dict[str, Emit] = {}


def _primitive(*names: str) -> Callable[[Emit], Emit]:
    def register(emit: Emit) -> Emit:
        _EMITTERS.update(dict.fromkeys(names, emit))
        return emit

    return register


def emit_primitives(c: CContext, prims: Sequence[Json], action: Action) -> None:
    """An action's body. Its parameters are locals already."""
    targets = {p["parameters"][-1]["value"] for p in prims if p["op"] in ("_jump", "_jump_if_zero")}
    labels = {n: c.fresh("jump_") for n in sorted(targets)}

    def jump(at: int, target: int) -> None:
        if target <= at:
            c.backward(labels[target])
        else:
            c.goto(labels[target])

    for i, prim in enumerate(prims):
        if i in labels:
            c.label(labels[i])
        if prim["op"] == "_jump":
            jump(i, prim["parameters"][0]["value"])
        elif prim["op"] == "_jump_if_zero":
            condition = truth(expr(c, prim["parameters"][0], action))
            with c.block(f"if (!{condition})"):
                jump(i, prim["parameters"][1]["value"])
        else:
            emit_primitive(c, prim, action)
    if len(prims) in labels:
        c.label(labels[len(prims)])


def emit_primitive(c: CContext, prim: Json, action: Action) -> None:
    """One call; raises UnsupportedFeature for a primitive that is not implemented."""
    op, params = prim["op"], prim["parameters"]
    c.where = f"action {action.name}: {op}"
    emit = _EMITTERS.get(op)
    if emit is None:
        raise c.refuse(f"primitive '{op}'")
    emit(c, params, action)


Source = Callable[[int | None], Value]
"""A value to be assigned, of which so many low bits are wanted (None: the exact number)."""


def assign(c: CContext, to_: Json, source: Source, action: Action) -> None:
    """Store into a field, or into a field of a header picked at run time."""
    if to_["type"] == "field" and isinstance(to_["value"][0], str):
        header, name = to_["value"]
        store(c, header, name, source(bits_wanted(c, header, name)))
        return
    if to_["type"] == "register":
        register = c.p.registers[to_["value"][0]]
        write_register(c, register.name, exact(c, to_["value"][1], action), source(register.width))
        return
    at: Value | None
    if to_["type"] == "stack_field":
        stack, name = to_["value"]
        at, names = Value(f"({c.count(stack)} - 1)", U64, 0, U64_MAX), c.p.stacks[stack].elements
    elif to_["type"] == "field":
        node, name = to_["value"]
        at, names = headers_of(c, node, action)
    else:
        node = unwrapped(to_)
        if node.get("op") != "access_field":
            raise c.refuse(f"assignment to a {to_['type']} '{node.get('op', '')}'")
        at, names = headers_of(c, node["left"], action)
        name = c.p.headers[names[0]].type.fields[node["right"]].name
    value = source(bits_wanted(c, names[0], name))
    if at is None:
        store(c, names[0], name, value)
        return
    with _kept(c, value) as kept:
        each_header(c, at, names, lambda header: store(c, header, name, kept))


@contextmanager
def _kept(c: CContext, value: Value) -> Generator[Value, None, None]:
    """A value in a local, since what is stored may be part of it."""
    name = c.fresh("x")
    with c.block(""):
        c.emit(f"{value.kind.name} {name} = {value.code};")
        yield Value(name, value.kind, value.lo, value.hi)


def each_header(
    c: CContext, at: Value | None, names: Sequence[str], body: Callable[[str], None]
) -> None:
    """`body` for the header that an index picks; beyond the stack nothing happens."""
    if at is None:
        body(names[0])
        return
    index = c.fresh("i")
    with c.block(""):
        c.emit(f"u64 {index} = {index_code(c, at)};")
        for i, name in enumerate(names):
            with c.block(f"{'if' if i == 0 else 'else if'} ({index} == {i})"):
                body(name)


@_primitive("assign")
def _assign(c: CContext, params: list[Json], action: Action) -> None:
    def source(low: int | None) -> Value:
        return exact(c, params[1], action) if low is None else expr(c, params[1], action, low)

    assign(c, params[0], source, action)


@_primitive("assign_VL")
def _assign_varbit(c: CContext, params: list[Json], action: Action) -> None:
    (to_, field), (header, name) = params[0]["value"], params[1]["value"]
    c.emit(f"{c.var(to_, field)} = {c.var(header, name)};")
    mark_dirty(c, to_)


@_primitive("assign_header")
def _assign_header(c: CContext, params: list[Json], action: Action) -> None:
    at, names = headers_of(c, params[0], action)
    source_at, sources = headers_of(c, params[1], action)

    def from_source(to_: str) -> None:
        each_header(c, source_at, sources, lambda name: copy_header(c, to_, name))

    each_header(c, at, names, from_source)


@_primitive("assign_header_stack")
def _assign_header_stack(c: CContext, params: list[Json], action: Action) -> None:
    to_, source = c.p.stacks[params[0]["value"]], c.p.stacks[params[1]["value"]]
    c.emit(f"{c.count(to_.name)} = {c.count(source.name)};")
    for a, b in zip(to_.elements, source.elements, strict=True):
        copy_header(c, a, b)


@_primitive("assign_union")
def _assign_union(c: CContext, params: list[Json], action: Action) -> None:
    at, unions = unions_of(c, params[0], action)
    source_at, sources = unions_of(c, params[1], action)
    # Unions of one type: members at one place correspond.
    numbers = [str(i) for i in range(len(unions))]
    source_numbers = [str(i) for i in range(len(sources))]

    def from_source(number: str) -> None:
        def copy(source: str) -> None:
            pairs = zip(unions[int(number)].members, sources[int(source)].members, strict=True)
            for a, b in pairs:
                copy_header(c, a, b)

        each_header(c, source_at, source_numbers, copy)

    each_header(c, at, numbers, from_source)


@_primitive("assign_union_stack")
def _assign_union_stack(c: CContext, params: list[Json], action: Action) -> None:
    to_, source = (c.p.union_stacks[p["value"]] for p in params)
    c.emit(f"{c.count(to_.name)} = {c.count(source.name)};")
    for one, other in zip(to_.elements, source.elements, strict=True):
        for a, b in zip(one.members, other.members, strict=True):
            copy_header(c, a, b)


@_primitive("add_header", "add_header_fast")
def _add_header(c: CContext, params: list[Json], action: Action) -> None:
    each_header(c, *headers_of(c, params[0], action), lambda name: add_header(c, name))


@_primitive("remove_header")
def _remove_header(c: CContext, params: list[Json], action: Action) -> None:
    each_header(c, *headers_of(c, params[0], action), lambda name: remove_header(c, name))


@_primitive("mark_to_drop", "drop")
def _mark_to_drop(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"{c.sm('egress_spec')} = {c.drop_port};")
    if c.has_meta("mcast_grp"):
        c.emit(f"{c.sm('mcast_grp')} = 0;")


@_primitive("exit")
def _exit(c: CContext, params: list[Json], action: Action) -> None:
    c.emit("exited = true;")


@_primitive("no_op", "log_msg")
def _nothing(c: CContext, params: list[Json], action: Action) -> None:
    """A text of log_msg is for whoever debugs with the Python engine."""


@_primitive("assert", "assume")
def _assert(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"if (!{truth(expr(c, params[0], action))}) goto fault;")


@_primitive("push")
def _push(c: CContext, params: list[Json], action: Action) -> None:
    _shift(c, params[0]["value"], params[1]["value"], push=True)


@_primitive("pop")
def _pop(c: CContext, params: list[Json], action: Action) -> None:
    _shift(c, params[0]["value"], params[1]["value"], push=False)


def _shift(c: CContext, name: str, count: int, *, push: bool) -> None:
    """push_front/pop_front: move elements by `count`, invalidate what is left (unions apart)."""
    if name not in c.p.stacks:
        raise c.refuse(f"shifting the header union stack {name}")
    elements, n = c.p.stacks[name].elements, c.count(name)
    size = len(elements)
    if push:
        c.emit(f"{n} = {n} + {count} > {size} ? {size} : {n} + {count};")
    else:
        c.emit(f"{n} = {n} < {count} ? 0 : {n} - {count};")
    moves, gone = stack_moves(size, count, push=push)
    for to_, source in moves:
        names = (c.header_locals(c.p.headers[elements[i]]) for i in (to_, source))
        for a, b in zip(*names, strict=True):
            c.emit(f"{a} = {b};")
    for i in gone:
        c.emit(f"{c.var(elements[i], '$valid$')} = 0;")


@_primitive("clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress")
def _clone(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"clone = (i64)({to(expr(c, params[0], action, 15), U64)} & 32767);")
    c.emit(f"clone_list = {_number(c, params[1], action)};")


@_primitive("recirculate")
def _recirculate(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"recirculated = {_number(c, params[0], action)};")


@_primitive("resubmit")
def _resubmit(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"resubmitted = {_number(c, params[0], action)};")


@_primitive("generate_digest")
def _generate_digest(c: CContext, params: list[Json], action: Action) -> None:
    c.emit(f"digest = (u32)({to(expr(c, params[1], action, 16), U64)} & 65535);")


def _number(c: CContext, node: Json, action: Action) -> str:
    """A number of something in the program, or 0."""
    return f"(u32){to(exact(c, node, action), U64)}"


@_primitive("modify_field_with_hash_based_offset")
def _hash(c: CContext, params: list[Json], action: Action) -> None:
    base, size = exact(c, params[1], action), exact(c, params[3], action)
    with c.block(""):
        hashed = c.fresh("h")
        c.emit(f"u64 {hashed};")
        calculate(c, params[2]["value"], hashed)
        rest = _modulo(c, hashed, size)

        def source(low: int | None) -> Value:
            if base.constant == 0:
                return rest
            top = (base.hi or 0) + (rest.hi or 0)
            code = f"({to(rest, U128)} + {to(base, U128)})"
            return Value(code, U128, 0, top)

        if base.lo is None or base.lo < 0 or (base.hi or 0) >= 1 << 127:
            raise c.refuse("a hash with such a base")
        assign(c, params[0], source, action)


def _modulo(c: CContext, hashed: str, size: Value) -> Value:
    if size.constant is not None:
        count = size.constant or 1
        if count < 0:
            raise c.refuse("a hash with a negative size")
        if count >= 1 << 64:
            return Value(hashed, U64, 0, U64_MAX)
        return Value(f"({hashed} % {literal(count, U64)})", U64, 0, count - 1)
    if size.kind is not U64:
        raise c.refuse("a hash with a size of more than 64 bits")
    return Value(f"({hashed} % ({size.code} ? {size.code} : 1))", U64, 0, size.hi or 0)


@_primitive("keyed_hash")
def _keyed_hash(c: CContext, params: list[Json], action: Action) -> None:
    key0, key1, *words = (to(exact(c, word, action), U64) for word in params[1:])
    # In registers, where they are.
    name = {1: "prf_of_one", 2: "prf_of_two"}.get(len(words), "prf_words")
    message = ", ".join(words)
    if len(words) > 2:
        message = f"(const u32[]){{{message}}}, {len(words)}"
    code = f"((u64){name}({key0}, {key1}, {message}))"
    assign(c, params[0], lambda _: Value(code, U64, 0, 0xFFFF_FFFF), action)


@_primitive("modify_field_rng_uniform")
def _random(c: CContext, params: list[Json], action: Action) -> None:
    low, high = exact(c, params[1], action), exact(c, params[2], action)
    if low.kind is not U64 or high.kind is not U64:
        raise c.refuse("random numbers of more than 64 bits")
    with c.block(f"if ({low.code} <= {high.code})"):
        made = Value(f"random_of(d, {low.code}, {high.code})", U64, low.lo, high.hi)
        assign(c, params[0], lambda _: made, action)


@_primitive("execute_meter")
def _execute_meter(c: CContext, params: list[Json], action: Action) -> None:
    meter = c.p.meters[params[0]["value"]]
    with guarded_index(c, exact(c, params[1], action), meter.size) as i:
        cell = f"&d->meters[{c.meter_number[meter.name]}][{i}]"
        color = Value(f"((u64)meter_execute({cell}, d->now_us, size))", U64, 0, 2)
        assign(c, params[2], lambda _: color, action)


@_primitive("count")
def _count(c: CContext, params: list[Json], action: Action) -> None:
    counter = c.p.counters[params[0]["value"]]
    with guarded_index(c, exact(c, params[1], action), counter.size) as i:
        cells = f"d->counters[{c.counter_number[counter.name]}]"
        c.emit(f"{cells}[2 * {i}]++;")
        c.emit(f"{cells}[2 * {i} + 1] += size;")


@contextmanager
def guarded_index(c: CContext, index: Value, size: int) -> Generator[str, None, None]:
    """Index that is out of bounds: nothing happens, as in BMv2."""
    name = c.fresh("n")
    with c.block(""):
        c.emit(f"u64 {name} = {index_code(c, index)};")
        with c.block(f"if ({name} < {size}u)"):
            yield name


@_primitive("register_read")
def _register_read(c: CContext, params: list[Json], action: Action) -> None:
    register = c.p.registers[params[1]["value"]]
    kind, words = kind_of_bits(register.width), words_of_bits(register.width)
    with guarded_index(c, exact(c, params[2], action), register.size) as i:
        at = f"d->registers[{c.register_number[register.name]}] + {words} * {i}"
        cell = Value(load_words(kind, at, words), kind, 0, (1 << register.width) - 1)
        assign(c, params[0], lambda _: cell, action)


@_primitive("register_write")
def _register_write(c: CContext, params: list[Json], action: Action) -> None:
    register = c.p.registers[params[0]["value"]]
    value = expr(c, params[2], action, register.width)
    write_register(c, register.name, exact(c, params[1], action), value)


def write_register(c: CContext, name: str, index: Value, value: Value) -> None:
    register = c.p.registers[name]
    fitted = masked(value, (1 << register.width) - 1)
    kind, words = kind_of_bits(register.width), words_of_bits(register.width)
    with guarded_index(c, index, register.size) as i:
        at = f"d->registers[{c.register_number[name]}] + {words} * {i}"
        code = to(fitted, kind)
        if kind is WIDE:
            c.emit(f"wide_to_words({code}, {at}, {words});")
        elif kind is U128:
            c.emit(f"memcpy({at}, &(u128){{{code}}}, 16);")
        else:
            c.emit(f"*({at}) = {code};")


@_primitive("truncate")
def _truncate(c: CContext, params: list[Json], action: Action) -> None:
    size = to(exact(c, params[0], action), U64)
    c.emit(f"if ({size} < truncated) truncated = (u32){size};")
