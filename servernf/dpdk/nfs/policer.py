"""policer: meters, each with rates (bytes a second), bursts (bytes), verdicts and where its levels
lie, and rules that choose one.

The levels are Python's own records, which a configuration that follows has, too: so a rule goes on.
"""

from __future__ import annotations

import struct

from servernf.dpdk.conditions import rules
from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields

_METER = struct.Struct("=5Q5I4x")
_LEVEL = (
    "committed",
    "peak",
    "excess",
    "last_us",
    "part",
    "peak_part",
    "green",
    "yellow",
    "red",
)
_SINGLE, _TWO_RATES, _EXCESS = range(3)
_PASS, _DROP = 64, 65


@form("policer")
def policer(config: Fields, making: Making) -> bytes:
    meters: list[bytes] = []
    levels = making.nf.state.tables["buckets"].table.records

    def choose(rule: Fields, index: int) -> int:
        places = [making.place(levels[index, inside], _LEVEL) for inside in (True, False)]
        kind = _EXCESS if rule.has("excess_burst") else _SINGLE
        kind = _TWO_RATES if rule.has("peak_rate") else kind
        rates = (_number(rule, key) // 8 for key in ("rate", "peak_rate"))
        bursts = (_number(rule, key) for key in ("burst", "peak_burst", "excess_burst"))
        verdicts = (_verdict(rule, "yellow", _PASS), _verdict(rule, "red", _DROP))
        meters.append(_METER.pack(*rates, *bursts, kind, *verdicts, *places))
        return index

    chosen = rules(config, choose)
    return struct.pack("=I", len(meters)) + b"".join(meters) + chosen


def _number(rule: Fields, key: str) -> int:
    value = rule.raw(key)
    return value if isinstance(value, int) else 0


def _verdict(rule: Fields, key: str, default: int) -> int:
    value = rule.raw(key)
    if isinstance(value, int):
        return value
    return {"pass": _PASS, "drop": _DROP}.get(str(value), default)
