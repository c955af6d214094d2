"""ttl_guard: bounds (low, high, clamp), and rules that choose one of them."""

from __future__ import annotations

import struct

from servernf.dpdk.conditions import rules
from servernf.dpdk.forms import Making, form
from servernf.wire.fields import Fields


@form("ttl_guard")
def ttl_guard(config: Fields, making: Making) -> bytes:
    bounds: list[bytes] = []

    def choose(rule: Fields, index: int) -> int:
        clamps = rule.raw("action") == "clamp"
        low, high = rule.integer("min", 0, 255, 0), rule.integer("max", 0, 255, 255)
        bounds.append(struct.pack("=3Bx", low, high, clamps))
        return index

    chosen = rules(config, choose)
    return struct.pack("=I", len(bounds)) + b"".join(bounds) + chosen
