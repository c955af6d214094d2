"""Policer: token buckets by rule and direction: RFC 2698 (two rates) or RFC 2697 (excess burst).

Colour-blind; sizes are those of whole frames. The bytes of a rate are counted from time 0, so that
no fraction is lost between packets.

Another configuration goes on with the buckets of a rule that matches the same and has as many, full or
not; the buckets of other rules start full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from servernf.python.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.rules import Rules
from servernf.wire.fields import Fields

_MICRO = 1_000_000
_MAX_RATE = 1 << 62
_MAX_BURST = (1 << 32) - 1
_PASS, _DROP = -1, -2


@dataclass(slots=True)
class _Level:
    """A meter's tokens in bytes, as they were at `last_us`, and how many frames had each colour."""

    committed: int
    peak: int
    excess: int
    last_us: int = 0
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])


class Meter:
    """What a rule has promised, and its tokens in one direction. A verdict is a DSCP, pass or drop."""

    __slots__ = (
        "burst",
        "excess_burst",
        "level",
        "peak_burst",
        "peak_rate",
        "rate",
        "red",
        "yellow",
    )

    def __init__(self, rule: Fields) -> None:
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
        self.level = _Level(self.burst, self.peak_burst or 0, self.excess_burst or 0)

    def verdict(self, size: int, now_us: int) -> int:
        """What becomes of a frame of `size` bytes."""
        level = self.level
        before, level.last_us = level.last_us, now_us
        committed = level.committed + _whole(self.rate, before, now_us)
        spilt = committed - self.burst
        if spilt > 0:
            committed = self.burst
        if self.peak_burst is not None:
            peak = level.peak + _whole(self.peak_rate, before, now_us)
            level.peak = min(peak, self.peak_burst)
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
        level.counts[colour] += 1
        return (_PASS, self.yellow, self.red)[colour]

    @property
    def kind(self) -> tuple[bool, bool]:
        """Which buckets it has beside the committed one."""
        return self.peak_burst is not None, self.excess_burst is not None


@network_function("policer")
class Policer(NetworkFunction):
    """Packets that no rule matches pass."""

    def setup(self, config: Fields) -> None:
        # A rule's meters are made twice from the same text: one for each direction.
        rules: list[dict[str, Meter]] = []

        def read(rule: Fields) -> dict[str, Meter]:
            rules.append({port: Meter(rule) for port in OTHER})
            return rules[-1]

        self._rules = Rules(config, read)
        self._meters = rules
        if not rules:
            config.problem("rules", "needs at least one rule")

    def continue_from(self, before: Self) -> bool:
        levels = {
            (condition, meters[INSIDE].kind): {port: meters[port].level for port in OTHER}
            for condition, meters in zip(before._rules.conditions, before._meters, strict=True)
        }
        for condition, meters in zip(self._rules.conditions, self._meters, strict=True):
            found = levels.pop((condition, meters[INSIDE].kind), {})
            for port, level in found.items():
                meters[port].level = level
        return True

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        meters = self._rules.choose(packet, port)
        if meters is not None:
            verdict = meters[port].verdict(len(packet.data), now_us)
            if verdict == _DROP:
                return self.drop("rate")
            if verdict != _PASS:
                packet.set_dscp(verdict)
        return OTHER[port]

    def metrics(self) -> dict[str, int]:
        return {
            f"rule{index}.{port}.{colour}": meter.level.counts[number]
            for index, meters in enumerate(self._meters)
            for port, meter in meters.items()
            for number, colour in enumerate(("green", "yellow", "red"))
        }


def _whole(rate: int, before_us: int, now_us: int) -> int:
    """Bytes of a rate between two times, so that they add up without a rest."""
    return rate * now_us // _MICRO - rate * before_us // _MICRO


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
