"""The parser: states in topological order, each tested once; a loop only if the graph has one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.softswitch.codegen.actions import Actions
from orchestrator.softswitch.codegen.emitter import (
    STRUCT_CODE,
    Ex,
    Layout,
    Unit,
    chunks_of,
    literal,
    quoted,
)
from orchestrator.softswitch.ir.program import (
    Action,
    Header,
    Json,
    Param,
    Transition,
)

_MAX_PARSER_ROUNDS = 256


class Parsing(Actions):
    """Parser states: extraction by one struct call a header, select by if/elif."""

    def parser(self) -> None:
        if self.p.init_state is None:
            return
        order, back = self.state_order()
        number = {name: i + 1 for i, name in enumerate(order)}
        if back:
            self.emit("rounds = 0")
        self.emit(f"s = {literal(number[self.p.init_state])}")
        with self.block("while True:"):
            for i, name in enumerate(order):
                # The first state is always entered first unless a loop leads back to it.
                head = "if True:" if i == 0 and not back else f"if s == {literal(i + 1)}:"
                with self.block(head):
                    self.state(name, number)
            if not back:
                self.emit("break")
            else:
                self.emit("rounds += 1")
                with self.block(f"if rounds > {_MAX_PARSER_ROUNDS}:"):
                    self.error("ParserTimeout")

    def state_order(self) -> tuple[list[str], bool]:
        """Reverse postorder of the reachable states; True if a loop exists."""
        done: list[str] = []
        entered: dict[str, bool] = {}  # False: not left yet
        back = False
        assert self.p.init_state is not None
        way = [self.p.init_state]
        while way:
            name = way[-1]
            if name not in entered:
                entered[name] = False
                nexts = [t.next_state for t in self.p.states[name].transitions]
                back = back or any(entered.get(n) is False for n in nexts if n is not None)
                # Reversed: the first transition's state is visited first, as it is by a packet.
                for t in reversed(self.p.states[name].transitions):
                    if t.next_state is not None and t.next_state not in entered:
                        way.append(t.next_state)
                continue
            way.pop()
            if not entered[name]:
                entered[name] = True
                done.append(name)
        return done[::-1], back

    def error(self, name: str) -> None:
        self.emit(f"perr = {literal(self.p.errors.get(name, 0))}")
        self.event("parser_error", quoted(name))
        self.emit("break")

    def need(self, size: str) -> None:
        with self.block(f"if o + {size} > L:"):
            self.error("PacketTooShort")

    def state(self, name: str, number: Mapping[str, int]) -> None:
        st = self.p.states[name]
        self.where = f"parser state {name}"
        self.event("state", quoted(name))
        for op in st.ops:
            self.parser_op(op)
        self.transition(st.key, st.transitions, number)

    def parser_op(self, op: Json) -> None:
        kind, params = op["op"], op["parameters"]
        if kind == "extract":
            self.extract(params[0], None)
        elif kind == "extract_VL":
            self.extract(params[0], params[1])
        elif kind == "set":
            header, field = params[0]["value"]
            if params[1]["type"] == "lookahead":
                ex = self.lookahead(params[1]["value"])
            else:
                ex = self.expr(params[1])
            self.store(header, field, ex)
        elif kind == "verify":
            cond = self.expr(params[0])
            with self.block(f"if not {cond.code}:"):
                code = self.expr(params[1]).code
                self.emit(f"perr = {code}")
                self.event("parser_error", code)
                self.emit("break")
        elif kind == "shift":
            self.need(literal(params[0]))
            self.emit(f"o += {literal(params[0])}")
        elif kind == "advance":
            bits = self.expr(params[0])
            if bits.lo is not None and bits.lo == bits.hi and bits.lo % 8 == 0 and bits.lo >= 0:
                self.need(literal(bits.lo // 8))
                self.emit(f"o += {literal(bits.lo // 8)}")
                return
            self.emit(f"n = {bits.code}")
            with self.block(
                "if n & 7 or n < 0:" if bits.lo is None or bits.lo < 0 else "if n & 7:"
            ):
                self.error("ParserInvalidArgument")
            self.need("(n >> 3)")
            self.emit("o += n >> 3")
        elif kind == "primitive":
            self.primitives((params[0],), Action(-1, self.where, (), (params[0],)))
        else:
            raise self.refuse(f"parser operation '{kind}'")

    def lookahead(self, value: tuple[int, int]) -> Ex:
        offset, width = value
        first, last = offset // 8, (offset + width + 7) // 8
        self.need(literal(last))
        size = last - first
        at = f"o + {literal(first)}" if first else "o"
        code = (
            f"data[{at}]" if size == 1 else f"int.from_bytes(data[{at}:o + {literal(last)}], 'big')"
        )
        spare = last * 8 - offset - width
        if spare:
            code = f"({code} >> {literal(spare)})"
        if first * 8 != offset:
            code = f"({code} & {literal((1 << width) - 1)})"
        return Ex(code, 0, (1 << width) - 1)

    def extract(self, target: Json, length: Json | None) -> None:
        if target["type"] == "regular":
            self.extract_into(target["value"], length)
            return
        if target["type"] == "union_stack":
            stack, member = target["value"]
            unions = self.p.union_stacks[stack].elements
            at = unions[0].names.index(member)
            elements = tuple(u.members[at] for u in unions)
        else:
            stack = target["value"]
            elements = self.p.stacks[stack].elements
        n = self.count(stack)
        for i, element in enumerate(elements):
            with self.block(f"{'if' if i == 0 else 'elif'} {n} == {literal(i)}:"):
                self.extract_into(element, length)
        with self.block("else:"):
            self.error("StackOutOfBounds")
        self.emit(f"{n} += 1")

    def extract_into(self, header: str, length: Json | None) -> None:
        h = self.p.headers[header]
        lay = self.layouts[h.type.name]
        fixed = literal(lay.size)
        if lay.varbit is None:
            self.need(fixed)
            self.unpack(header, lay.units, "o")
            self.emit(f"{self.origin(header)} = o")
            self.emit(f"o += {fixed}")
        else:
            bits = self.own_length(h, lay) if length is None else self.expr(length)
            self.emit(f"n = {bits.code}")
            with self.block(
                "if n & 7 or n < 0:" if bits.lo is None or bits.lo < 0 else "if n & 7:"
            ):
                self.error("ParserInvalidArgument")
            self.emit("n >>= 3")
            self.need(f"{fixed} + n")
            varbit = h.type.varbit
            assert varbit is not None
            with self.block(f"if n > {literal(varbit.width // 8)}:"):
                self.error("HeaderTooShort")
            head = literal(sum(u.size for u in lay.units))
            self.unpack(header, lay.units, "o")
            self.emit(f"{self.var(header, lay.varbit)} = data[o + {head}:o + {head} + n]")
            self.unpack(header, lay.tail, "o + n")
            self.emit(f"{self.origin(header)} = o")
            self.emit(f"o += {fixed} + n")
        self.emit(f"{self.var(header, '$valid$')} = 1")
        self.emit(f"{self.changed(header)} = 0")
        self.clear_siblings(header)
        self.event("extract", quoted(header), self.origin(header), "o")

    def own_length(self, h: Header, lay: Layout) -> Ex:
        """P4_14: the varbit's bits by the header's own fields before it, so these come first."""
        length = self.p.lengths[h.type.name]
        self.need(literal(lay.size))
        self.unpack(h.name, lay.units, "o")
        params: list[Param] = []
        for f in h.type.fields:
            if f.varbit:
                break
            self.emit(f"{self.argument(len(params))} = {self.var(h.name, f.name)}")
            params.append(Param(f.name, f.width))
        return self.expr(length, Action(-1, "length", tuple(params), ()))

    def unpack(self, header: str, units: tuple[Unit, ...], at: str) -> None:
        """Decode the used units of a header at `at` with one struct call."""
        if not any(u.parts for u in units):
            return
        fmt = ">"
        targets: list[str] = []
        post: list[str] = []
        signed = {f.name for f in self.p.headers[header].type.fields if f.signed}
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
                whole = self.fresh("b")
                targets.append(whole)
                value = f"int.from_bytes({whole}, 'big')"
            else:
                names = [self.fresh("c") for _ in chunks]
                fmt += "".join(STRUCT_CODE[c] for c in chunks)
                if len(chunks) == 1 and len(u.parts) == 1:
                    names = [self.var(header, u.parts[0][0])]
                targets += names
                value = (
                    names[0]
                    if len(names) == 1
                    else f"{names[0]} << {literal(chunks[1] * 8)} | {names[1]}"
                )
            if len(u.parts) == 1:
                local = self.var(header, u.parts[0][0])
                if value != local:
                    post.append(f"{local} = {value}")
            else:
                if not re.fullmatch(r"\w+", value):
                    whole = self.fresh("w")
                    post.append(f"{whole} = {value}")
                    value = whole
                shift = u.size * 8
                for name, width in u.parts:
                    shift -= width
                    code = value if not shift else f"{value} >> {literal(shift)}"
                    if shift + width != u.size * 8:
                        code += f" & {literal((1 << width) - 1)}"
                    post.append(f"{self.var(header, name)} = {code}")
            for name, width in u.parts:
                if name in signed:
                    half = literal(1 << (width - 1))
                    local = self.var(header, name)
                    post.append(f"{local} = ({local} ^ {half}) - {half}")
        if skip:
            at = f"{at} + {literal(skip)}"
        if len(targets) == 1 and fmt in (">B",):
            self.emit(f"{targets[0]} = data[{at}]")
        else:
            self.emit(f"{', '.join(targets)}, = {self.out('unpack_from', fmt)}(data, {at})")
        for line in post:
            self.emit(line)

    def transition(
        self,
        key: tuple[Json, ...],
        transitions: tuple[Transition, ...],
        number: Mapping[str, int],
    ) -> None:
        def go(name: str | None) -> None:
            self.emit("break" if name is None else f"s = {literal(number[name])}")

        default: str | None = None
        cases: list[tuple[str, str | None]] = []
        if key:
            parts: list[tuple[str, int]] = []
            for k in key:
                if k["type"] == "lookahead":
                    ex = self.lookahead(k["value"])
                    name = self.fresh("k")
                    self.emit(f"{name} = {ex.code}")
                    parts.append((name, k["value"][1]))
                elif k["type"] == "stack_field":
                    ex = self.expr(k)
                    width = self.width(self.p.stacks[k["value"][0]].elements[0], k["value"][1])
                    parts.append((ex.code, width))
                elif k["type"] == "union_stack_field":
                    stack, member, field = k["value"]
                    union = self.p.union_stacks[stack].elements[0]
                    header = union.members[union.names.index(member)]
                    parts.append((self.expr(k).code, self.width(header, field)))
                elif k["type"] == "field":
                    parts.append((self.expr(k).code, self.width(*k["value"])))
                else:
                    raise self.refuse(f"transition key of type '{k['type']}'")
        else:
            parts = []
        for t in transitions:
            if t.value_set is not None:
                cases.append((self.in_value_set(parts, t.value_set, t.mask), t.next_state))
                continue
            if t.value is None:
                default = t.next_state
                continue
            cases.append((self.case(parts, t.value, t.mask), t.next_state))
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
            with self.block(f"{'if' if i == 0 else 'elif'} {cond}:"):
                go(nxt)
        if merged:
            with self.block("else:"):
                go(default)
        else:
            go(default)

    def in_value_set(self, parts: list[tuple[str, int]], name: str, mask: int | None) -> str:
        """Condition that the key is in a value set, which the controller fills."""
        codes = [code for code, _ in parts]
        key = codes[0] if len(codes) == 1 else f"({', '.join(codes)})"
        if mask is None:
            return f"{self.out('contains', name)}({key})"
        masks: list[str] = []
        for _, width in reversed(parts):
            masks.append(literal(mask & ((1 << width) - 1)))
            mask >>= (width + 7) // 8 * 8
        inner = ", ".join(reversed(masks))
        return f"{self.out('contains_masked', name)}({key}, ({inner},))"

    def case(self, parts: list[tuple[str, int]], value: int, mask: int | None) -> str:
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
