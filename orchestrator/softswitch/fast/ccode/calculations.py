"""Checksums and hashes: sums for an Internet checksum, else the inputs' bits in a buffer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.expressions import compared, expr, field, mark_dirty
from orchestrator.softswitch.fast.ccode.kinds import (
    U64,
    U128,
    WIDE,
    Value,
    constant,
    kind_of_bits,
    to,
    truth,
)
from orchestrator.softswitch.ir.program import Calculation, Checksum

_HASHES = {
    "csum16": "hash_csum16",
    "cksum16": "hash_csum16",
    "xor16": "hash_xor16",
    "xor32": "hash_xor32",
    "identity": "hash_identity",
    "crc16": "hash_crc16",
    "crc32": "hash_crc32",
    "crcCCITT": "hash_crc_ccitt",
    "crc8_custom": "hash_crc8",
    "crc16_custom": "hash_crc16",
    "crc32_custom": "hash_crc32",
    "crc64_custom": "hash_crc64",
    "toeplitz": "hash_toeplitz",
    "xxh64": "hash_xxh64",
}
_MAX_PAYLOAD = 65_535


@dataclass(frozen=True, slots=True)
class HashInput:
    """One input: a number of `width` bits, or the varbit in a local; `valid`: whether it is there."""

    valid: str
    value: Value | None
    width: int
    varbit: str


def parts_of(c: CContext, calc: Calculation) -> list[HashInput]:
    """Inputs in order; the payload is not among them."""
    out: list[HashInput] = []
    for item in calc.inputs:
        kind, value = item["type"], item["value"]
        if kind == "hexstr":
            out.append(HashInput("", constant(value), item["bitwidth"], ""))
            continue
        if kind == "payload":
            continue
        if kind == "field":
            fields = [(value[0], c.p.field(*value))]
        elif kind == "header":
            fields = [(value, f) for f in c.p.headers[value].type.fields]
        else:
            raise c.refuse(f"calculation input '{kind}'")
        for header, f in fields:
            valid = "" if c.p.headers[header].metadata else c.var(header, "$valid$")
            if f.varbit:
                out.append(HashInput(valid, None, f.width, c.var(header, f.name)))
            else:
                bits = Value(
                    to(field(c, header, f.name), kind_of_bits(f.width)),
                    kind_of_bits(f.width),
                    0,
                    (1 << f.width) - 1,
                )
                if f.signed:
                    bits = _cut(bits, f.width)
                out.append(HashInput(valid, bits, f.width, ""))
    return out


def _cut(value: Value, width: int) -> Value:
    mask = "ones_long" if value.kind is U128 else "ones"
    if value.kind is WIDE:
        return Value(f"wide_bits({value.code}, {width})", WIDE, value.lo, value.hi)
    return Value(f"({value.code} & {mask}({width}))", value.kind, value.lo, value.hi)


def calculate(c: CContext, name: str, result: str) -> None:
    """Emit what sets the u64 `result`."""
    calc = c.p.calculations[name]
    where, c.where = c.where, f"calculation {name}"
    if calc.algo not in _HASHES:
        raise c.refuse(f"hash '{calc.algo}'")
    parts = parts_of(c, calc)
    payload = any(i["type"] == "payload" for i in calc.inputs)
    if calc.algo in ("csum16", "cksum16") and _aligned(parts, payload=payload):
        _sum(c, parts, result, payload=payload)
    else:
        _gathered(c, _HASHES[calc.algo], parts, result, payload=payload)
    c.where = where


def _runs(parts: list[HashInput]) -> list[tuple[str, list[HashInput]]]:
    """Neighbouring inputs that are there together or not at all."""
    return [(valid, list(run)) for valid, run in groupby(parts, lambda part: part.valid)]


def _aligned(parts: list[HashInput], *, payload: bool) -> bool:
    """Whether every input keeps its place in its 16-bit word, whichever of the others are there."""
    runs = _runs(parts)
    open_end = payload
    if any(part.varbit for part in parts):
        if payload or any(part.varbit for part in parts[:-1]):
            return False
        open_end = True
    ends = runs if open_end else runs[:-1]
    return all(sum(p.width for p in run if not p.varbit) % 16 == 0 for _, run in ends)


def _sum(c: CContext, parts: list[HashInput], result: str, *, payload: bool) -> None:
    """2^16 = 1 (mod 65535), so each field adds its words, shifted to its place in its word."""
    with c.block(""):
        total = c.fresh("n")
        c.emit(f"u64 {total} = 0;")
        for valid, run in _runs(parts):
            with c.block(f"if ({valid})" if valid else ""):
                at = sum(p.width for p in run if not p.varbit)
                at += -at % 16
                for part in run:
                    if part.value is None:
                        c.emit(f"{total} += sum_of_bytes({part.varbit}.bytes, {part.varbit}.size);")
                        continue
                    at -= part.width
                    if part.value.constant != 0:
                        c.emit(f"{total} += {_words(part)} << {at % 16};")
        if payload:
            c.emit(f"{total} += sum_of_bytes(data + o, size - o);")
        c.emit(f"{result} = checksum_of_sum({total});")


def _words(part: HashInput) -> str:
    assert part.value is not None
    value = part.value
    if value.kind is U64:
        return value.code if part.width <= 16 else f"sum_of({value.code})"
    if value.kind is U128:
        return f"sum_of_long({value.code})"
    return f"wide_sum({value.code})"


def _gathered(
    c: CContext, function: str, parts: list[HashInput], result: str, *, payload: bool
) -> None:
    """Inputs of invalid headers are left out, so positions depend on the packet."""
    most = sum(p.width for p in parts) // 8 + 1 + (_MAX_PAYLOAD if payload else 0)
    with c.block(""):
        buffer, bits = c.fresh("b"), c.fresh("s")
        c.emit(f"u8 {buffer}[{most + 16}];")
        c.emit(f"struct bits {bits} = {{0, {buffer}}};")
        for part in parts:
            with c.block(f"if ({part.valid})" if part.valid else ""):
                if part.value is None:
                    c.emit(f"put_bytes(&{bits}, {part.varbit}.bytes, {part.varbit}.size);")
                    continue
                value = part.value
                if value.kind is WIDE:
                    words = f"(const u64 *)(wide[]){{{value.code}}}"
                    c.emit(f"put_words(&{bits}, {words}, {part.width});")
                else:
                    long = "_long" if part.width > 64 else ""
                    code = to(value, kind_of_bits(part.width))
                    c.emit(f"put_bits{long}(&{bits}, {code}, {part.width});")
        if payload:
            c.emit(f"{bits}.count = 8 * filled(&{bits});")
            c.emit(f"put_bytes(&{bits}, data + o, size - o);")
        c.emit(f"{result} = {function}({buffer}, filled(&{bits}));")


# ------------------------------------------------------------- of headers


def verify_checksums(c: CContext) -> None:
    for checksum in c.p.checksums:
        if checksum.verify and c.has_meta("checksum_error"):
            with _guard(c, checksum, c.var(checksum.header, "$valid$")):
                differs = compared(
                    "!=", _calculated(c, checksum), field(c, checksum.header, checksum.field)
                )
                c.emit(f"if ({differs.code}) {c.sm('checksum_error')} = 1;")


def update_checksums(c: CContext) -> None:
    for checksum in c.p.checksums:
        if checksum.update:
            with _guard(c, checksum, ""):
                made = _calculated(c, checksum)
                target = field(c, checksum.header, checksum.field)
                with c.block(f"if ({compared('!=', made, target).code})"):
                    c.emit(f"{target.code} = {to(made, target.kind)};")
                    mark_dirty(c, checksum.header)


def _calculated(c: CContext, checksum: Checksum) -> Value:
    name = c.fresh("h")
    c.emit(f"u64 {name};")
    calculate(c, checksum.calculation, name)
    return Value(name, U64, 0, (1 << 64) - 1)


@contextmanager
def _guard(c: CContext, checksum: Checksum, also: str) -> Generator[None, None, None]:
    c.where = f"checksum {checksum.name}"
    conditions = [also] if also else []
    if checksum.condition is not None:
        conditions.append(truth(expr(c, checksum.condition)))
    with c.block(f"if ({' && '.join(conditions)})" if conditions else ""):
        yield
