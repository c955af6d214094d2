"""Ingress and egress: the graph of tables and conditionals as nested ifs."""

from __future__ import annotations

from orchestrator.softswitch.codegen.emitter import (
    Ex,
    literal,
    quoted,
)
from orchestrator.softswitch.codegen.parsing import Parsing
from orchestrator.softswitch.ir.program import (
    Action,
    Pipeline,
    Table,
)

_MAX_STEPS = 100_000
_MAX_BLOCKS = 70
"""Nested blocks around a node: CPython indents 100 times, and an action has some of its own."""
_NOWHERE = "\0"
"""A join that no node is: every way out of a node is followed."""


class _IrregularGraph(Exception):
    """A control graph that nested ifs do not express: a loop, or branches nested too deep."""


class Pipelines(Parsing):
    """Control flow, table lookups and the actions they pick."""

    numbers: dict[str, int]

    def pipeline(self, pipe: Pipeline) -> None:
        if pipe.init is None:
            return
        self.pipe = pipe
        self.emitted = 0
        self.numbers = {}
        called = [c.action for c in pipe.calls.values()]
        exits = any(
            prim["op"] == "exit"
            for a in (*(a for t in pipe.tables.values() for a in t.actions), *called)
            for prim in a.primitives
        )
        if exits:
            self.emit("exited = False")
            with self.block("while True:"):
                self.structured(pipe.init)
                self.emit("break")
        else:
            self.structured(pipe.init)

    def structured(self, init: str) -> None:
        """The graph as nested ifs; one that is no such thing (a loop) node by node."""
        mark, depth = len(self.lines), self.depth
        try:
            self.postdom = self.immediate_postdominators(self.pipe)
            self.nodes(init, None)
        except _IrregularGraph:
            del self.lines[mark:]
            self.depth = depth
            self.dispatched(init)

    def dispatched(self, init: str) -> None:
        """Each node as a case of a loop; `at` is the number of the next, 0 the end."""
        pipe = self.pipe
        names = [*pipe.tables, *pipe.conditionals, *pipe.calls]
        self.numbers = {name: i for i, name in enumerate(names, 1)}
        self.emit(f"at = {literal(self.numbers[init])}")
        self.emit("steps = 0")
        with self.block("while at:"):
            self.emit("steps += 1")
            with self.block(f"if steps > {_MAX_STEPS}:"):
                self.emit(f"raise RuntimeError({quoted(f'endless loop in pipeline {pipe.name}')})")
            for name, number in self.numbers.items():
                with self.block(f"{'if' if number == 1 else 'elif'} at == {literal(number)}:"):
                    self.emit("at = 0")
                    self.node(name, _NOWHERE)

    def successors(self, pipe: Pipeline, name: str) -> list[str | None]:
        if name in pipe.conditionals:
            c = pipe.conditionals[name]
            return [c.true_next, c.false_next]
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

    def immediate_postdominators(self, pipe: Pipeline) -> dict[str, str | None]:
        """Node -> the first node that every way from it passes (None: the end)."""
        assert pipe.init is not None
        order: list[str] = []
        left: dict[str, bool] = {}
        way = [pipe.init]
        while way:
            name = way[-1]
            if name not in left:
                left[name] = False
                way += [n for n in self.successors(pipe, name) if n is not None and n not in left]
                continue
            way.pop()
            if not left[name]:
                left[name] = True
                order.append(name)
        doms: dict[str, str | None] = {}
        depth: dict[str | None, int] = {None: 0}
        # Successors come before a node in postorder; the graph is acyclic.
        for name in order:
            nexts = self.successors(pipe, name)
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

    def nodes(self, name: str | None, stop: str | None) -> None:
        """Emit the nodes from `name` up to `stop`, nesting only real branches."""
        if self.numbers:
            if name is not None:
                self.emit(f"at = {literal(self.numbers[name])}")
            return
        while name is not None and name != stop:
            self.emitted += 1
            if self.depth > _MAX_BLOCKS:
                raise _IrregularGraph
            if self.emitted > 20 * (len(self.pipe.tables) + len(self.pipe.conditionals)) + 200:
                raise _IrregularGraph
            join = self.postdom[name]
            self.node(name, join)
            name = join

    def node(self, name: str, join: str | None) -> None:
        if name in self.pipe.conditionals:
            self.conditional(name, join)
        elif name in self.pipe.calls:
            call = self.pipe.calls[name]
            self.event("action", quoted(call.action.name), "()")
            self.primitives(call.action.primitives, call.action)
            if not self.leave(call.action):
                self.nodes(call.next, join)
        else:
            self.table(self.pipe.tables[name], join)

    def conditional(self, name: str, join: str | None) -> None:
        c = self.pipe.conditionals[name]
        self.where = f"conditional {name}"
        cond = self.expr(c.expression).code
        if self.trace:
            self.emit(f"x = {cond}")
            self.event("condition", quoted(name), "bool(x)")
            cond = "x"
        if c.true_next == join and c.false_next == join:
            return
        if c.true_next == join:
            with self.block(f"if not {cond}:"):
                self.nodes(c.false_next, join)
            return
        with self.block(f"if {cond}:"):
            self.nodes(c.true_next, join)
        if c.false_next != join:
            with self.block("else:"):
                self.nodes(c.false_next, join)

    def key_code(self, table: Table) -> str:
        """Lookup key: fields of an invalid header read as 0, as in BMv2."""
        parts: list[str] = []
        owners: list[str] = []
        for k in table.keys:
            code = self.var(k.header, k.field)
            if k.mask is not None:
                code = f"{code} & {literal(k.mask)}"
            f = next((f for f in self.p.headers[k.header].type.fields if f.name == k.field), None)
            if f is not None and f.signed:
                code = f"({code} & {literal((1 << f.width) - 1)})"
            owner = ""
            if k.field != "$valid$" and not self.p.headers[k.header].metadata:
                owner = self.var(k.header, "$valid$")
            parts.append(code)
            owners.append(owner)
        distinct = {o for o in owners if o}
        if len(distinct) == 1 and len(parts) > 1:
            (owner,) = distinct
            absent = ", ".join("0" if o else c for c, o in zip(parts, owners, strict=True))
            return f"({', '.join(parts)}) if {owner} else ({absent})"
        parts = [f"({c} if {o} else 0)" if o else c for c, o in zip(parts, owners, strict=True)]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    def hidden(self, table: Table) -> bool:
        """A table whose only possible result is its constant default action."""
        return (
            not table.keys
            and table.const_default
            and not table.with_counters
            and table.profile is None
        )

    def table(self, table: Table, join: str | None) -> None:
        self.where = f"table {table.name}"
        miss = self.out("miss", table.name)
        if self.hidden(table):
            index = table.action_index(table.default_action)
            action = table.actions[index]
            if action.params:
                args = ", ".join(literal(a) for a in table.default_args)
                names = ", ".join(map(self.argument, range(len(action.params))))
                self.emit(f"{names}, = {args},")
            self.event("table", quoted(table.name), "None", "None")
            self.event(
                "action",
                quoted(action.name),
                f"({''.join(literal(a) + ', ' for a in table.default_args)})",
            )
            self.primitives(action.primitives, action)
            if not self.leave(action):
                self.nodes(self.next_of(table, action, False), join)
            return
        if table.keys:
            self.emit(f"k = {self.key_code(table)}")
            if self.is_exact(table):
                self.emit(f"e = {self.out('probe', table.name)}(k, {miss})")
            else:
                self.emit(f"e = {self.out('probe', table.name)}(k)")
                with self.block("if e is None:"):
                    self.emit(f"e = {self.out('search', table.name)}(k)")
        else:
            self.emit(f"e = {miss}")
        if table.with_counters:
            self.emit("e.n += 1")
            self.emit("e.b += L")
        key = "k" if table.keys else "None"
        self.event("table", quoted(table.name), key, f"None if e is {miss} else e")
        by_hit = "__HIT__" in table.next_tables or "__MISS__" in table.next_tables
        if table.ages:
            self.emit("e.ts = now()")
        if table.meter is not None:
            self.direct_meter(table, miss)
        live = [
            (i, a)
            for i, a in enumerate(table.actions)
            if a.primitives or self.trace or (not by_hit and self.next_of(table, a, True) != join)
        ]
        if by_hit:
            # The action may reuse `e`; the branch needs it afterwards.
            self.emit(f"hit = e is not {miss}")
        if table.profile is not None:
            self.profile_member(table)
        always = len(table.actions) == 1 and table.profile is None
        none_next = table.profile is not None and not by_hit and table.base_next != join
        if live or none_next:
            if len(live) > 1 or not always:
                self.emit("a = e.a")
            keyword = "if"
            for i, action in live:
                if always:
                    self.action(table, action, join, by_hit)
                    continue
                number = i if table.profile is None else self.profile_index(table, action)
                with self.block(f"{keyword} a == {literal(number)}:"):
                    self.action(table, action, join, by_hit)
                keyword = "elif"
            if none_next:
                # No member: a miss, which has no action in a table with a profile.
                with self.block(f"{keyword} a == -1:"):
                    self.nodes(table.base_next, join)
        if by_hit:
            hit = table.next_tables.get("__HIT__", table.base_next)
            miss = table.next_tables.get("__MISS__", table.base_next)
            if hit != join:
                with self.block("if hit:"):
                    self.nodes(hit, join)
                if miss != join:
                    with self.block("else:"):
                        self.nodes(miss, join)
            elif miss != join:
                with self.block("if not hit:"):
                    self.nodes(miss, join)

    def direct_meter(self, table: Table, miss: str) -> None:
        """The hit entry's color, before the action runs; a miss leaves the field alone."""
        assert table.meter is not None
        target = self.p.meters[table.meter].target
        assert target is not None
        with self.block(f"if e is not {miss}:"):
            self.emit("x = e.meter.execute(L) if e.meter is not None else 0")
            self.store(*target, Ex("x", 0, 2))
            self.event("meter", quoted(table.meter), "None", "x")

    def profile_member(self, table: Table) -> None:
        """From the entry to the member whose action runs; a group's is picked by hash."""
        assert table.profile is not None
        self.emit("e = e.args")
        selector = self.p.profiles[table.profile].selector
        if selector is not None:
            with self.block("if e.is_group:"):
                self.calculate(selector, "h")
                self.event("group", quoted(table.profile), "e", "h")
                self.emit("e = e.pick(h)")
        self.event("member", quoted(table.profile), "e")

    def profile_index(self, table: Table, action: Action) -> int:
        """Number of an action among those of all tables that share a profile."""
        assert table.profile is not None
        return self.p.profile_actions(table.profile).index(action.name)

    @staticmethod
    def is_exact(table: Table) -> bool:
        return all(k.kind == "exact" for k in table.keys)

    def next_of(self, table: Table, action: Action, hit: bool) -> str | None:
        if "__HIT__" in table.next_tables or "__MISS__" in table.next_tables:
            return table.next_tables.get("__HIT__" if hit else "__MISS__", table.base_next)
        return table.next_tables.get(action.name, table.base_next)

    def action(self, table: Table, action: Action, join: str | None, by_hit: bool) -> None:
        if action.params:
            names = ", ".join(map(self.argument, range(len(action.params))))
            self.emit(f"{names}, = e.args")
        self.event("action", quoted(action.name), "e.args")
        self.primitives(action.primitives, action)
        if not self.leave(action) and not by_hit:
            self.nodes(self.next_of(table, action, True), join)

    def leave(self, action: Action) -> bool:
        """Leave the pipeline after an action that exits; True if it always does."""
        if not any(p["op"] == "exit" for p in action.primitives):
            return False
        if any(p["op"] in ("_jump", "_jump_if_zero") for p in action.primitives):
            with self.block("if exited:"):
                self.emit("break")
            return False
        self.emit("break")
        return True
