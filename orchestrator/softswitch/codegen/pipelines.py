"""Ingress and egress: the graph of tables and conditionals as nested ifs."""

from __future__ import annotations

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.codegen.emitter import (
    ident,
    literal,
)
from orchestrator.softswitch.codegen.parsing import Parsing
from orchestrator.softswitch.program import (
    Action,
    Pipeline,
    Table,
)


class Pipelines(Parsing):
    """Control flow, table lookups and the actions they pick."""

    def pipeline(self, pipe: Pipeline) -> None:
        if pipe.init is None:
            return
        self.pipe = pipe
        self.postdom = self.immediate_postdominators(pipe)
        self.emitted = 0
        exits = any(
            prim["op"] == "exit"
            for t in pipe.tables.values()
            for a in t.actions
            for prim in a.primitives
        )
        if exits:
            self.emit("exited = False")
            with self.block("while True:"):
                self.nodes(pipe.init, None)
                self.emit("break")
        else:
            self.nodes(pipe.init, None)

    def successors(self, pipe: Pipeline, name: str) -> list[str | None]:
        if name in pipe.conditionals:
            c = pipe.conditionals[name]
            return [c.true_next, c.false_next]
        t = pipe.tables[name]
        nexts = list(dict.fromkeys(t.next_tables.values()))
        if "__HIT__" in t.next_tables or "__MISS__" in t.next_tables:
            nexts = [
                t.next_tables.get("__HIT__", t.base_next),
                t.next_tables.get("__MISS__", t.base_next),
            ]
        return nexts or [t.base_next]

    def immediate_postdominators(self, pipe: Pipeline) -> dict[str, str | None]:
        """Node -> the first node that every way from it passes (None: the end)."""
        order: list[str] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            seen.add(name)
            for nxt in self.successors(pipe, name):
                if nxt is not None and nxt not in seen:
                    visit(nxt)
            order.append(name)

        assert pipe.init is not None
        visit(pipe.init)
        doms: dict[str, list[str]] = {}
        # Successors come before a node in postorder; the graph is acyclic.
        for name in order:
            paths: list[list[str]] = []
            for nxt in self.successors(pipe, name):
                if nxt is None:
                    paths.append([])
                else:
                    if nxt not in doms:
                        raise self.refuse(f"loop in pipeline {pipe.name} at {name}")
                    paths.append([nxt, *doms[nxt]])
            common = [n for n in paths[0] if all(n in p for p in paths[1:])]
            doms[name] = common
        return {name: (d[0] if d else None) for name, d in doms.items()}

    def nodes(self, name: str | None, stop: str | None) -> None:
        """Emit the nodes from `name` up to `stop`, nesting only real branches."""
        while name is not None and name != stop:
            self.emitted += 1
            if self.emitted > 20 * (len(self.pipe.tables) + len(self.pipe.conditionals)) + 200:
                raise UnsupportedFeature(
                    f"BMv2 JSON: pipeline {self.pipe.name}: control flow too irregular at {name}"
                )
            join = self.postdom[name]
            if name in self.pipe.conditionals:
                self.conditional(name, join)
            else:
                self.table(self.pipe.tables[name], join)
            name = join

    def conditional(self, name: str, join: str | None) -> None:
        c = self.pipe.conditionals[name]
        self.where = f"conditional {name}"
        cond = self.expr(c.expression).code
        if self.trace:
            self.emit(f"x = {cond}")
            self.event("condition", repr(name), "bool(x)")
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
        return not table.keys and table.const_default and not table.with_counters

    def table(self, table: Table, join: str | None) -> None:
        self.where = f"table {table.name}"
        name = ident(table.name)
        if self.hidden(table):
            index = table.action_index(table.default_action)
            action = table.actions[index]
            if action.params:
                args = ", ".join(str(a) for a in table.default_args)
                self.emit(", ".join(f"p{i}" for i in range(len(action.params))) + f", = {args},")
            self.event("table", repr(table.name), "None", "None")
            self.event("action", repr(action.name), repr(list(table.default_args)))
            self.primitives(action.primitives, action)
            if not self.leave(action):
                self.nodes(self.next_of(table, action, False), join)
            return
        if table.keys:
            self.emit(f"k = {self.key_code(table)}")
            if self.is_exact(table):
                self.emit(f"e = probe_{name}(k, miss_{name})")
            else:
                self.emit(f"e = probe_{name}(k)")
                with self.block("if e is None:"):
                    self.emit(f"e = search_{name}(k)")
        else:
            self.emit(f"e = miss_{name}")
        if table.with_counters:
            self.emit("e.n += 1")
            self.emit("e.b += L")
        key = "k" if table.keys else "None"
        self.event("table", repr(table.name), key, f"None if e is miss_{name} else e")
        by_hit = "__HIT__" in table.next_tables or "__MISS__" in table.next_tables
        live = [
            (i, a)
            for i, a in enumerate(table.actions)
            if a.primitives or self.trace or (not by_hit and self.next_of(table, a, True) != join)
        ]
        if by_hit:
            # The action may reuse `e`; the branch needs it afterwards.
            self.emit(f"hit = e is not miss_{name}")
        if live:
            if len(live) > 1 or len(table.actions) > 1:
                self.emit("a = e.a")
            keyword = "if"
            for i, action in live:
                if len(table.actions) == 1:
                    self.action(table, action, join, by_hit)
                    continue
                with self.block(f"{keyword} a == {i}:"):
                    self.action(table, action, join, by_hit)
                keyword = "elif"
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

    @staticmethod
    def is_exact(table: Table) -> bool:
        return all(k.kind == "exact" for k in table.keys)

    def next_of(self, table: Table, action: Action, hit: bool) -> str | None:
        if "__HIT__" in table.next_tables or "__MISS__" in table.next_tables:
            return table.next_tables.get("__HIT__" if hit else "__MISS__", table.base_next)
        return table.next_tables.get(action.name, table.base_next)

    def action(self, table: Table, action: Action, join: str | None, by_hit: bool) -> None:
        if action.params:
            names = ", ".join(f"p{i}" for i in range(len(action.params)))
            self.emit(f"{names}, = e.args")
        self.event("action", repr(action.name), "e.args")
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
