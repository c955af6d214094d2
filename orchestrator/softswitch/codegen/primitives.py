"""What each primitive is in the code: one function a primitive."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.calculations import calculate
from orchestrator.softswitch.codegen.context import Context, Ex, literal, quoted
from orchestrator.softswitch.codegen.expressions import (
    add_header,
    copy_header,
    expr,
    headers_of,
    mark_dirty,
    remove_header,
    store,
    unions_of,
    unwrapped,
)
from orchestrator.softswitch.codegen.layout import stack_moves
from orchestrator.softswitch.ir.program import Action, Json

Emit = Callable[[Context, list[Json], Action], None]
"""Emits a call of a primitive with these parameters, in an action."""

_EMITTERS: dict[str, Emit] = {}


def _primitive(*names: str) -> Callable[[Emit], Emit]:
    def register(emit: Emit) -> Emit:
        _EMITTERS.update(dict.fromkeys(names, emit))
        return emit

    return register


def primitives_implemented() -> frozenset[str]:
    """Names of those that there is code for; jumps are `actions`' matter."""
    return frozenset(_EMITTERS)


def emit_primitive(c: Context, prim: Json, action: Action) -> None:
    """One call; raises UnsupportedFeature for a primitive that is not implemented."""
    op, params = prim["op"], prim["parameters"]
    c.where = f"action {action.name}: {op}"
    emit = _EMITTERS.get(op)
    if emit is None:
        raise c.refuse(f"primitive '{op}'")
    emit(c, params, action)


@_primitive("assign")
def _assign(c: Context, params: list[Json], action: Action) -> None:
    dst = params[0]
    assign(c, dst, expr(c, params[1], action), action)


def assign(c: Context, dst: Json, ex: Ex, action: Action) -> None:
    """Store into a field, or into a field of a header picked at run time."""
    if dst["type"] == "field" and isinstance(dst["value"][0], str):
        store(c, dst["value"][0], dst["value"][1], ex)
        return
    if dst["type"] == "register":
        write_register(c, dst["value"][0], expr(c, dst["value"][1], action), ex)
        return
    if dst["type"] == "stack_field":
        stack, field = dst["value"]
        c.emit(f"x = {ex.code}")
        last = Ex(f"{c.count(stack)} - 1", None, None)
        elements = c.p.stacks[stack].elements
        each_header(c, last, elements, lambda name: store(c, name, field, Ex("x", ex.lo, ex.hi)))
        return
    if dst["type"] == "field":
        node, field = dst["value"]
        at, names = headers_of(c, node, action)
    else:
        node = unwrapped(dst)
        if node.get("op") != "access_field":
            raise c.refuse(f"assignment to a {dst['type']} '{node.get('op', '')}'")
        at, names = headers_of(c, node["left"], action)
        offset: int = node["right"]
        field = c.p.headers[names[0]].type.fields[offset].name
    if at is None:
        store(c, names[0], field, ex)
        return
    c.emit(f"x = {ex.code}")
    each_header(c, at, names, lambda name: store(c, name, field, Ex("x", ex.lo, ex.hi)))


def each_header(
    c: Context,
    at: Ex | None,
    names: tuple[str, ...],
    body: Callable[[str], None],
    index: str = "i",
) -> None:
    """`body` for the header that an index picks; beyond the stack nothing happens."""
    if at is None:
        body(names[0])
        return
    c.emit(f"{index} = {at.code}")
    for i, name in enumerate(names):
        with c.block(f"{'if' if i == 0 else 'elif'} {index} == {literal(i)}:"):
            body(name)


@_primitive("assign_VL")
def _assign_VL(c: Context, params: list[Json], action: Action) -> None:
    (dh, df), (sh, sf) = params[0]["value"], params[1]["value"]
    c.emit(f"{c.var(dh, df)} = {c.var(sh, sf)}")
    mark_dirty(c, dh)


@_primitive("assign_header")
def _assign_header(c: Context, params: list[Json], action: Action) -> None:
    dst_at, dst = headers_of(c, params[0], action)
    src_at, src = headers_of(c, params[1], action)

    def from_source(to: str) -> None:
        each_header(c, src_at, src, lambda name: copy_header(c, to, name), "j")

    each_header(c, dst_at, dst, from_source)


@_primitive("assign_header_stack")
def _assign_header_stack(c: Context, params: list[Json], action: Action) -> None:
    dst, src = c.p.stacks[params[0]["value"]], c.p.stacks[params[1]["value"]]
    c.emit(f"{c.count(dst.name)} = {c.count(src.name)}")
    for d, s in zip(dst.elements, src.elements, strict=True):
        copy_header(c, d, s)


@_primitive("assign_union")
def _assign_union(c: Context, params: list[Json], action: Action) -> None:
    dst_at, dst = unions_of(c, params[0], action)
    src_at, src = unions_of(c, params[1], action)
    # Unions of one type: members at one place correspond.
    dst_names = tuple(str(i) for i in range(len(dst)))
    src_names = tuple(str(i) for i in range(len(src)))

    def from_source(to: str) -> None:
        def copy(name: str) -> None:
            for d, s in zip(dst[int(to)].members, src[int(name)].members, strict=True):
                copy_header(c, d, s)

        each_header(c, src_at, src_names, copy, "j")

    each_header(c, dst_at, dst_names, from_source)


@_primitive("assign_union_stack")
def _assign_union_stack(c: Context, params: list[Json], action: Action) -> None:
    dst = c.p.union_stacks[params[0]["value"]]
    src = c.p.union_stacks[params[1]["value"]]
    c.emit(f"{c.count(dst.name)} = {c.count(src.name)}")
    for d, s in zip(dst.elements, src.elements, strict=True):
        for to, name in zip(d.members, s.members, strict=True):
            copy_header(c, to, name)


@_primitive("add_header", "add_header_fast")
def _add_header(c: Context, params: list[Json], action: Action) -> None:
    each_header(c, *headers_of(c, params[0], action), lambda name: add_header(c, name))


@_primitive("remove_header")
def _remove_header(c: Context, params: list[Json], action: Action) -> None:
    each_header(c, *headers_of(c, params[0], action), lambda name: remove_header(c, name))


@_primitive("mark_to_drop", "drop")
def _mark_to_drop(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"{c.sm('egress_spec')} = {c.drop_port}")
    if c.has_meta("mcast_grp"):
        c.emit(f"{c.sm('mcast_grp')} = 0")
    c.event("mark_to_drop")


@_primitive("exit")
def _exit(c: Context, params: list[Json], action: Action) -> None:
    c.emit("exited = True")
    c.event("exit")


@_primitive("no_op")
def _no_op(c: Context, params: list[Json], action: Action) -> None:
    return


@_primitive("log_msg")
def _log_msg(c: Context, params: list[Json], action: Action) -> None:
    text: str = params[0]["value"]
    values = [expr(c, v, action).code for v in params[1]["value"]]
    c.emit(f"log_msg({quoted(text)}, ({''.join(v + ', ' for v in values)}))")
    c.event("log", quoted(text), f"({''.join(v + ', ' for v in values)})")


@_primitive("assert", "assume")
def _assert(c: Context, params: list[Json], action: Action) -> None:
    with c.block(f"if not {expr(c, params[0], action).code}:"):
        c.emit(f"raise AssertionError({quoted(action.name)})")


def shift_stack(c: Context, name: str, count: int, push: bool) -> None:
    """push_front/pop_front: move elements by `count`, invalidate what is left.

    BMv2 shifts by swapping and then invalidates, but to invalidate a union
    does nothing there: what leaves a union stack comes in at its other end.
    """
    if name in c.p.stacks:
        elements = [(e,) for e in c.p.stacks[name].elements]
    else:
        elements = [u.members for u in c.p.union_stacks[name].elements]
    n, size = c.count(name), len(elements)
    names = [[v for h in e for v in c.header_locals(c.p.headers[h])] for e in elements]
    if push:
        c.emit(f"{n} = min({literal(size)}, {n} + {literal(count)})")
    else:
        c.emit(f"{n} = max(0, {n} - {literal(count)})")
    moves, gone = stack_moves(size, count, push=push)
    if name in c.p.union_stacks:
        order = list(range(size))
        for dst, src in moves:
            order[dst], order[src] = order[src], order[dst]
        if moves:
            targets = ", ".join(v for i in range(size) for v in names[i])
            c.emit(f"{targets} = {', '.join(v for i in order for v in names[i])}")
    else:
        for dst, src in moves:
            c.emit(f"{', '.join(names[dst])} = {', '.join(names[src])}")
        for i in gone:
            for header in elements[i]:
                c.emit(f"{c.var(header, '$valid$')} = 0")
    c.event("push" if push else "pop", quoted(name), literal(min(count, size)))


@_primitive("push")
def _push(c: Context, params: list[Json], action: Action) -> None:
    shift_stack(c, params[0]["value"], params[1]["value"], True)


@_primitive("pop")
def _pop(c: Context, params: list[Json], action: Action) -> None:
    shift_stack(c, params[0]["value"], params[1]["value"], False)


@_primitive("clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress")
def _clone_ingress_pkt_to_egress(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"clone = {expr(c, params[0], action).code} & 32767")
    c.emit(f"clone_fl = {expr(c, params[1], action).code}")


@_primitive("recirculate")
def _recirculate(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"recirc = {expr(c, params[0], action).code}")


@_primitive("resubmit")
def _resubmit(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"resub = {expr(c, params[0], action).code}")


@_primitive("modify_field_with_hash_based_offset")
def _modify_field_with_hash_based_offset(c: Context, params: list[Json], action: Action) -> None:
    base = expr(c, params[1], action)
    size = expr(c, params[3], action)
    calculate(c, params[2]["value"], "h")
    if size.lo is not None and size.lo == size.hi:
        ex = Ex(f"h % {literal(size.lo or 1)}", 0, max(0, (size.lo or 1) - 1))
    else:
        ex = Ex(f"h % ({size.code} or 1)", 0, size.hi)
    if (base.lo, base.hi) != (0, 0):
        hi = None if base.hi is None or ex.hi is None else base.hi + ex.hi
        ex = Ex(f"({ex.code} + {base.code})", 0, hi)
    else:
        ex = Ex(f"({ex.code})", ex.lo, ex.hi)
    assign(c, params[0], ex, action)


@_primitive("keyed_hash")
def _keyed_hash(c: Context, params: list[Json], action: Action) -> None:
    to, *words = params
    prf = c.out("prf", str(len(words) - 2))
    code = f"{prf}({', '.join(expr(c, word, action).code for word in words)})"
    assign(c, to, Ex(code, 0, 0xFFFF_FFFF), action)


@_primitive("modify_field_rng_uniform")
def _modify_field_rng_uniform(c: Context, params: list[Json], action: Action) -> None:
    lo, hi = expr(c, params[1], action), expr(c, params[2], action)
    with c.block(f"if {lo.code} <= {hi.code}:"):
        assign(c, params[0], Ex(f"randint({lo.code}, {hi.code})", lo.lo, hi.hi), action)


@_primitive("generate_digest")
def _generate_digest(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"digest = {expr(c, params[1], action).code} & 65535")


@_primitive("execute_meter")
def _execute_meter(c: Context, params: list[Json], action: Action) -> None:
    meter = c.p.meters[params[0]["value"]]
    with guarded_index(c, expr(c, params[1], action), meter.size) as i:
        c.emit(f"x = {c.out('execute', meter.name)}({i}, L)")
        assign(c, params[2], Ex("x", 0, 2), action)
        c.event("meter", quoted(meter.name), i, "x")


@_primitive("count")
def _count(c: Context, params: list[Json], action: Action) -> None:
    counter = c.p.counters[params[0]["value"]]
    packets, octets = c.out("packets", counter.name), c.out("bytes", counter.name)
    index = expr(c, params[1], action)
    code = guarded_index(c, index, counter.size)
    with code as i:
        c.emit(f"{packets}[{i}] += 1")
        c.emit(f"{octets}[{i}] += L")
        c.event("count", quoted(counter.name), i, f"{packets}[{i}]", f"{octets}[{i}]")


@contextmanager
def guarded_index(c: Context, index: Ex, size: int) -> Generator[str, None, None]:
    """Index that is out of bounds: nothing happens, as in BMv2."""
    positive = index.lo is not None and index.lo >= 0
    if positive and index.hi is not None and index.hi < size:
        yield index.code
        return
    c.emit(f"n = {index.code}")
    with c.block(f"if {'' if positive else '0 <= '}n < {literal(size)}:"):
        yield "n"


@_primitive("register_read")
def _register_read(c: Context, params: list[Json], action: Action) -> None:
    register = c.p.registers[params[1]["value"]]
    with guarded_index(c, expr(c, params[2], action), register.size) as i:
        ex = Ex(f"{c.out('register', register.name)}[{i}]", 0, (1 << register.width) - 1)
        c.event("register", quoted(register.name), i, ex.code, "False")
        assign(c, params[0], ex, action)


@_primitive("register_write")
def _register_write(c: Context, params: list[Json], action: Action) -> None:
    index, value = expr(c, params[1], action), expr(c, params[2], action)
    write_register(c, params[0]["value"], index, value)


def write_register(c: Context, name: str, index: Ex, ex: Ex) -> None:
    register = c.p.registers[name]
    top = (1 << register.width) - 1
    code = ex.code
    if not (ex.lo is not None and ex.lo >= 0 and ex.hi is not None and ex.hi <= top):
        code = f"{code} & {literal(top)}"
    with guarded_index(c, index, register.size) as i:
        cell = f"{c.out('register', name)}[{i}]"
        c.emit(f"{cell} = {code}")
        c.event("register", quoted(name), i, cell, "True")


@_primitive("truncate")
def _truncate(c: Context, params: list[Json], action: Action) -> None:
    c.emit(f"trunc = min(trunc, {expr(c, params[0], action).code})")
    c.event("truncate", "trunc")
