"""C types for P4's numbers: a value is exact, with bounds, or only its low bits count.

P4's sums, products and shifts to the left may leave any machine word; their low bits do not depend on
how much is lost above. So an operation asks its operands for low bits where that is enough, and for
the exact number (comparisons, shifts to the right, saturation) where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CType:
    """A C type: its name, and the numbers that it holds."""

    name: str
    bits: int
    signed: bool

    def holds(self, lo: int, hi: int) -> bool:
        if self.signed:
            return -(1 << (self.bits - 1)) <= lo and hi < 1 << (self.bits - 1)
        return lo >= 0 and hi < 1 << self.bits


U64, I64 = CType("u64", 64, False), CType("i64", 64, True)
U128, I128 = CType("u128", 128, False), CType("i128", 128, True)
MAX_WIDE = 4096 + 64
"""Bits of the largest `wide`: products of the widest fields, and a sign."""
WIDE = CType("wide", MAX_WIDE, True)

MACHINE = (U64, I64, U128, I128)
_UNSIGNED = {I64: U64, I128: U128}


@dataclass(frozen=True, slots=True)
class Value:
    """An expression of C; without bounds only its low bits are those of the number."""

    code: str
    kind: CType
    lo: int | None
    hi: int | None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and the largest number that it may be; None: its upper bits mean nothing."""
        return None if self.lo is None or self.hi is None else (self.lo, self.hi)

    @property
    def constant(self) -> int | None:
        return self.lo if self.lo == self.hi else None

    def within(self, lo: int, hi: int) -> bool:
        return self.lo is not None and self.hi is not None and lo <= self.lo and self.hi <= hi


def kind_of(lo: int, hi: int) -> CType | None:
    """The smallest type that holds numbers from `lo` to `hi`; None: there is none."""
    return next((kind for kind in (*MACHINE, WIDE) if kind.holds(lo, hi)), None)


def words_of_bits(bits: int) -> int:
    """Words of 64 bits that a number of so many bits takes in memory."""
    return (bits + 63) // 64


def kind_of_bits(bits: int) -> CType:
    """The type for the low bits of a number."""
    return U64 if bits <= 64 else U128 if bits <= 128 else WIDE


def unsigned(kind: CType) -> CType:
    """Where sums wrap as they should; C leaves signed ones open."""
    return _UNSIGNED.get(kind, kind)


def literal(number: int, kind: CType | None = None) -> str:
    """A constant as an expression of a type, of the smallest by default."""
    if type(number) is not int:
        raise TypeError(f"{type(number).__name__} where an int belongs")
    kind = kind or kind_of(number, number) or WIDE
    if kind is U64:
        return f"UINT64_C({number & _WORD:#x})"
    if kind is I64:
        return f"((i64)UINT64_C({number & _WORD:#x}))"
    if kind is WIDE:
        count = max(1, (number.bit_length() + 64) // 64)
        words = ", ".join(f"UINT64_C({number >> 64 * i & _WORD:#x})" for i in range(count))
        code = f"wide_of_words((const u64[]){{{words}}}, {count})"
        return code if number >= 0 else f"wide_signed({code}, {64 * count})"
    high, low = number >> 64 & _WORD, number & _WORD
    return f"(({kind.name})((u128)UINT64_C({high:#x}) << 64 | UINT64_C({low:#x})))"


def constant(number: int) -> Value:
    kind = kind_of(number, number) or WIDE
    return Value(literal(number, kind), kind, number, number)


def to(value: Value, kind: CType) -> str:
    """A value in another type: the same number where it fits, its low bits where it does not."""
    if value.kind is kind:
        return value.code
    if (number := value.constant) is not None:
        return literal(number, kind)
    if kind is WIDE:
        return f"wide_of_{value.kind.name}({value.code})"
    if value.kind is WIDE:
        low = "wide_low" if kind.bits == 64 else "wide_low_long"
        return f"(({kind.name}){low}({value.code}))"
    return f"(({kind.name})({value.code}))"


def truth(value: Value) -> str:
    """A value as a condition."""
    return f"wide_truth({value.code})" if value.kind is WIDE else value.code


def compare_masked(value: Value, wanted: int, mask: int, ones: int) -> str:
    """Condition that the masked bits of a value (of `ones`' width) are the wanted ones."""
    if value.kind is WIDE:
        code = value.code if mask == ones else f"wide_and({value.code}, {literal(mask, WIDE)})"
        return f"wide_compare({code}, {literal(wanted, WIDE)}) == 0"
    code = value.code if mask == ones else f"({value.code} & {literal(mask, value.kind)})"
    return f"{code} == {literal(wanted, value.kind)}"


def masked_code(code: str, kind: CType, mask: int) -> str:
    """An expression of a type with a mask over it."""
    if kind is WIDE:
        return f"wide_and({code}, {literal(mask, WIDE)})"
    return f"({code} & {literal(mask, kind)})"


def packed_words(fields: Sequence[tuple[str, CType, int]]) -> list[str]:
    """The words of a key of (local, type, bits)s, the first field highest."""
    at = sum(width for _, _, width in fields)
    words: list[list[str]] = [[] for _ in range(words_of_bits(at))]
    for local, kind, width in fields:
        at -= width
        taken = 0
        while taken < width:
            word, bit = (at + taken) // 64, (at + taken) % 64
            piece = _word_from(local, kind, taken)
            words[word].append(f"{piece} << {bit}" if bit else piece)
            taken += min(64 - bit, width - taken)
    return [" | ".join(pieces) or "0" for pieces in words]


def _word_from(local: str, kind: CType, shift: int) -> str:
    """64 bits of a number from bit `shift` on."""
    if kind is WIDE:
        return f"wide_low(wide_sar({local}, {shift}))"
    code = f"({local} >> {shift})" if shift else local
    return f"(u64){code}" if kind is U128 else code
