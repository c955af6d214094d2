"""The deparser: checksums, its own primitives, and the headers' bytes."""

from __future__ import annotations

import struct

from orchestrator.softswitch.codegen.actions import emit_primitives
from orchestrator.softswitch.codegen.calculations import update_checksums
from orchestrator.softswitch.codegen.context import STRUCT_CODE, Context, chunks_of, literal
from orchestrator.softswitch.codegen.expressions import size_code
from orchestrator.softswitch.codegen.layout import HeaderRun
from orchestrator.softswitch.ir.program import Action, Header


def emit_deparser(c: Context) -> None:
    """Emit `frame`, the bytes of the packet as it is now."""
    update_checksums(c)
    c.where = "deparser"
    if c.p.deparse_primitives:
        prims = c.p.deparse_primitives
        emit_primitives(c, prims, Action(-1, "deparser", (), prims))
    parts = [header_bytes(c, name) for name in c.p.deparse_order]
    if parts:
        c.emit(f"frame = b''.join(({', '.join(parts)}, data[o:]))")
    else:
        c.emit("frame = data[o:]")


def header_bytes(c: Context, name: str) -> str:
    """Bytes of a header when valid: the received ones if nothing changed them."""
    h = c.p.headers[name]
    lay = c.layouts[h.type.name]
    origin, length = c.origin(name), size_code(c, name)
    clean = f"data[{origin}:{origin} + {length}]"
    packed = pack_units(c, h, lay.units, origin)
    if lay.varbit:
        varbit = c.var(name, lay.varbit)
        packed += f" + {varbit}"
        if lay.tail:
            packed += " + " + pack_units(c, h, lay.tail, f"{origin} + len({varbit})")
    valid = c.var(name, "$valid$")
    return f"(({packed} if {c.changed(name)} else {clean}) if {valid} else b'')"


def pack_units(c: Context, h: Header, units: tuple[HeaderRun, ...], base: str) -> str:
    if not units:
        return "b''"
    origin = c.origin(h.name)
    signed = {f.name for f in h.type.fields if f.signed}
    fmt = ">"
    values: list[str] = []
    for u in units:
        if not u.parts:
            fmt += f"{u.size}s"
            at = f"{base} + {literal(u.offset)}" if u.offset else base
            values.append(f"data[{at}:{at} + {literal(u.size)}] if {origin} >= 0 else b''")
            continue
        terms: list[str] = []
        shift = u.size * 8
        for name, width in u.parts:
            shift -= width
            code = c.var(h.name, name)
            if name in signed:
                code = f"({code} & {literal((1 << width) - 1)})"
            terms.append(f"{code} << {literal(shift)}" if shift else code)
        value = " | ".join(terms)
        chunks = chunks_of(u.size)
        if len(chunks) > 2:
            fmt += f"{u.size}s"
            values.append(f"({value}).to_bytes({literal(u.size)}, 'big')")
        elif len(chunks) == 2:
            fmt += STRUCT_CODE[chunks[0]] + STRUCT_CODE[chunks[1]]
            low = chunks[1] * 8
            values.append(f"({value}) >> {literal(low)}")
            values.append(f"({value}) & {literal((1 << low) - 1)}")
        else:
            fmt += STRUCT_CODE[chunks[0]]
            values.append(value)
    struct.calcsize(fmt)
    return f"{c.out('pack', fmt)}({', '.join(values)})"
