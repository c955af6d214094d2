"""Ingress and egress: the graph of tables and conditionals as nested ifs."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.softswitch.codegen.actions import emit_primitives
from orchestrator.softswitch.codegen.calculations import calculate
from orchestrator.softswitch.codegen.context import Context, Ex, literal, quoted
from orchestrator.softswitch.codegen.expressions import expr, store
from orchestrator.softswitch.ir.program import Action, ControlGraph, Lookup, P4Table, lookup_of

_MAX_STEPS = 100_000
_MAX_BLOCKS = 70
"""Nested blocks around a node: CPython indents 100 times, and an action has some of its own."""
_NOWHERE = "\0"
"""A join that no node is: every way out of a node is followed."""


class _IrregularGraph(Exception):
    """A control graph that nested ifs do not express: a loop, or branches nested too deep."""


@dataclass(slots=True)
class ControlFlow:
    """The graph of a control on its way to nested ifs, or, if `numbers` has its nodes, to a loop."""

    pipe: ControlGraph
    postdom: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    """Node -> the first node that every way from it passes (None: the end)."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    emitted: int = 0


def emit_control(c: Context, pipe: ControlGraph) -> None:
    if pipe.init is None:
        return
    flow = ControlFlow(pipe)
    called = [call.action for call in pipe.calls.values()]
    exits = any(
        prim["op"] == "exit"
        for a in (*(a for t in pipe.tables.values() for a in t.actions), *called)
        for prim in a.primitives
    )
    if exits:
        c.emit("exited = False")
        with c.block("while True:"):
            structured(c, flow, pipe.init)
            c.emit("break")
    else:
        structured(c, flow, pipe.init)


def structured(c: Context, flow: ControlFlow, init: str) -> None:
    """The graph as nested ifs; one that is no such thing (a loop) node by node."""
    mark, depth = len(c.lines), c.depth
    try:
        flow.postdom = immediate_postdominators(flow.pipe)
        emit_nodes(c, flow, init, None)
    except _IrregularGraph:
        del c.lines[mark:]
        c.depth = depth
        dispatched(c, flow, init)


def dispatched(c: Context, flow: ControlFlow, init: str) -> None:
    """Each node as a case of a loop; `at` is the number of the next, 0 the end."""
    pipe = flow.pipe
    names = [*pipe.tables, *pipe.conditionals, *pipe.calls]
    flow.numbers = {name: i for i, name in enumerate(names, 1)}
    c.emit(f"at = {literal(flow.numbers[init])}")
    c.emit("steps = 0")
    with c.block("while at:"):
        c.emit("steps += 1")
        with c.block(f"if steps > {_MAX_STEPS}:"):
            c.emit(f"raise RuntimeError({quoted(f'endless loop in pipeline {pipe.name}')})")
        for name, number in flow.numbers.items():
            with c.block(f"{'if' if number == 1 else 'elif'} at == {literal(number)}:"):
                c.emit("at = 0")
                emit_node(c, flow, name, _NOWHERE)


def successors(pipe: ControlGraph, name: str) -> list[str | None]:
    if name in pipe.conditionals:
        node = pipe.conditionals[name]
        return [node.true_next, node.false_next]
    if name in pipe.calls:
        return [pipe.calls[name].next]
    t = pipe.tables[name]
    nexts = list(dict.fromkeys(t.next_tables.values()))
    if "__HIT__" in t.next_tables or "__MISS__" in t.next_tables:
        nexts = [
            t.next_tables.get("__HIT__", t.base_next),
            t.next_tables.get("__MISS__", t.base_next),
        ]
    if t.profile is not None and t.base_next not in nexts:
        nexts.append(t.base_next)
    return nexts or [t.base_next]


def immediate_postdominators(pipe: ControlGraph) -> dict[str, str | None]:
    """Node -> the first node that every way from it passes (None: the end)."""
    assert pipe.init is not None
    order: list[str] = []
    left: dict[str, bool] = {}
    way = [pipe.init]
    while way:
        name = way[-1]
        if name not in left:
            left[name] = False
            way += [n for n in successors(pipe, name) if n is not None and n not in left]
            continue
        way.pop()
        if not left[name]:
            left[name] = True
            order.append(name)
    doms: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    # Successors come before a node in postorder; the graph is acyclic.
    for name in order:
        nexts = successors(pipe, name)
        if any(n not in depth for n in nexts):
            raise _IrregularGraph
        at = nexts[0]
        for other in nexts[1:]:
            # Up from the deeper one, until the two ways meet (Cooper, Harvey, Kennedy).
            while at != other:
                if depth[at] < depth[other]:
                    at, other = other, at
                assert at is not None
                at = doms[at]
        doms[name] = at
        depth[name] = depth[at] + 1
    return doms


def emit_nodes(c: Context, flow: ControlFlow, name: str | None, stop: str | None) -> None:
    """Emit the nodes from `name` up to `stop`, nesting only real branches."""
    if flow.numbers:
        if name is not None:
            c.emit(f"at = {literal(flow.numbers[name])}")
        return
    while name is not None and name != stop:
        flow.emitted += 1
        if c.depth > _MAX_BLOCKS:
            raise _IrregularGraph
        if flow.emitted > 20 * (len(flow.pipe.tables) + len(flow.pipe.conditionals)) + 200:
            raise _IrregularGraph
        join = flow.postdom[name]
        emit_node(c, flow, name, join)
        name = join


def emit_node(c: Context, flow: ControlFlow, name: str, join: str | None) -> None:
    if name in flow.pipe.conditionals:
        emit_conditional(c, flow, name, join)
    elif name in flow.pipe.calls:
        call = flow.pipe.calls[name]
        c.event("action", quoted(call.action.name), "()")
        emit_primitives(c, call.action.primitives, call.action)
        if not leave_control(c, call.action):
            emit_nodes(c, flow, call.next, join)
    else:
        emit_table(c, flow, flow.pipe.tables[name], join)


def emit_conditional(c: Context, flow: ControlFlow, name: str, join: str | None) -> None:
    node = flow.pipe.conditionals[name]
    c.where = f"conditional {name}"
    cond = expr(c, node.expression).code
    if c.trace:
        c.emit(f"x = {cond}")
        c.event("condition", quoted(name), "bool(x)")
        cond = "x"
    if node.true_next == join and node.false_next == join:
        return
    if node.true_next == join:
        with c.block(f"if not {cond}:"):
            emit_nodes(c, flow, node.false_next, join)
        return
    with c.block(f"if {cond}:"):
        emit_nodes(c, flow, node.true_next, join)
    if node.false_next != join:
        with c.block("else:"):
            emit_nodes(c, flow, node.false_next, join)


def key_code(c: Context, table: P4Table) -> str:
    """Lookup key: fields of an invalid header read as 0, as in BMv2."""
    parts: list[str] = []
    owners: list[str] = []
    for k in table.keys:
        code = c.var(k.header, k.field)
        if k.mask is not None:
            code = f"{code} & {literal(k.mask)}"
        f = next((f for f in c.p.headers[k.header].type.fields if f.name == k.field), None)
        if f is not None and f.signed:
            code = f"({code} & {literal((1 << f.width) - 1)})"
        owner = ""
        if k.field != "$valid$" and not c.p.headers[k.header].metadata:
            owner = c.var(k.header, "$valid$")
        parts.append(code)
        owners.append(owner)
    distinct = {o for o in owners if o}
    if len(distinct) == 1 and len(parts) > 1:
        (owner,) = distinct
        absent = ", ".join("0" if o else code for code, o in zip(parts, owners, strict=True))
        return f"({', '.join(parts)}) if {owner} else ({absent})"
    parts = [
        f"({code} if {o} else 0)" if o else code for code, o in zip(parts, owners, strict=True)
    ]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def hidden(table: P4Table) -> bool:
    """A table whose only possible result is its constant default action."""
    return (
        not table.keys and table.const_default and not table.with_counters and table.profile is None
    )


def emit_table(c: Context, flow: ControlFlow, table: P4Table, join: str | None) -> None:
    """The lookup, the action that it picks, and the way on."""
    c.where = f"table {table.name}"
    miss = c.out("miss", table.name)
    if hidden(table):
        _constant_action(c, flow, table, join)
        return
    _lookup(c, table, miss)
    by_hit = "__HIT__" in table.next_tables or "__MISS__" in table.next_tables
    if by_hit:
        # The action may reuse `e`; the branch needs it afterwards.
        c.emit(f"hit = e is not {miss}")
    if table.profile is not None:
        profile_member(c, table)
    _picked_action(c, flow, table, join, by_hit)
    if by_hit:
        _branch_by_hit(c, flow, table, join)


def _constant_action(c: Context, flow: ControlFlow, table: P4Table, join: str | None) -> None:
    action = table.actions[table.action_index(table.default_action)]
    if action.params:
        args = ", ".join(literal(a) for a in table.default_args)
        names = ", ".join(map(c.argument, range(len(action.params))))
        c.emit(f"{names}, = {args},")
    c.event("table", quoted(table.name), "None", "None")
    c.event(
        "action",
        quoted(action.name),
        f"({''.join(literal(a) + ', ' for a in table.default_args)})",
    )
    emit_primitives(c, action.primitives, action)
    if not leave_control(c, action):
        emit_nodes(c, flow, next_of(table, action, False), join)


def _lookup(c: Context, table: P4Table, miss: str) -> None:
    """Emit `e`, the entry found, and what is counted and measured with it."""
    if table.keys:
        c.emit(f"k = {key_code(c, table)}")
        if is_exact(table):
            c.emit(f"e = {c.out('probe', table.name)}(k, {miss})")
        else:
            c.emit(f"e = {c.out('probe', table.name)}(k)")
            with c.block("if e is None:"):
                c.emit(f"e = {c.out('search', table.name)}(k)")
    else:
        c.emit(f"e = {miss}")
    if table.with_counters:
        c.emit("e.n += 1")
        c.emit("e.b += L")
    key = "k" if table.keys else "None"
    c.event("table", quoted(table.name), key, f"None if e is {miss} else e")
    if table.ages:
        c.emit("e.ts = now()")
    if table.meter is not None:
        direct_meter(c, table, miss)


def _picked_action(
    c: Context, flow: ControlFlow, table: P4Table, join: str | None, by_hit: bool
) -> None:
    live = [
        (i, a)
        for i, a in enumerate(table.actions)
        if a.primitives or c.trace or (not by_hit and next_of(table, a, True) != join)
    ]
    always = len(table.actions) == 1 and table.profile is None
    none_next = table.profile is not None and not by_hit and table.base_next != join
    if not live and not none_next:
        return
    if len(live) > 1 or not always:
        c.emit("a = e.a")
    keyword = "if"
    for i, action in live:
        if always:
            emit_action(c, flow, table, action, join, by_hit)
            continue
        number = i if table.profile is None else profile_index(c, table, action)
        with c.block(f"{keyword} a == {literal(number)}:"):
            emit_action(c, flow, table, action, join, by_hit)
        keyword = "elif"
    if none_next:
        # No member: a miss, which has no action in a table with a profile.
        with c.block(f"{keyword} a == -1:"):
            emit_nodes(c, flow, table.base_next, join)


def _branch_by_hit(c: Context, flow: ControlFlow, table: P4Table, join: str | None) -> None:
    hit = table.next_tables.get("__HIT__", table.base_next)
    miss = table.next_tables.get("__MISS__", table.base_next)
    if hit != join:
        with c.block("if hit:"):
            emit_nodes(c, flow, hit, join)
        if miss != join:
            with c.block("else:"):
                emit_nodes(c, flow, miss, join)
    elif miss != join:
        with c.block("if not hit:"):
            emit_nodes(c, flow, miss, join)


def direct_meter(c: Context, table: P4Table, miss: str) -> None:
    """The hit entry's color, before the action runs; a miss leaves the field alone."""
    assert table.meter is not None
    target = c.p.meters[table.meter].target
    assert target is not None
    with c.block(f"if e is not {miss}:"):
        c.emit("x = e.meter.execute(L) if e.meter is not None else 0")
        store(c, *target, Ex("x", 0, 2))
        c.event("meter", quoted(table.meter), "None", "x")


def profile_member(c: Context, table: P4Table) -> None:
    """From the entry to the member whose action runs; a group's is picked by hash."""
    assert table.profile is not None
    c.emit("e = e.args")
    selector = c.p.profiles[table.profile].selector
    if selector is not None:
        with c.block("if e.is_group:"):
            calculate(c, selector, "h")
            c.event("group", quoted(table.profile), "e", "h")
            c.emit("e = e.pick(h)")
    c.event("member", quoted(table.profile), "e")


def profile_index(c: Context, table: P4Table, action: Action) -> int:
    """Number of an action among those of all tables that share a profile."""
    assert table.profile is not None
    return c.p.profile_actions(table.profile).index(action.name)


def is_exact(table: P4Table) -> bool:
    return lookup_of(table.keys) is Lookup.EXACT


def next_of(table: P4Table, action: Action, hit: bool) -> str | None:
    if "__HIT__" in table.next_tables or "__MISS__" in table.next_tables:
        return table.next_tables.get("__HIT__" if hit else "__MISS__", table.base_next)
    return table.next_tables.get(action.name, table.base_next)


def emit_action(
    c: Context, flow: ControlFlow, table: P4Table, action: Action, join: str | None, by_hit: bool
) -> None:
    if action.params:
        names = ", ".join(map(c.argument, range(len(action.params))))
        c.emit(f"{names}, = e.args")
    c.event("action", quoted(action.name), "e.args")
    emit_primitives(c, action.primitives, action)
    if not leave_control(c, action) and not by_hit:
        emit_nodes(c, flow, next_of(table, action, True), join)


def leave_control(c: Context, action: Action) -> bool:
    """Leave the pipeline after an action that exits; True if it always does."""
    if not any(p["op"] == "exit" for p in action.primitives):
        return False
    if any(p["op"] in ("_jump", "_jump_if_zero") for p in action.primitives):
        with c.block("if exited:"):
            c.emit("break")
        return False
    c.emit("break")
    return True
