"""Expressions with the bounds of their values, and assignments that mask only where needed."""

from __future__ import annotations

import re

from orchestrator.softswitch.codegen.emitter import (
    Emitter,
    Ex,
    ident,
    least,
    literal,
    most,
)
from orchestrator.softswitch.program import (
    Action,
    Header,
    Json,
    Stack,
)

_MAX_SHIFT = 4096


class Expressions(Emitter):
    """Reading: type-value objects of the JSON to Python expressions."""

    def const(self, text: str) -> int:
        return int(text, 16)

    def bounds_of(self, header: str, field: str) -> tuple[int, int]:
        if field == "$valid$":
            return 0, 1
        f = self.p.field(header, field)
        if f.signed:
            return -(1 << (f.width - 1)), (1 << (f.width - 1)) - 1
        return 0, (1 << f.width) - 1

    def expr(self, node: Json, action: Action | None = None) -> Ex:
        """Expression for a type-value object of the JSON."""
        kind, value = node["type"], node["value"]
        if kind == "expression":
            if "op" in value:
                return self.operation(value, action)
            return self.expr(value, action)
        if kind == "hexstr":
            n = self.const(value)
            return Ex(str(n), n, n)
        if kind == "bool":
            return Ex("1" if value else "0", int(value), int(value))
        if kind == "field":
            lo, hi = self.bounds_of(value[0], value[1])
            return Ex(self.var(value[0], value[1]), lo, hi)
        if kind in ("local", "runtime_data"):
            assert action is not None
            index: int = value
            return Ex(f"p{index}", 0, (1 << action.params[index].width) - 1)
        if kind == "stack_field":
            return self.last_field(value[0], value[1])
        raise self.refuse(f"expression of type '{kind}'")

    def last_field(self, stack_name: str, field: str) -> Ex:
        stack = self.p.stacks[stack_name]
        n = f"{ident(stack_name)}_n"
        code = self.var(stack.elements[0], field)
        for i, element in enumerate(stack.elements[1:], 2):
            code = f"({self.var(element, field)} if {n} == {i} else {code})"
        lo, hi = self.bounds_of(stack.elements[0], field)
        return Ex(code, lo, hi)

    def operation(self, node: Json, action: Action | None) -> Ex:
        op = node["op"]
        if op in ("valid",):
            return Ex(self.var(node["right"]["value"], "$valid$"), 0, 1)
        if op == "access_field":
            return self.element_field(node, action)
        if op in ("last_stack_index", "size_stack"):
            name = (node.get("right") or node.get("left"))["value"]
            depth = len(self.p.stacks[name].elements)
            if op == "size_stack":
                return Ex(f"{ident(name)}_n", 0, depth)
            return Ex(f"({ident(name)}_n - 1)", -1, depth - 1)
        if op in ("==", "!=") and node["left"]["type"] == "header":
            return self.header_equal(node)
        right = self.expr(node["right"], action)
        if op == "d2b":
            if right.lo == 0 and right.hi is not None and right.hi <= 1:
                return right
            return Ex(f"({right.code} != 0)", 0, 1)
        if op == "b2d":
            # A validity local is 0 or 1 already; comparisons give a bool.
            if re.fullmatch(r"\w+", right.code):
                return Ex(right.code, 0, 1)
            return Ex(f"(1 if {right.code} else 0)", 0, 1)
        if op == "not":
            return Ex(f"(not {right.code})", 0, 1)
        if op == "~":
            lo = None if right.hi is None else -right.hi - 1
            hi = None if right.lo is None else -right.lo - 1
            return Ex(f"(~{right.code})", lo, hi)
        if op == "-" and node["left"] is None:
            lo = None if right.hi is None else -right.hi
            hi = None if right.lo is None else -right.lo
            return Ex(f"(-{right.code})", lo, hi)
        left = self.expr(node["left"], action)
        if op == "?":
            cond = self.expr(node["cond"], action)
            return Ex(
                f"({left.code} if {cond.code} else {right.code})",
                least(left.lo, right.lo),
                most(left.hi, right.hi),
            )
        return self.binary(op, left, right)

    def binary(self, op: str, left: Ex, right: Ex) -> Ex:
        a, b = left.code, right.code
        known = None not in (left.lo, left.hi, right.lo, right.hi)
        llo, lhi, rlo, rhi = left.lo or 0, left.hi or 0, right.lo or 0, right.hi or 0
        positive = left.lo is not None and left.lo >= 0 and right.lo is not None and right.lo >= 0
        if op in ("==", "!=", "<", ">", "<=", ">="):
            return Ex(f"({a} {op} {b})", 0, 1)
        if op in ("and", "or"):
            return Ex(f"({a} {op} {b})", 0, 1)
        if op == "+":
            return (
                Ex(f"({a} + {b})", llo + rlo, lhi + rhi)
                if known
                else Ex(f"({a} + {b})", None, None)
            )
        if op == "-":
            return (
                Ex(f"({a} - {b})", llo - rhi, lhi - rlo)
                if known
                else Ex(f"({a} - {b})", None, None)
            )
        if op == "*":
            if not known:
                return Ex(f"({a} * {b})", None, None)
            ends = (llo * rlo, llo * rhi, lhi * rlo, lhi * rhi)
            return Ex(f"({a} * {b})", min(ends), max(ends))
        if op == "/":
            return Ex(f"({a} // {b} if {b} else 0)", 0 if positive else None, left.hi)
        if op == "%":
            return Ex(f"({a} % {b} if {b} else 0)", 0 if positive else None, right.hi)
        if op == "&":
            return self.bit_and(left, right)
        if op in ("|", "^"):
            if positive and known:
                return Ex(f"({a} {op} {b})", 0, (1 << max(lhi, rhi).bit_length()) - 1)
            return Ex(f"({a} {op} {b})", None, None)
        if op == "<<":
            if right.hi is None or right.hi > _MAX_SHIFT:
                # A shift beyond every field's width leaves nothing after the mask.
                return Ex(
                    f"({a} << {b} if {b} < {_MAX_SHIFT} else 0)", 0 if positive else None, None
                )
            if known and llo >= 0:
                return Ex(f"({a} << {b})", llo << rlo, lhi << rhi)
            return Ex(f"({a} << {b})", None, None)
        if op == ">>":
            if known and llo >= 0:
                return Ex(f"({a} >> {b})", llo >> rhi if rhi < _MAX_SHIFT else 0, lhi >> rlo)
            return Ex(f"({a} >> {b})", left.lo if llo < 0 else 0, left.hi)
        if op in ("two_comp_mod", "usat_cast", "sat_cast"):
            return self.cast(op, left, int(b))
        raise self.refuse(f"operator '{op}'")

    @staticmethod
    def bit_and(left: Ex, right: Ex) -> Ex:
        # `x & mask` is x where x cannot exceed an all-ones mask.
        for x, m in ((left, right), (right, left)):
            if m.lo is not None and m.lo == m.hi and m.lo >= 0:
                mask = m.lo
                if (
                    mask & (mask + 1) == 0
                    and x.lo is not None
                    and x.lo >= 0
                    and x.hi is not None
                    and x.hi <= mask
                ):
                    return x
                return Ex(f"({x.code} & {literal(mask)})", 0, mask)
        if left.lo is not None and left.lo >= 0 and left.hi is not None:
            hi = left.hi
            if right.lo is not None and right.lo >= 0 and right.hi is not None:
                hi = min(hi, right.hi)
            return Ex(f"({left.code} & {right.code})", 0, (1 << hi.bit_length()) - 1)
        return Ex(f"({left.code} & {right.code})", None, None)

    @staticmethod
    def cast(op: str, x: Ex, width: int) -> Ex:
        if op == "usat_cast":
            lo, hi = 0, (1 << width) - 1
        else:
            lo, hi = -(1 << (width - 1)), (1 << (width - 1)) - 1
        if x.lo is not None and x.hi is not None and lo <= x.lo and x.hi <= hi:
            return x
        if op == "two_comp_mod":
            half = 1 << (width - 1)
            return Ex(f"(({x.code} + {half} & {literal((1 << width) - 1)}) - {half})", lo, hi)
        return Ex(f"min(max({x.code}, {lo}), {hi})", lo, hi)

    def element_field(self, node: Json, action: Action | None) -> Ex:
        """hdr.stack[index].field read with an index known only at run time."""
        stack, at = self.element(node, action)
        index = at.code
        offset: int = node["right"]
        field = stack.type.fields[offset].name
        code = "0"
        for i, element in enumerate(stack.elements):
            code = f"({self.var(element, field)} if {index} == {i} else {code})"
        lo, hi = self.bounds_of(stack.elements[0], field)
        return Ex(code, min(lo, 0), hi)

    def element(self, node: Json, action: Action | None) -> tuple[Stack, Ex]:
        """Stack and index of an access_field operation."""
        inner = node["left"]
        while inner.get("type") == "expression":
            inner = inner["value"]
        if inner.get("op") not in ("dereference_header_stack", "dereference_stack"):
            raise self.refuse(f"access_field on '{inner.get('op', inner.get('type'))}'")
        return self.p.stacks[inner["left"]["value"]], self.expr(inner["right"], action)

    def header_equal(self, node: Json) -> Ex:
        a, b = node["left"]["value"], node["right"]["value"]
        parts = [self.var(a, "$valid$"), self.var(b, "$valid$")]
        for f in self.p.headers[a].type.fields:
            parts.append(f"{self.var(a, f.name)} == {self.var(b, f.name)}")
        code = "(" + " and ".join(parts) + ")"
        return Ex(code if node["op"] == "==" else f"(not {code})", 0, 1)

    def fit(self, ex: Ex, header: str, field: str) -> str:
        """`ex` wrapped so that it fits header.field."""
        f = self.p.field(header, field)
        if f.signed:
            return self.cast("two_comp_mod", ex, f.width).code
        top = (1 << f.width) - 1
        if ex.lo is not None and ex.lo >= 0 and ex.hi is not None and ex.hi <= top:
            return ex.code
        if ex.lo is not None and ex.lo == ex.hi:
            return str(ex.lo & top)
        return f"{ex.code} & {literal(top)}"

    # ------------------------------------------------------------------ fields

    def dirty(self, header: str) -> None:
        if not self.p.headers[header].metadata:
            self.emit(f"{self.prefix[header]}_d = 1")

    def store(self, header: str, field: str, ex: Ex) -> None:
        self.emit(f"{self.var(header, field)} = {self.fit(ex, header, field)}")
        self.dirty(header)
        if self.trace:
            self.event("set", repr(f"{header}.{field}"), self.var(header, field))

    def size_code(self, header: str) -> str:
        lay = self.layouts[self.p.headers[header].type.name]
        if lay.varbit:
            return f"({lay.size} + len({self.prefix[header]}__{lay.varbit}))"
        return str(lay.size)

    def init_header(self, h: Header, reset_valid: bool) -> None:
        lay = self.layouts[h.type.name]
        names = self.header_locals(h)
        varbit = f"{self.prefix[h.name]}__{lay.varbit}" if lay.varbit else None
        zero = [n for n in names if n != varbit and n != f"{self.prefix[h.name]}_o"]
        self.assign_zero(zero if reset_valid else zero[1:])
        self.emit(f"{self.prefix[h.name]}_o = -1")
        if varbit:
            self.emit(f"{varbit} = b''")

    def add_header(self, header: str) -> None:
        h = self.p.headers[header]
        v = self.var(header, "$valid$")
        if h.metadata:
            return
        with self.block(f"if not {v}:"):
            self.init_header(h, reset_valid=False)
            self.emit(f"{v} = {self.prefix[header]}_d = 1")
            if self.track_length:
                self.emit(f"plen_reg += {self.size_code(header)}")

    def remove_header(self, header: str) -> None:
        v = self.var(header, "$valid$")
        if self.track_length:
            with self.block(f"if {v}:"):
                self.emit(f"plen_reg -= {self.size_code(header)}")
        self.emit(f"{v} = 0")

    def copy_header(self, dst: str, src: str) -> None:
        d, s = self.p.headers[dst], self.p.headers[src]
        if d.metadata or s.metadata:
            for f in d.type.fields:
                if (dst, f.name) in self.used_meta:
                    self.emit(f"{self.var(dst, f.name)} = {self.var(src, f.name)}")
            return
        with self.block(f"if {self.var(src, '$valid$')}:"):
            self.emit(", ".join(self.header_locals(d)) + " = " + ", ".join(self.header_locals(s)))
        with self.block("else:"):
            self.emit(f"{self.var(dst, '$valid$')} = 0")
