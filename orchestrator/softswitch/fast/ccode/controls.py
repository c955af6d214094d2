"""Ingress and egress: a label a node of the graph, so that each is there once."""

from __future__ import annotations

from orchestrator.softswitch.codegen.controls import hidden, next_of
from orchestrator.softswitch.fast.ccode.calculations import calculate
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.expressions import expr, field, load_words, store
from orchestrator.softswitch.fast.ccode.kinds import (
    U64,
    CType,
    Value,
    kind_of_bits,
    literal,
    masked_code,
    packed_words,
    to,
    truth,
    words_of_bits,
)
from orchestrator.softswitch.fast.ccode.statements import emit_primitives
from orchestrator.softswitch.ir.program import Action, ControlGraph, Lookup, P4Table, lookup_of

HIT, MISS = "__HIT__", "__MISS__"


class _Graph:
    """A control's nodes by number, in an order in which most jumps lead forward."""

    def __init__(self, pipe: ControlGraph) -> None:
        self.pipe = pipe
        self.end = f"end_of_{pipe.name}"
        self.numbers = {
            name: i for i, name in enumerate((*pipe.tables, *pipe.conditionals, *pipe.calls))
        }
        self.order = self._order()
        self.place = {name: i for i, name in enumerate(self.order)}

    def _order(self) -> list[str]:
        done: list[str] = []
        entered: set[str] = set()
        way: list[tuple[str, bool]] = [(self.pipe.init, False)] if self.pipe.init else []
        while way:
            name, left = way.pop()
            if left:
                done.append(name)
            elif name not in entered:
                entered.add(name)
                way.append((name, True))
                way += [(n, False) for n in self.following(name) if n is not None]
        return done[::-1]

    def following(self, name: str) -> list[str | None]:
        pipe = self.pipe
        if name in pipe.conditionals:
            node = pipe.conditionals[name]
            return [node.true_next, node.false_next]
        if name in pipe.calls:
            return [pipe.calls[name].next]
        table = pipe.tables[name]
        return [*table.next_tables.values(), table.base_next]

    def label(self, name: str) -> str:
        return f"{self.pipe.name}_{self.numbers[name]}"


def emit_control(c: CContext, pipe: ControlGraph) -> None:
    if pipe.init is None:
        return
    graph = _Graph(pipe)
    actions = [*(a for t in pipe.tables.values() for a in t.actions)]
    actions += [call.action for call in pipe.calls.values()]
    if any(prim["op"] == "exit" for a in actions for prim in a.primitives):
        c.emit("exited = false;")
    for i, name in enumerate(graph.order):
        c.label(graph.label(name))
        with c.block(""):
            _node(c, graph, i, name)
    c.label(graph.end)


def _go(c: CContext, graph: _Graph, here: int, name: str | None) -> None:
    """On to the next node; no jump where it stands right behind."""
    if name is None:
        c.goto(graph.end)
    elif graph.place[name] <= here:
        c.backward(graph.label(name))
    else:
        c.goto(graph.label(name))


def _node(c: CContext, graph: _Graph, here: int, name: str) -> None:
    pipe = graph.pipe
    if name in pipe.conditionals:
        node = pipe.conditionals[name]
        c.where = f"conditional {name}"
        with c.block(f"if ({truth(expr(c, node.expression))})"):
            _go(c, graph, here, node.true_next)
        _go(c, graph, here, node.false_next)
    elif name in pipe.calls:
        call = pipe.calls[name]
        _run(c, graph, call.action)
        _go(c, graph, here, call.next)
    else:
        _table(c, graph, here, pipe.tables[name])


def _run(c: CContext, graph: _Graph, action: Action) -> None:
    """An action, and out of the control if it exits."""
    emit_primitives(c, action.primitives, action)
    if any(p["op"] == "exit" for p in action.primitives):
        c.emit(f"if (exited) goto {graph.end};")


def _table(c: CContext, graph: _Graph, here: int, table: P4Table) -> None:
    c.where = f"table {table.name}"
    by_hit = HIT in table.next_tables or MISS in table.next_tables
    if hidden(table):
        action = table.actions[table.action_index(table.default_action)]
        with c.block(""):
            for i, (param, value) in enumerate(zip(action.params, table.default_args, strict=True)):
                kind = kind_of_bits(param.width)
                c.emit(f"{kind.name} {c.argument(i)} = {literal(value, kind)};")
                c.emit(f"(void){c.argument(i)};")
            _run(c, graph, action)
        _go(c, graph, here, next_of(table, action, False))
        return
    _lookup(c, table)
    if by_hit:
        c.emit(f"bool hit = e != d->tables[{c.table_number[table.name]}].miss;")
    following = {next_of(table, a, True) for a in table.actions}
    chosen, args = "e->action", "e->args"
    numbers = {a.name: i for i, a in enumerate(table.actions)}
    if table.profile is not None:
        following.add(table.base_next)  # of a miss, which has no action here
        chosen, args = _choose(c, table.profile), "call + 1"
        numbers = {name: i for i, name in enumerate(c.p.profile_actions(table.profile))}
    with c.block(f"switch ({chosen})"):
        for action in table.actions:
            if not action.primitives and not by_hit and len(following) == 1:
                continue
            with c.block(f"case {numbers[action.name]}:"):
                _arguments(c, action, args)
                _run(c, graph, action)
                if by_hit:
                    c.emit("break;")
                else:
                    _go(c, graph, here, next_of(table, action, True))
    if by_hit:
        with c.block("if (hit)"):
            _go(c, graph, here, table.next_tables.get(HIT, table.base_next))
        _go(c, graph, here, table.next_tables.get(MISS, table.base_next))
    elif len(following) == 1:
        _go(c, graph, here, next(iter(following)))
    else:
        _go(c, graph, here, table.base_next)


def _choose(c: CContext, profile: str) -> str:
    """Emit `call`, the member that an entry refers to or a group's that a hash picks; its action."""
    c.emit(f"const struct choice *choice = choice_of(d, e, {c.profile_number[profile]});")
    c.emit("const u64 *call = no_call;")
    selector = c.p.profiles[profile].selector
    with c.block("if (choice)"):
        c.emit("u64 h = 0;")
        if selector is not None:
            with c.block("if (choice->is_group)"):
                calculate(c, selector, "h")
        c.emit("call = call_of(choice, h);")
    return "(u32)call[0]"


def _arguments(c: CContext, action: Action, args: str) -> None:
    """An action's arguments, which are words at `args`, as locals."""
    at = 0
    for i, param in enumerate(action.params):
        kind, words = kind_of_bits(param.width), words_of_bits(param.width)
        c.emit(f"{kind.name} {c.argument(i)} = {load_words(kind, f'{args} + {at}', words)};")
        c.emit(f"(void){c.argument(i)};")
        at += words


def _lookup(c: CContext, table: P4Table) -> None:
    """Emit `e`, the entry found, and what is counted and measured with it."""
    t = f"d->tables[{c.table_number[table.name]}]"
    if not table.keys:
        c.emit(f"struct entry *e = {t}.miss;")
    else:
        words = _key(c, table)
        exact = lookup_of(table.keys) is Lookup.EXACT
        c.emit(f"struct entry *e = {'exact' if exact else 'memo'}_find(&{t}, key, {words});")
    if table.with_counters:
        c.emit("e->packets++;")
        c.emit("e->bytes += size;")
    if table.ages:
        c.emit("e->used_us = d->now_us;")
    if table.meter is not None:
        target = c.p.meters[table.meter].target
        assert target is not None
        with c.block(f"if (e != {t}.miss)"):
            color = Value("((u64)meter_execute(e->meter, d->now_us, size))", U64, 0, 2)
            store(c, *target, color)


def _key(c: CContext, table: P4Table) -> int:
    """Emit `key`, the fields packed into words; fields of an invalid header read as 0, as in BMv2."""
    fields: list[tuple[str, CType, int]] = []
    for i, k in enumerate(table.keys):
        value = field(c, k.header, k.field)
        kind = kind_of_bits(k.width)
        code = to(value, kind)
        if k.mask is not None:
            code = masked_code(code, kind, k.mask)
        elif value.lo is None or value.lo < 0:
            code = masked_code(code, kind, (1 << k.width) - 1)
        if k.field != "$valid$" and not c.p.headers[k.header].metadata:
            code = f"({c.var(k.header, '$valid$')} ? {code} : {literal(0, kind)})"
        local = c.fresh(f"key{i}_")
        c.emit(f"{kind.name} {local} = {code};")
        fields.append((local, kind, k.width))
    words = packed_words(fields)
    c.emit(f"const u64 key[{len(words)}] = {{{', '.join(words)}}};")
    return len(words)
