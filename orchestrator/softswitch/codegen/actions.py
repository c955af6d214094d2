"""Action bodies: one `do_<primitive>` a primitive; jumps turned back into if/else or a loop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.calculations import Calculations
from orchestrator.softswitch.codegen.emitter import (
    Ex,
    ident,
    literal,
)
from orchestrator.softswitch.program import (
    Action,
    Json,
    Stack,
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
                starts |= {i + 1, self.const(prim["parameters"][-1]["value"])}
        order = sorted(n for n in starts if n < len(prims))
        self.emit("pc = steps = 0")
        with self.block(f"while pc < {len(prims)}:"):
            self.emit("steps += 1")
            with self.block(f"if steps > {_MAX_JUMPS}:"):
                self.emit(f"raise RuntimeError('endless loop in action {action.name}')")
            for n, start in enumerate(order):
                end = order[n + 1] if n + 1 < len(order) else len(prims)
                with self.block(f"{'if' if n == 0 else 'elif'} pc == {start}:"):
                    for prim in prims[start : end - 1]:
                        self.primitive(prim, action)
                    last = prims[end - 1]
                    target = str(end)
                    if last["op"] == "_jump":
                        target = str(self.const(last["parameters"][0]["value"]))
                    elif last["op"] == "_jump_if_zero":
                        cond = self.expr(last["parameters"][0], action).code
                        zero = self.const(last["parameters"][1]["value"])
                        target = f"{end} if {cond} else {zero}"
                    else:
                        self.primitive(last, action)
                    self.emit(f"pc = {target}")

    def block_of(self, prims: tuple[Json, ...], start: int, end: int, action: Action) -> None:
        """Primitives [start, end) with forward jumps turned back into if/else."""
        i = start
        while i < end:
            prim = prims[i]
            if prim["op"] == "_jump":
                target = self.const(prim["parameters"][0]["value"])
                if target != end:
                    raise _IrregularJump
                return
            if prim["op"] != "_jump_if_zero":
                self.primitive(prim, action)
                i += 1
                continue
            cond = self.expr(prim["parameters"][0], action).code
            target = self.const(prim["parameters"][1]["value"])
            if not i < target <= end:
                raise _IrregularJump
            last = prims[target - 1]
            stop = target
            if last["op"] == "_jump" and target - 1 > i:
                stop = self.const(last["parameters"][0]["value"])
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
        ex = self.expr(params[1], action)
        if dst["type"] == "field":
            self.store(dst["value"][0], dst["value"][1], ex)
        else:
            self.store_element(dst, ex, action)

    def store_element(self, dst: Json, ex: Ex, action: Action) -> None:
        """Assign hdr.stack[index].field; an index out of bounds writes nothing."""
        node = dst["value"]
        while node.get("type") == "expression":
            node = node["value"]
        if node.get("op") != "access_field":
            raise self.refuse(f"assignment to a {dst['type']} '{node.get('op', '')}'")
        stack, index = self.element(node, action)
        offset: int = node["right"]
        field = stack.type.fields[offset].name
        self.emit(f"i = {index.code}")
        self.emit(f"x = {ex.code}")
        for i, element in enumerate(stack.elements):
            with self.block(f"{'if' if i == 0 else 'elif'} i == {i}:"):
                self.store(element, field, Ex("x", ex.lo, ex.hi))

    def do_assign_VL(self, params: list[Json], action: Action) -> None:
        (dh, df), (sh, sf) = params[0]["value"], params[1]["value"]
        self.emit(f"{self.var(dh, df)} = {self.var(sh, sf)}")
        self.dirty(dh)

    def do_assign_header(self, params: list[Json], action: Action) -> None:
        if params[0]["type"] != "header" or params[1]["type"] != "header":
            raise self.refuse("assignment of a header picked at run time")
        self.copy_header(params[0]["value"], params[1]["value"])

    def do_assign_header_stack(self, params: list[Json], action: Action) -> None:
        dst, src = self.p.stacks[params[0]["value"]], self.p.stacks[params[1]["value"]]
        self.emit(f"{ident(dst.name)}_n = {ident(src.name)}_n")
        for d, s in zip(dst.elements, src.elements, strict=True):
            self.copy_header(d, s)

    def do_add_header(self, params: list[Json], action: Action) -> None:
        self.add_header(self.header_param(params[0]))

    do_add_header_fast = do_add_header

    def do_remove_header(self, params: list[Json], action: Action) -> None:
        self.remove_header(self.header_param(params[0]))

    def header_param(self, param: Json) -> str:
        if param["type"] != "header":
            raise self.refuse(f"header argument of type '{param['type']}'")
        return param["value"]

    def do_mark_to_drop(self, params: list[Json], action: Action) -> None:
        self.emit(f"{self.sm('egress_spec')} = {self.drop_port}")
        self.emit(f"{self.sm('mcast_grp')} = 0")
        self.event("mark_to_drop")

    do_drop = do_mark_to_drop

    def do_exit(self, params: list[Json], action: Action) -> None:
        self.emit("exited = True")
        self.event("exit")

    def do_no_op(self, params: list[Json], action: Action) -> None:
        return

    do_log_msg = do_no_op

    def do_assert(self, params: list[Json], action: Action) -> None:
        with self.block(f"if not {self.expr(params[0], action).code}:"):
            self.emit(f"raise AssertionError({action.name!r})")

    do_assume = do_assert

    def shift_stack(self, stack: Stack, count: int, push: bool) -> None:
        """push_front/pop_front: move elements by `count`, invalidate what is left."""
        n, size = f"{ident(stack.name)}_n", len(stack.elements)
        names = [self.header_locals(self.p.headers[e]) for e in stack.elements]
        count = min(count, size)
        if push:
            moves = [(i, i - count) for i in range(size - 1, count - 1, -1)]
            gone = range(count)
            self.emit(f"{n} = min({size}, {n} + {count})")
        else:
            moves = [(i, i + count) for i in range(size - count)]
            gone = range(size - count, size)
            self.emit(f"{n} = max(0, {n} - {count})")
        for dst, src in moves:
            self.emit(f"{', '.join(names[dst])} = {', '.join(names[src])}")
        for i in gone:
            self.emit(f"{names[i][0]} = 0")

    def do_push(self, params: list[Json], action: Action) -> None:
        self.shift_stack(self.p.stacks[params[0]["value"]], self.const(params[1]["value"]), True)

    def do_pop(self, params: list[Json], action: Action) -> None:
        self.shift_stack(self.p.stacks[params[0]["value"]], self.const(params[1]["value"]), False)

    def do_clone_ingress_pkt_to_egress(self, params: list[Json], action: Action) -> None:
        self.emit(f"clone = {self.expr(params[0], action).code} & 32767")
        self.emit(f"clone_fl = {self.expr(params[1], action).code}")
        self.event("clone", "clone")

    do_clone_egress_pkt_to_egress = do_clone_ingress_pkt_to_egress

    def do_recirculate(self, params: list[Json], action: Action) -> None:
        self.emit(f"recirc = {self.expr(params[0], action).code}")
        self.event("recirculate")

    def do_resubmit(self, params: list[Json], action: Action) -> None:
        self.emit(f"resub = {self.expr(params[0], action).code}")
        self.event("resubmit")

    def do_modify_field_with_hash_based_offset(self, params: list[Json], action: Action) -> None:
        base = self.expr(params[1], action)
        size = self.expr(params[3], action)
        self.calculate(params[2]["value"], "h")
        if size.lo is not None and size.lo == size.hi:
            ex = Ex(f"h % {size.lo or 1}", 0, max(0, (size.lo or 1) - 1))
        else:
            ex = Ex(f"h % ({size.code} or 1)", 0, size.hi)
        if (base.lo, base.hi) != (0, 0):
            hi = None if base.hi is None or ex.hi is None else base.hi + ex.hi
            ex = Ex(f"({ex.code} + {base.code})", 0, hi)
        else:
            ex = Ex(f"({ex.code})", ex.lo, ex.hi)
        self.store(params[0]["value"][0], params[0]["value"][1], ex)

    def do_modify_field_rng_uniform(self, params: list[Json], action: Action) -> None:
        lo, hi = self.expr(params[1], action), self.expr(params[2], action)
        with self.block(f"if {lo.code} <= {hi.code}:"):
            header, field = params[0]["value"]
            self.store(header, field, Ex(f"randint({lo.code}, {hi.code})", lo.lo, hi.hi))

    def do_count(self, params: list[Json], action: Action) -> None:
        counter = self.p.counters[params[0]["value"]]
        name = ident(counter.name)
        index = self.expr(params[1], action)
        code = self.guarded_index(index, counter.size)
        with code as i:
            self.emit(f"packets_{name}[{i}] += 1")
            self.emit(f"bytes_{name}[{i}] += L")

    @contextmanager
    def guarded_index(self, index: Ex, size: int) -> Generator[str, None, None]:
        """Index that is out of bounds: nothing happens, as in BMv2."""
        if index.hi is not None and index.hi < size and (index.lo or 0) >= 0:
            yield index.code
            return
        self.emit(f"n = {index.code}")
        with self.block(f"if n < {size}:"):
            yield "n"

    def do_register_read(self, params: list[Json], action: Action) -> None:
        register = self.p.registers[params[1]["value"]]
        with self.guarded_index(self.expr(params[2], action), register.size) as i:
            ex = Ex(f"register_{ident(register.name)}[{i}]", 0, (1 << register.width) - 1)
            self.store(params[0]["value"][0], params[0]["value"][1], ex)

    def do_register_write(self, params: list[Json], action: Action) -> None:
        register = self.p.registers[params[0]["value"]]
        ex = self.expr(params[2], action)
        top = (1 << register.width) - 1
        code = ex.code
        if not (ex.lo is not None and ex.lo >= 0 and ex.hi is not None and ex.hi <= top):
            code = f"{code} & {literal(top)}"
        with self.guarded_index(self.expr(params[1], action), register.size) as i:
            self.emit(f"register_{ident(register.name)}[{i}] = {code}")

    def do_truncate(self, params: list[Json], action: Action) -> None:
        self.emit(f"trunc = min(trunc, {self.expr(params[0], action).code})")
