"""Action bodies: one `do_<primitive>` a primitive; jumps turned back into if/else or a loop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.calculations import Calculations
from orchestrator.softswitch.codegen.emitter import (
    Ex,
    literal,
    quoted,
)
from orchestrator.softswitch.ir.program import (
    Action,
    Json,
)

_MAX_JUMPS = 100_000


class _IrregularJump(Exception):
    """An action's jumps form no if/else (a loop)."""


class Actions(Calculations):
    """Primitives, in actions as in parser states."""

    def primitives(self, prims: tuple[Json, ...], action: Action) -> None:
        """Emit an action's body: structured where its jumps allow it."""
        mark, depth = len(self.lines), self.depth
        try:
            self.block_of(prims, 0, len(prims), action)
        except _IrregularJump:
            del self.lines[mark:]
            self.depth = depth
            self.jumps(prims, action)

    def jumps(self, prims: tuple[Json, ...], action: Action) -> None:
        """Primitives with loops: basic blocks picked by `pc`, a bounded number of them."""
        starts = {0}
        for i, prim in enumerate(prims):
            if prim["op"] in ("_jump", "_jump_if_zero"):
                starts |= {i + 1, prim["parameters"][-1]["value"]}
        order = sorted(n for n in starts if n < len(prims))
        self.emit("pc = steps = 0")
        with self.block(f"while pc < {literal(len(prims))}:"):
            self.emit("steps += 1")
            with self.block(f"if steps > {_MAX_JUMPS}:"):
                self.emit(f"raise RuntimeError({quoted(f'endless loop in action {action.name}')})")
            for n, start in enumerate(order):
                end = order[n + 1] if n + 1 < len(order) else len(prims)
                with self.block(f"{'if' if n == 0 else 'elif'} pc == {literal(start)}:"):
                    for prim in prims[start : end - 1]:
                        self.primitive(prim, action)
                    last = prims[end - 1]
                    target = literal(end)
                    if last["op"] == "_jump":
                        target = literal(last["parameters"][0]["value"])
                    elif last["op"] == "_jump_if_zero":
                        cond = self.expr(last["parameters"][0], action).code
                        zero = literal(last["parameters"][1]["value"])
                        target = f"{literal(end)} if {cond} else {zero}"
                    else:
                        self.primitive(last, action)
                    self.emit(f"pc = {target}")

    def block_of(self, prims: tuple[Json, ...], start: int, end: int, action: Action) -> None:
        """Primitives [start, end) with forward jumps turned back into if/else."""
        i = start
        while i < end:
            prim = prims[i]
            if prim["op"] == "_jump":
                target = prim["parameters"][0]["value"]
                if target != end:
                    raise _IrregularJump
                return
            if prim["op"] != "_jump_if_zero":
                self.primitive(prim, action)
                i += 1
                continue
            cond = self.expr(prim["parameters"][0], action).code
            target = prim["parameters"][1]["value"]
            if not i < target <= end:
                raise _IrregularJump
            last = prims[target - 1]
            stop = target
            if last["op"] == "_jump" and target - 1 > i:
                stop = last["parameters"][0]["value"]
                if not target <= stop <= end:
                    raise _IrregularJump
            with self.block(f"if {cond}:"):
                self.block_of(prims, i + 1, target - 1 if stop != target else target, action)
            if stop != target:
                with self.block("else:"):
                    self.block_of(prims, target, stop, action)
            i = stop

    def primitive(self, prim: Json, action: Action) -> None:
        op, params = prim["op"], prim["parameters"]
        self.where = f"action {action.name}: {op}"
        handler: Callable[[list[Json], Action], None] | None = getattr(
            self, "do_" + op.lstrip("_"), None
        )
        if handler is None:
            raise self.refuse(f"primitive '{op}'")
        handler(params, action)

    def do_assign(self, params: list[Json], action: Action) -> None:
        dst = params[0]
        self.assign(dst, self.expr(params[1], action), action)

    def assign(self, dst: Json, ex: Ex, action: Action) -> None:
        """Store into a field, or into a field of a header picked at run time."""
        if dst["type"] == "field" and isinstance(dst["value"][0], str):
            self.store(dst["value"][0], dst["value"][1], ex)
            return
        if dst["type"] == "register":
            self.write_register(dst["value"][0], self.expr(dst["value"][1], action), ex)
            return
        if dst["type"] == "stack_field":
            stack, field = dst["value"]
            self.emit(f"x = {ex.code}")
            last = Ex(f"{self.count(stack)} - 1", None, None)
            elements = self.p.stacks[stack].elements
            self.each(last, elements, lambda name: self.store(name, field, Ex("x", ex.lo, ex.hi)))
            return
        if dst["type"] == "field":
            node, field = dst["value"]
            at, names = self.headers(node, action)
        else:
            node = self.unwrapped(dst)
            if node.get("op") != "access_field":
                raise self.refuse(f"assignment to a {dst['type']} '{node.get('op', '')}'")
            at, names = self.headers(node["left"], action)
            offset: int = node["right"]
            field = self.p.headers[names[0]].type.fields[offset].name
        if at is None:
            self.store(names[0], field, ex)
            return
        self.emit(f"x = {ex.code}")
        self.each(at, names, lambda name: self.store(name, field, Ex("x", ex.lo, ex.hi)))

    def each(
        self,
        at: Ex | None,
        names: tuple[str, ...],
        body: Callable[[str], None],
        index: str = "i",
    ) -> None:
        """`body` for the header that an index picks; beyond the stack nothing happens."""
        if at is None:
            body(names[0])
            return
        self.emit(f"{index} = {at.code}")
        for i, name in enumerate(names):
            with self.block(f"{'if' if i == 0 else 'elif'} {index} == {literal(i)}:"):
                body(name)

    def do_assign_VL(self, params: list[Json], action: Action) -> None:
        (dh, df), (sh, sf) = params[0]["value"], params[1]["value"]
        self.emit(f"{self.var(dh, df)} = {self.var(sh, sf)}")
        self.dirty(dh)

    def do_assign_header(self, params: list[Json], action: Action) -> None:
        dst_at, dst = self.headers(params[0], action)
        src_at, src = self.headers(params[1], action)

        def from_source(to: str) -> None:
            self.each(src_at, src, lambda name: self.copy_header(to, name), "j")

        self.each(dst_at, dst, from_source)

    def do_assign_header_stack(self, params: list[Json], action: Action) -> None:
        dst, src = self.p.stacks[params[0]["value"]], self.p.stacks[params[1]["value"]]
        self.emit(f"{self.count(dst.name)} = {self.count(src.name)}")
        for d, s in zip(dst.elements, src.elements, strict=True):
            self.copy_header(d, s)

    def do_assign_union(self, params: list[Json], action: Action) -> None:
        dst_at, dst = self.unions(params[0], action)
        src_at, src = self.unions(params[1], action)
        # Unions of one type: members at one place correspond.
        dst_names = tuple(str(i) for i in range(len(dst)))
        src_names = tuple(str(i) for i in range(len(src)))

        def from_source(to: str) -> None:
            def copy(name: str) -> None:
                for d, s in zip(dst[int(to)].members, src[int(name)].members, strict=True):
                    self.copy_header(d, s)

            self.each(src_at, src_names, copy, "j")

        self.each(dst_at, dst_names, from_source)

    def do_assign_union_stack(self, params: list[Json], action: Action) -> None:
        dst = self.p.union_stacks[params[0]["value"]]
        src = self.p.union_stacks[params[1]["value"]]
        self.emit(f"{self.count(dst.name)} = {self.count(src.name)}")
        for d, s in zip(dst.elements, src.elements, strict=True):
            for to, name in zip(d.members, s.members, strict=True):
                self.copy_header(to, name)

    def do_add_header(self, params: list[Json], action: Action) -> None:
        self.each(*self.headers(params[0], action), self.add_header)

    do_add_header_fast = do_add_header

    def do_remove_header(self, params: list[Json], action: Action) -> None:
        self.each(*self.headers(params[0], action), self.remove_header)

    def do_mark_to_drop(self, params: list[Json], action: Action) -> None:
        self.emit(f"{self.sm('egress_spec')} = {self.drop_port}")
        if self.has_meta("mcast_grp"):
            self.emit(f"{self.sm('mcast_grp')} = 0")
        self.event("mark_to_drop")

    do_drop = do_mark_to_drop

    def do_exit(self, params: list[Json], action: Action) -> None:
        self.emit("exited = True")
        self.event("exit")

    def do_no_op(self, params: list[Json], action: Action) -> None:
        return

    def do_log_msg(self, params: list[Json], action: Action) -> None:
        text: str = params[0]["value"]
        values = [self.expr(v, action).code for v in params[1]["value"]]
        self.emit(f"log_msg({quoted(text)}, ({''.join(v + ', ' for v in values)}))")
        self.event("log", quoted(text), f"({''.join(v + ', ' for v in values)})")

    def do_assert(self, params: list[Json], action: Action) -> None:
        with self.block(f"if not {self.expr(params[0], action).code}:"):
            self.emit(f"raise AssertionError({quoted(action.name)})")

    do_assume = do_assert

    def shift_stack(self, name: str, count: int, push: bool) -> None:
        """push_front/pop_front: move elements by `count`, invalidate what is left.

        BMv2 shifts by swapping and then invalidates, but to invalidate a union
        does nothing there: what leaves a union stack comes in at its other end.
        """
        if name in self.p.stacks:
            elements = [(e,) for e in self.p.stacks[name].elements]
        else:
            elements = [u.members for u in self.p.union_stacks[name].elements]
        n, size = self.count(name), len(elements)
        names = [[v for h in e for v in self.header_locals(self.p.headers[h])] for e in elements]
        if push:
            self.emit(f"{n} = min({literal(size)}, {n} + {literal(count)})")
        else:
            self.emit(f"{n} = max(0, {n} - {literal(count)})")
        count = min(count, size)
        if push:
            moves = [(i, i - count) for i in range(size - 1, count - 1, -1)]
            gone = range(count)
        else:
            moves = [(i, i + count) for i in range(size - count)]
            gone = range(size - count, size)
        if name in self.p.union_stacks:
            order = list(range(size))
            for dst, src in moves:
                order[dst], order[src] = order[src], order[dst]
            if moves:
                targets = ", ".join(v for i in range(size) for v in names[i])
                self.emit(f"{targets} = {', '.join(v for i in order for v in names[i])}")
        else:
            for dst, src in moves:
                self.emit(f"{', '.join(names[dst])} = {', '.join(names[src])}")
            for i in gone:
                for header in elements[i]:
                    self.emit(f"{self.var(header, '$valid$')} = 0")
        self.event("push" if push else "pop", quoted(name), literal(count))

    def do_push(self, params: list[Json], action: Action) -> None:
        self.shift_stack(params[0]["value"], params[1]["value"], True)

    def do_pop(self, params: list[Json], action: Action) -> None:
        self.shift_stack(params[0]["value"], params[1]["value"], False)

    def do_clone_ingress_pkt_to_egress(self, params: list[Json], action: Action) -> None:
        self.emit(f"clone = {self.expr(params[0], action).code} & 32767")
        self.emit(f"clone_fl = {self.expr(params[1], action).code}")

    do_clone_egress_pkt_to_egress = do_clone_ingress_pkt_to_egress

    def do_recirculate(self, params: list[Json], action: Action) -> None:
        self.emit(f"recirc = {self.expr(params[0], action).code}")

    def do_resubmit(self, params: list[Json], action: Action) -> None:
        self.emit(f"resub = {self.expr(params[0], action).code}")

    def do_modify_field_with_hash_based_offset(self, params: list[Json], action: Action) -> None:
        base = self.expr(params[1], action)
        size = self.expr(params[3], action)
        self.calculate(params[2]["value"], "h")
        if size.lo is not None and size.lo == size.hi:
            ex = Ex(f"h % {literal(size.lo or 1)}", 0, max(0, (size.lo or 1) - 1))
        else:
            ex = Ex(f"h % ({size.code} or 1)", 0, size.hi)
        if (base.lo, base.hi) != (0, 0):
            hi = None if base.hi is None or ex.hi is None else base.hi + ex.hi
            ex = Ex(f"({ex.code} + {base.code})", 0, hi)
        else:
            ex = Ex(f"({ex.code})", ex.lo, ex.hi)
        self.assign(params[0], ex, action)

    def do_modify_field_rng_uniform(self, params: list[Json], action: Action) -> None:
        lo, hi = self.expr(params[1], action), self.expr(params[2], action)
        with self.block(f"if {lo.code} <= {hi.code}:"):
            self.assign(params[0], Ex(f"randint({lo.code}, {hi.code})", lo.lo, hi.hi), action)

    def do_generate_digest(self, params: list[Json], action: Action) -> None:
        self.emit(f"digest = {self.expr(params[1], action).code} & 65535")

    def do_execute_meter(self, params: list[Json], action: Action) -> None:
        meter = self.p.meters[params[0]["value"]]
        with self.guarded_index(self.expr(params[1], action), meter.size) as i:
            self.emit(f"x = {self.out('execute', meter.name)}({i}, L)")
            self.assign(params[2], Ex("x", 0, 2), action)
            self.event("meter", quoted(meter.name), i, "x")

    def do_count(self, params: list[Json], action: Action) -> None:
        counter = self.p.counters[params[0]["value"]]
        packets, octets = self.out("packets", counter.name), self.out("bytes", counter.name)
        index = self.expr(params[1], action)
        code = self.guarded_index(index, counter.size)
        with code as i:
            self.emit(f"{packets}[{i}] += 1")
            self.emit(f"{octets}[{i}] += L")
            self.event("count", quoted(counter.name), i, f"{packets}[{i}]", f"{octets}[{i}]")

    @contextmanager
    def guarded_index(self, index: Ex, size: int) -> Generator[str, None, None]:
        """Index that is out of bounds: nothing happens, as in BMv2."""
        positive = index.lo is not None and index.lo >= 0
        if positive and index.hi is not None and index.hi < size:
            yield index.code
            return
        self.emit(f"n = {index.code}")
        with self.block(f"if {'' if positive else '0 <= '}n < {literal(size)}:"):
            yield "n"

    def do_register_read(self, params: list[Json], action: Action) -> None:
        register = self.p.registers[params[1]["value"]]
        with self.guarded_index(self.expr(params[2], action), register.size) as i:
            ex = Ex(f"{self.out('register', register.name)}[{i}]", 0, (1 << register.width) - 1)
            self.event("register", quoted(register.name), i, ex.code, "False")
            self.assign(params[0], ex, action)

    def do_register_write(self, params: list[Json], action: Action) -> None:
        index, value = self.expr(params[1], action), self.expr(params[2], action)
        self.write_register(params[0]["value"], index, value)

    def write_register(self, name: str, index: Ex, ex: Ex) -> None:
        register = self.p.registers[name]
        top = (1 << register.width) - 1
        code = ex.code
        if not (ex.lo is not None and ex.lo >= 0 and ex.hi is not None and ex.hi <= top):
            code = f"{code} & {literal(top)}"
        with self.guarded_index(index, register.size) as i:
            cell = f"{self.out('register', name)}[{i}]"
            self.emit(f"{cell} = {code}")
            self.event("register", quoted(name), i, cell, "True")

    def do_truncate(self, params: list[Json], action: Action) -> None:
        self.emit(f"trunc = min(trunc, {self.expr(params[0], action).code})")
        self.event("truncate", "trunc")
