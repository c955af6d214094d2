"""Checksums and hashes: one sum over the fields where no input can be missing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.emitter import (
    literal,
    quoted,
)
from orchestrator.softswitch.codegen.expressions import Expressions
from orchestrator.softswitch.hashes import STATEFUL
from orchestrator.softswitch.ir.program import (
    Calculation,
    Checksum,
)


class Calculations(Expressions):
    """Named calculations, and the checksum controls that use them."""

    def input_parts(self, calc: Calculation) -> list[tuple[str, str, int, str]]:
        """(header or '', value code, width, varbit local) of each input; payload excluded."""
        out: list[tuple[str, str, int, str]] = []
        for item in calc.inputs:
            kind, value = item["type"], item["value"]
            if kind == "field":
                fields = [(value[0], self.p.field(value[0], value[1]))]
            elif kind == "header":
                fields = [(value, f) for f in self.p.headers[value].type.fields]
            elif kind == "hexstr":
                out.append(("", literal(value), item["bitwidth"], ""))
                continue
            elif kind == "payload":
                continue
            else:
                raise self.refuse(f"calculation input '{kind}'")
            for header, f in fields:
                code = self.var(header, f.name)
                owner = "" if self.p.headers[header].metadata else header
                if f.varbit:
                    out.append((owner, "", 0, code))
                elif f.signed:
                    out.append((owner, f"({code} & {literal((1 << f.width) - 1)})", f.width, ""))
                else:
                    out.append((owner, code, f.width, ""))
        return out

    def calculate(self, name: str, result: str) -> None:
        """Emit `result = <calculation>`, by one sum where no input can be missing."""
        calc = self.p.calculations[name]
        self.where = f"calculation {name}"
        parts = self.input_parts(calc)
        payload = any(i["type"] == "payload" for i in calc.inputs)
        varbits = [v for _, _, _, v in parts if v]
        last_varbit = bool(varbits) and parts[-1][3] != "" and len(varbits) == 1
        sure = [self.var(h, "$valid$") for h, _, _, v in parts if h and not v]
        sure = list(dict.fromkeys(sure))
        fast = not varbits or last_varbit
        if varbits:
            # An absent options header and an empty one add the same: nothing.
            fast_if = [*sure, f"not ({self.var(parts[-1][0], '$valid$')} and {varbits[0]})"]
        else:
            fast_if = sure
        fixed = [(c, w) for _, c, w, v in parts if not v]
        if fast and fast_if:
            with self.block(f"if {' and '.join(fast_if)}:"):
                self.fast_calculation(calc, fixed, payload, result)
            with self.block("else:"):
                self.slow_calculation(calc, parts, payload, result)
        elif fast:
            self.fast_calculation(calc, fixed, payload, result)
        else:
            self.slow_calculation(calc, parts, payload, result)

    def hash_name(self, calc: Calculation) -> str:
        """Global of the hash; an algorithm with state has one for each calculation."""
        if calc.algo in STATEFUL:
            return self.out("stateful", calc.name)
        return self.out("hash", calc.algo)

    def fast_calculation(
        self, calc: Calculation, fixed: list[tuple[str, int]], payload: bool, result: str
    ) -> None:
        bits = sum(w for _, w in fixed)
        pad = -bits % 8
        if calc.algo in ("csum16", "cksum16") and (not payload or (bits + pad) % 16 == 0):
            # 2^16 = 1 (mod 65535), so each field adds itself shifted to its place in its word.
            at = bits + -bits % 16
            terms: list[str] = []
            for code, width in fixed:
                at -= width
                shift = at % 16
                if code != "0":
                    terms.append(f"({code} << {literal(shift)})" if shift else code)
            if payload:
                terms.append("int.from_bytes(data[o:] + b'\\0' * (L - o & 1), 'big')")
            self.emit(f"n = {' + '.join(terms) or '0'}")
            self.emit(f"{result} = 65535 - (n % 65535 or (65535 if n else 0))")
            return
        code = self.join_bits(fixed)
        body = f"({code}).to_bytes({literal((bits + pad) // 8)}, 'big')"
        if payload:
            body += " + data[o:]"
        self.emit(f"{result} = {self.hash_name(calc)}({body})")

    @staticmethod
    def join_bits(fixed: list[tuple[str, int]]) -> str:
        """All values concatenated into one integer, padded on the right to a byte."""
        at = sum(w for _, w in fixed)
        pad = -at % 8
        at += pad
        terms: list[str] = []
        for code, width in fixed:
            at -= width
            if code != "0":
                terms.append(f"({code} << {literal(at)})" if at else code)
        return " | ".join(terms) or "0"

    def slow_calculation(
        self, calc: Calculation, parts: list[tuple[str, str, int, str]], payload: bool, result: str
    ) -> None:
        """Inputs of invalid headers are left out, so positions depend on the packet."""
        items: list[str] = []
        for owner, code, width, varbit in parts:
            value = (
                f"(int.from_bytes({varbit}, 'big'), len({varbit}) * 8)"
                if varbit
                else f"({code}, {literal(width)})"
            )
            cond = self.var(owner, "$valid$") if owner else "True"
            items.append(f"({cond}, *{value})")
        tail = "data[o:]" if payload else "b''"
        self.emit(f"{result} = {self.hash_name(calc)}(gather(({', '.join(items)},), {tail}))")

    def verify_checksums(self) -> None:
        checks = [c for c in self.p.checksums if c.verify]
        if not checks:
            return
        for c in checks:
            with self.checksum_guard(c, f"{self.var(c.header, '$valid$')}"):
                self.calculate(c.calculation, "h")
                with self.block(f"if h != {self.var(c.header, c.field)}:"):
                    if self.has_meta("checksum_error"):
                        self.emit(f"{self.sm('checksum_error')} = 1")
                    self.event("checksum", quoted(c.name), "h", "True")

    def update_checksums(self) -> None:
        for c in (c for c in self.p.checksums if c.update):
            with self.checksum_guard(c, ""):
                self.calculate(c.calculation, "h")
                target = self.var(c.header, c.field)
                with self.block(f"if {target} != h:"):
                    self.emit(f"{target} = h")
                    self.event("checksum", quoted(c.name), "h", "False")
                    self.dirty(c.header)

    @contextmanager
    def checksum_guard(self, c: Checksum, also: str) -> Generator[None, None, None]:
        self.where = f"checksum {c.name}"
        conds = [also] if also else []
        if c.condition is not None:
            conds.append(self.expr(c.condition).code)
        with self.block(f"if {' and '.join(conds) or 'True'}:"):
            yield
