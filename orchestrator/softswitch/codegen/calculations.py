"""Checksums and hashes: one sum over the fields where no input can be missing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from orchestrator.softswitch.codegen.context import Context, literal, quoted
from orchestrator.softswitch.codegen.expressions import expr, mark_dirty
from orchestrator.softswitch.hashes import STATEFUL
from orchestrator.softswitch.ir.program import Calculation, Checksum


def input_parts(c: Context, calc: Calculation) -> list[tuple[str, str, int, str]]:
    """(header or '', value code, width, varbit local) of each input; payload excluded."""
    out: list[tuple[str, str, int, str]] = []
    for item in calc.inputs:
        kind, value = item["type"], item["value"]
        if kind == "field":
            fields = [(value[0], c.p.field(value[0], value[1]))]
        elif kind == "header":
            fields = [(value, f) for f in c.p.headers[value].type.fields]
        elif kind == "hexstr":
            out.append(("", literal(value), item["bitwidth"], ""))
            continue
        elif kind == "payload":
            continue
        else:
            raise c.refuse(f"calculation input '{kind}'")
        for header, f in fields:
            code = c.var(header, f.name)
            owner = "" if c.p.headers[header].metadata else header
            if f.varbit:
                out.append((owner, "", 0, code))
            elif f.signed:
                out.append((owner, f"({code} & {literal((1 << f.width) - 1)})", f.width, ""))
            else:
                out.append((owner, code, f.width, ""))
    return out


def calculate(c: Context, name: str, result: str) -> None:
    """Emit `result = <calculation>`, by one sum where no input can be missing."""
    calc = c.p.calculations[name]
    c.where = f"calculation {name}"
    parts = input_parts(c, calc)
    payload = any(i["type"] == "payload" for i in calc.inputs)
    varbits = [v for _, _, _, v in parts if v]
    last_varbit = bool(varbits) and parts[-1][3] != "" and len(varbits) == 1
    sure = [c.var(h, "$valid$") for h, _, _, v in parts if h and not v]
    sure = list(dict.fromkeys(sure))
    fast = not varbits or last_varbit
    fast_if = sure
    if varbits:
        # An absent options header and an empty one add the same: nothing.
        fast_if = [*sure, f"not ({c.var(parts[-1][0], '$valid$')} and {varbits[0]})"]
    fixed = [(code, width) for _, code, width, varbit in parts if not varbit]
    if fast and fast_if:
        with c.block(f"if {' and '.join(fast_if)}:"):
            fast_calculation(c, calc, fixed, payload, result)
        with c.block("else:"):
            slow_calculation(c, calc, parts, payload, result)
    elif fast:
        fast_calculation(c, calc, fixed, payload, result)
    else:
        slow_calculation(c, calc, parts, payload, result)


def hash_name(c: Context, calc: Calculation) -> str:
    """Global of the hash; an algorithm with state has one for each calculation."""
    if calc.algo in STATEFUL:
        return c.out("stateful", calc.name)
    return c.out("hash", calc.algo)


def fast_calculation(
    c: Context, calc: Calculation, fixed: list[tuple[str, int]], payload: bool, result: str
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
        c.emit(f"n = {' + '.join(terms) or '0'}")
        c.emit(f"{result} = 65535 - (n % 65535 or (65535 if n else 0))")
        return
    code = join_bits(fixed)
    body = f"({code}).to_bytes({literal((bits + pad) // 8)}, 'big')"
    if payload:
        body += " + data[o:]"
    c.emit(f"{result} = {hash_name(c, calc)}({body})")


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
    c: Context,
    calc: Calculation,
    parts: list[tuple[str, str, int, str]],
    payload: bool,
    result: str,
) -> None:
    """Inputs of invalid headers are left out, so positions depend on the packet."""
    items: list[str] = []
    for owner, code, width, varbit in parts:
        value = (
            f"(int.from_bytes({varbit}, 'big'), len({varbit}) * 8)"
            if varbit
            else f"({code}, {literal(width)})"
        )
        cond = c.var(owner, "$valid$") if owner else "True"
        items.append(f"({cond}, *{value})")
    tail = "data[o:]" if payload else "b''"
    c.emit(f"{result} = {hash_name(c, calc)}(gather(({', '.join(items)},), {tail}))")


def verify_checksums(c: Context) -> None:
    for checksum in c.p.checksums:
        if not checksum.verify:
            continue
        with checksum_guard(c, checksum, f"{c.var(checksum.header, '$valid$')}"):
            calculate(c, checksum.calculation, "h")
            with c.block(f"if h != {c.var(checksum.header, checksum.field)}:"):
                if c.has_meta("checksum_error"):
                    c.emit(f"{c.sm('checksum_error')} = 1")
                c.event("checksum", quoted(checksum.name), "h", "True")


def update_checksums(c: Context) -> None:
    for checksum in c.p.checksums:
        if not checksum.update:
            continue
        with checksum_guard(c, checksum, ""):
            calculate(c, checksum.calculation, "h")
            target = c.var(checksum.header, checksum.field)
            with c.block(f"if {target} != h:"):
                c.emit(f"{target} = h")
                c.event("checksum", quoted(checksum.name), "h", "False")
                mark_dirty(c, checksum.header)


@contextmanager
def checksum_guard(c: Context, checksum: Checksum, also: str) -> Generator[None, None, None]:
    c.where = f"checksum {checksum.name}"
    conds = [also] if also else []
    if checksum.condition is not None:
        conds.append(expr(c, checksum.condition).code)
    with c.block(f"if {' and '.join(conds) or 'True'}:"):
        yield
