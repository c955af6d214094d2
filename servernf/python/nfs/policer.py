"""Policer: token buckets by rule and direction: RFC 2698 (two rates) or RFC 2697 (excess burst).

Colour-blind; sizes are those of whole frames. The bytes of a rate are counted from time 0, so that
no fraction is lost between packets.

Another configuration goes on with the buckets of a rule that matches the same and has as many, full or
not; the buckets of other rules start full.
"""

from __future__ import annotations

from typing import Any

from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.python.rules import Rules
from servernf.python.state import TableKind
from servernf.python.tables import Fixed
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

_MICRO = 1_000_000
_MAX_RATE = 1 << 62
_MAX_BURST = (1 << 32) - 1
_PASS, _DROP = -1, -2


class _Level:
    """A meter's tokens in bytes, as they were at `last_us`, and how many frames had each colour."""

    __slots__ = (
        "committed",
        "excess",
        "green",
        "last_us",
        "part",
        "peak",
        "peak_part",
        "red",
        "yellow",
    )

    def __init__(self, committed: int = 0, peak: int = 0, excess: int = 0) -> None:
        self.committed = committed
        self.peak = peak
        self.excess = excess
        self.last_us = 0
        self.part = self.peak_part = 0
        """Of a byte, in millionths: what the rates have given beside whole bytes."""
        self.green = self.yellow = self.red = 0


_BUCKETS = TableKind(
    "buckets",
    _Level,
    (
        *(RecordField(name, "i64") for name in ("committed", "peak", "excess")),
        RecordField("last_us", "age"),
        *(RecordField(name, "u32") for name in ("part", "peak_part")),
        *(RecordField(name, "u64") for name in ("green", "yellow", "red")),
    ),
    key=(RecordField("rule", "u32"), RecordField("inside", "bool")),
)
"""By the rule's number in its configuration, and whether packets enter inside."""


class RuleMeter:
    """What a rule has promised. A verdict is a DSCP, pass or drop."""

    __slots__ = (
        "burst",
        "excess_burst",
        "number",
        "peak_burst",
        "peak_rate",
        "rate",
        "red",
        "yellow",
    )

    def __init__(self, rule: Fields, number: int) -> None:
        self.number = number
        self.rate = rule.integer("rate", 8, _MAX_RATE) // 8
        self.burst = _burst(rule, "burst") or 0
        self.peak_rate = (
            rule.integer("peak_rate", 8, _MAX_RATE) // 8 if rule.has("peak_rate") else 0
        )
        self.peak_burst = _burst(rule, "peak_burst")
        self.excess_burst = _burst(rule, "excess_burst")
        if (self.peak_burst is None) != (not self.peak_rate):
            rule.problem("peak_rate", "goes with peak_burst")
        if self.peak_rate and self.excess_burst is not None:
            rule.problem("excess_burst", "is for one rate, but there is a peak_rate")
        if self.peak_rate and self.peak_rate < self.rate:
            rule.problem("peak_rate", "is below rate")
        self.yellow = _verdict(rule, "yellow", _PASS)
        self.red = _verdict(rule, "red", _DROP)

    def full(self) -> _Level:
        """Buckets in which nobody has been."""
        return _Level(self.burst, self.peak_burst or 0, self.excess_burst or 0)

    def verdict(self, level: _Level, size: int, now_us: int) -> int:
        """What becomes of a frame of `size` bytes in one direction, whose tokens `level` are."""
        past_us, level.last_us = now_us - level.last_us, now_us
        whole, level.part = divmod(self.rate * past_us + level.part, _MICRO)
        committed = level.committed + whole
        spilt = committed - self.burst
        if spilt > 0:
            committed = self.burst
        if self.peak_burst is not None:
            whole, level.peak_part = divmod(self.peak_rate * past_us + level.peak_part, _MICRO)
            level.peak = min(level.peak + whole, self.peak_burst)
            if level.peak < size:
                colour = 2
            else:
                level.peak -= size
                colour = 0 if committed >= size else 1
        elif self.excess_burst is not None:
            level.excess = min(level.excess + max(spilt, 0), self.excess_burst)
            colour = 0 if committed >= size else 1 if level.excess >= size else 2
            if colour == 1:
                level.excess -= size
        else:
            colour = 0 if committed >= size else 2
        level.committed = committed - size if colour == 0 else committed
        if colour == 0:
            level.green += 1
            return _PASS
        if colour == 1:
            level.yellow += 1
            return self.yellow
        level.red += 1
        return self.red

    @property
    def kind(self) -> tuple[bool, bool]:
        """Which buckets it has beside the committed one."""
        return self.peak_burst is not None, self.excess_burst is not None


@network_function("policer")
class Policer(NetworkFunction):
    """Packets that no rule matches pass."""

    _buckets: Fixed[tuple[int, bool], _Level]

    def setup(self, config: Fields) -> None:
        meters: list[RuleMeter] = []

        def read(rule: Fields) -> RuleMeter:
            meters.append(RuleMeter(rule, len(meters)))
            return meters[-1]

        self._rules = Rules(config, read)
        self._meters = meters
        if not meters:
            config.problem("rules", "needs at least one rule")
        levels = [((m.number, inside), m.full()) for m in meters for inside in (True, False)]
        self.state.declare("_buckets", _BUCKETS, Fixed(levels), follows=False)

    def bound(self) -> None:
        self._levels = {
            port: [self._buckets.get((m.number, port == INSIDE)) or m.full() for m in self._meters]
            for port in (INSIDE, OUTSIDE)
        }

    def continue_from(self, before: Any) -> bool:
        # Numbers of rules change; a rule is the same if it matches the same and is of the same kind.
        numbers = {
            (condition, meter.kind): meter.number
            for condition, meter in zip(before._rules.conditions, before._meters, strict=True)
        }
        for condition, meter in zip(self._rules.conditions, self._meters, strict=True):
            number = numbers.pop((condition, meter.kind), None)
            for inside in (True, False) if number is not None else ():
                level = before._buckets.records[number, inside]
                self._buckets.records[meter.number, inside] = level
        return super().continue_from(before)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        meter = self._rules.choose(packet, port)
        if meter is not None:
            level = self._levels[port][meter.number]
            verdict = meter.verdict(level, len(packet.data), now_us)
            if verdict == _DROP:
                return self.drop("rate", f"rules[{meter.number}]")
            if verdict != _PASS:
                packet.set_dscp(verdict)
        return OTHER[port]

    def metrics(self) -> dict[str, int]:
        return {
            f"rule{number}.{port}.{colour}": getattr(level, colour)
            for number in range(len(self._meters))
            for port, levels in self._levels.items()
            for level in (levels[number],)
            for colour in ("green", "yellow", "red")
        }


def _burst(rule: Fields, key: str) -> int | None:
    if key != "burst" and not rule.has(key):
        return None
    return rule.integer(key, 64, _MAX_BURST)


def _verdict(rule: Fields, key: str, default: int) -> int:
    value = rule.raw(key)
    if value is None:
        return default
    if isinstance(value, str):
        return _DROP if rule.choice(key, ("pass", "drop")) == "drop" else _PASS
    return rule.integer(key, 0, 63)
