"""The deparser: checksums, its own primitives, and the headers' bytes."""

from __future__ import annotations

from orchestrator.softswitch.codegen.layout import HeaderRun
from orchestrator.softswitch.fast.ccode.calculations import update_checksums
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.expressions import field, size_code
from orchestrator.softswitch.fast.ccode.kinds import (
    U64,
    U128,
    WIDE,
    kind_of_bits,
    masked_code,
    to,
)
from orchestrator.softswitch.fast.ccode.statements import emit_primitives
from orchestrator.softswitch.ir.program import Action, Header


def emit_frame_size(c: CContext) -> None:
    """Run what is left to do for a packet that leaves, then emit `n`, its size."""
    update_checksums(c)
    c.where = "deparser"
    if c.p.deparse_primitives:
        prims = c.p.deparse_primitives
        emit_primitives(c, prims, Action(-1, "deparser", (), prims))
    terms = ["(size - o)"]
    for name in c.p.deparse_order:
        terms.append(f"({c.var(name, '$valid$')} ? {size_code(c, name)} : 0u)")
    c.emit(f"u32 n = {' + '.join(terms)};")


def emit_frame(c: CContext) -> None:
    """Write the packet as it is now to `at`, which has room for `n` bytes."""
    for name in c.p.deparse_order:
        with c.block(f"if ({c.var(name, '$valid$')})"):
            size = size_code(c, name)
            with c.block(f"if ({c.changed(name)})"):
                _pack(c, c.p.headers[name])
            with c.block("else"):
                c.emit(f"memcpy(at, data + {c.origin(name)}, {size});")
            c.emit(f"at += {size};")
    c.emit("memcpy(at, data + o, size - o);")


def _pack(c: CContext, h: Header) -> None:
    lay = c.layouts[h.type.name]
    _pack_units(c, h, lay.units, "")
    if lay.varbit:
        varbit, head = c.var(h.name, lay.varbit), sum(u.size for u in lay.units)
        c.emit(f"if ({varbit}.size) memcpy(at + {head}, {varbit}.bytes, {varbit}.size);")
        _pack_units(c, h, lay.tail, f" + {varbit}.size")


def _pack_units(c: CContext, h: Header, units: tuple[HeaderRun, ...], behind: str) -> None:
    origin = c.origin(h.name)
    for unit in units:
        to_ = f"at{behind} + {unit.offset}"
        if not unit.parts:
            source = f"data + {origin}{behind} + {unit.offset}"
            c.emit(f"if ({origin} >= 0) memcpy({to_}, {source}, {unit.size});")
            c.emit(f"else memset({to_}, 0, {unit.size});")
            continue
        kind = kind_of_bits(unit.size * 8)
        shift = unit.size * 8
        terms: list[str] = []
        for name, width in unit.parts:
            shift -= width
            value = field(c, h.name, name)
            code = to(value, kind)
            if value.lo is None or value.lo < 0:
                code = masked_code(code, kind, (1 << width) - 1)
            if kind is WIDE:
                terms.append(f"wide_shl({code}, {shift})" if shift else code)
            else:
                terms.append(f"({code} << {shift})" if shift else code)
        if kind is WIDE:
            whole = terms[0]
            for term in terms[1:]:
                whole = f"wide_or({whole}, {term})"
            c.emit(f"wide_store({to_}, {whole}, {unit.size});")
        else:
            name = "store_be" if kind is U64 else "store_be_long"
            assert kind in (U64, U128)
            c.emit(f"{name}({to_}, {' | '.join(terms)}, {unit.size});")
