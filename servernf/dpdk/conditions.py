"""Rules as c/rules.h has them: conditions of 96 bytes, and what each chooses."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from servernf.python.match import MatchCondition
from servernf.wire.fields import Fields

NOTHING = 0xFFFF_FFFF
_CONDITION = struct.Struct("=8Q2I6H9B3x")
_WORD = (1 << 64) - 1
_SOURCE, _DESTINATION, _PROTOCOL, _PORTS, _ICMP_TYPE, _ICMP_CODE, _FLAGS = (
    1 << n for n in range(7)
)
_ETHER_TYPE, _VERSION, _LATER_FRAGMENT, _VLAN = (1 << n for n in range(7, 11))
Rule = tuple[MatchCondition, int]


def rules(config: Fields, choose: Callable[[Fields, int], int], otherwise: int = NOTHING) -> bytes:
    """The rules of a configuration that is known to be good; `choose(rule, index)` is what one chooses.

    `reverse` says which hold for what enters outside: none ("pass", "permit"), mirrored, the same.
    """
    forward = [
        (MatchCondition.read(item), choose(item, index))
        for index, item in enumerate(config.objects("rules", required=False))
    ]
    reverse = config.raw("reverse")
    backward: list[Rule] = []
    if reverse == "mirror":
        backward = [(condition.mirrored(), chosen) for condition, chosen in forward]
    elif reverse == "same":
        backward = forward
    else:
        otherwise_back = NOTHING
        return packed(forward, otherwise, backward, otherwise_back)
    return packed(forward, otherwise, backward, otherwise)


def packed(
    forward: Sequence[Rule], otherwise: int, backward: Sequence[Rule], otherwise_back: int
) -> bytes:
    """Rules of what enters inside and outside, each with a choice for what meets none."""
    heads = struct.pack("=4I", len(forward), otherwise, len(backward), otherwise_back)
    return heads + b"".join(_condition(*rule) for rule in (*forward, *backward))


def _condition(condition: MatchCondition, chosen: int) -> bytes:
    asks = 0
    for bit, part in (
        (_SOURCE, condition.source),
        (_DESTINATION, condition.destination),
        (_PROTOCOL, condition.protocol),
        (_PORTS, condition.source_port),
        (_PORTS, condition.destination_port),
        (_ICMP_TYPE, condition.icmp_type),
        (_ICMP_CODE, condition.icmp_code),
        (_FLAGS, condition.tcp_flags),
        (_ETHER_TYPE, condition.ether_type),
        (_VERSION, condition.version),
        (_LATER_FRAGMENT, condition.later_fragment),
        (_VLAN, condition.vlan),
    ):
        if part is not None:
            asks |= bit
    flags, mask = condition.tcp_flags or (0, 0)
    return _CONDITION.pack(
        *_prefix(condition.source),
        *_prefix(condition.destination),
        asks,
        chosen,
        condition.ether_type or 0,
        *(condition.source_port or (0, 0xFFFF)),
        *(condition.destination_port or (0, 0xFFFF)),
        condition.vlan or 0,
        condition.source[0] if condition.source else 0,
        condition.destination[0] if condition.destination else 0,
        condition.version or 0,
        condition.protocol or 0,
        flags,
        mask,
        condition.later_fragment or 0,
        condition.icmp_type or 0,
        condition.icmp_code or 0,
    )


def _prefix(prefix: tuple[int, int, int] | None) -> tuple[int, int, int, int]:
    """Value and mask, each its low word first."""
    if prefix is None:
        return 0, 0, 0, 0
    version, shift, first = prefix
    bits = 32 if version == 4 else 128
    value, mask = first << shift, (1 << bits) - (1 << shift)
    return value & _WORD, value >> 64, mask & _WORD, mask >> 64
