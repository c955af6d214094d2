"""policer: rate limits by rules: two rates and three colours (RFC 2698), or one rate and two bursts
(RFC 2697). Bytes are those of the whole frame without tag and FCS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    DROP,
    PASS,
    CostProfile,
    ElementGraph,
    ElementProgram,
    FilterProgram,
    MeterProgram,
    Relation,
    StatefulProgram,
)
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.choosing import OPPOSITE, Reverse, choice_elements, chooser
from orchestrator.nfs.editing import set_dscp
from orchestrator.nfs.matching import MatchFields, first_output
from orchestrator.nfs.values import DscpField, match_json
from orchestrator.units import Rate

MAX_BURST = (1 << 32) - 1
"""What BMv2's meters hold."""
Burst = Annotated[int, Field(ge=64, le=MAX_BURST, strict=True)]
"""Bytes; a burst below a frame's size would never let one pass."""
Verdict = Literal["pass", "drop"] | DscpField
GREEN, YELLOW, RED = "green", "yellow", "red"


class PolicerRule(MatchFields):
    """Packets that it matches first share `rate` (bit/s) and `burst` (bytes), each direction apart.

    With `peak_rate` and `peak_burst` those between the rates are yellow (RFC 2698), with
    `excess_burst` those that only what is left over of earlier time allows (RFC 2697).
    """

    rate: Rate
    burst: Burst
    peak_rate: Rate | None = None
    peak_burst: Burst | None = None
    excess_burst: Burst | None = None
    yellow: Verdict = "pass"
    red: Verdict = "drop"

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.peak_rate is None) != (self.peak_burst is None):
            raise ValueError("peak_rate and peak_burst go together (RFC 2698)")
        if self.peak_rate is not None and self.excess_burst is not None:
            raise ValueError("either a peak rate (RFC 2698) or an excess burst (RFC 2697)")
        if self.peak_rate is not None and self.peak_rate < self.rate:
            raise ValueError(f"peak_rate {self.peak_rate} is below rate {self.rate} (bit/s)")
        if self.rate < 8:
            raise ValueError(f"rate {self.rate}: at least 8 bit/s")
        three = self.peak_rate is not None or self.excess_burst is not None
        if not three and "yellow" in self.model_fields_set:
            raise ValueError("yellow needs a peak_rate or an excess_burst: there is none now")
        return self

    @property
    def program(self) -> ElementProgram:
        """A meter; v1model has none with an excess burst."""
        if self.excess_burst is not None:
            return StatefulProgram(
                "one rate with an excess burst: a switch's meters have two rates"
            )
        rate, burst = self.rate // 8, self.burst
        peak_rate = rate if self.peak_rate is None else self.peak_rate // 8
        peak_burst = burst if self.peak_burst is None else self.peak_burst
        return MeterProgram(rate, burst, peak_rate, peak_burst, self.yellow, self.red)


class PolicerConfig(NfConfig):
    """Packets that no rule matches pass."""

    rules: Annotated[tuple[PolicerRule, ...], Field(min_length=1)]
    reverse: Reverse = "pass"


@network_function("policer")
class Policer(NetworkFunction[PolicerConfig]):
    """Elements of each port: `select`, then `meterN` for rule N. One place: a rule has one meter."""

    Config = PolicerConfig
    replicable = False
    relation = Relation("tolerance", "colours may differ by one frame where a bucket is just full")
    keeps_state_when_changed = frozenset({"rules", "reverse"})
    cost = CostProfile(
        450, 0.0, "our estimate: ACL (985) for few rules, TrafficShaper (20); Lemur (CoNEXT'20)"
    )

    def elements(self, port: str) -> ElementGraph:
        choices = {_choice(i): rule.program for i, rule in enumerate(self.config.rules)}
        return choice_elements(self._chooser(port), choices, OPPOSITE[port])

    def reference(self) -> Reference:
        return _PolicerReference({p: self._chooser(p) for p in self.ports}, self.config.rules)

    def runtime_config(self) -> Mapping[str, Any]:
        return {
            "rules": [
                {
                    **match_json(rule.to_match()),
                    "rate": rule.rate,
                    "burst": rule.burst,
                    "peak_rate": rule.peak_rate,
                    "peak_burst": rule.peak_burst,
                    "excess_burst": rule.excess_burst,
                    "yellow": rule.yellow,
                    "red": rule.red,
                }
                for rule in self.config.rules
            ],
            "reverse": self.config.reverse,
        }

    def _chooser(self, port: str) -> FilterProgram:
        rules = [(rule.to_match(), _choice(i)) for i, rule in enumerate(self.config.rules)]
        return chooser(rules, PASS, port, self.config.reverse)


def _choice(index: int) -> str:
    return f"meter{index}"


class _Bucket:
    """Tokens are bytes; those of all time are counted in whole bytes, so no fraction is lost."""

    def __init__(self, rate: int, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = burst
        self.seen = 0

    def fill(self, now_us: int) -> int:
        """Add what has come since; what did not fit."""
        total = now_us * self.rate // 1_000_000
        self.tokens += total - self.seen
        self.seen = total
        spilt = max(0, self.tokens - self.burst)
        self.tokens -= spilt
        return spilt

    def take(self, size: int) -> bool:
        if self.tokens < size:
            return False
        self.tokens -= size
        return True


class _Meter:
    """One rule in one direction; colour-blind."""

    def __init__(self, rule: PolicerRule) -> None:
        self.rule = rule
        self.committed = _Bucket(rule.rate // 8, rule.burst)
        self.peak: _Bucket | None = None
        self.excess: _Bucket | None = None
        if rule.peak_rate is not None and rule.peak_burst is not None:
            self.peak = _Bucket(rule.peak_rate // 8, rule.peak_burst)
        elif rule.excess_burst is not None:
            self.excess = _Bucket(0, rule.excess_burst)

    def colour(self, size: int, now_us: int) -> str:
        spilt = self.committed.fill(now_us)
        if self.peak is not None:
            self.peak.fill(now_us)
            if not self.peak.take(size):
                return RED
            return GREEN if self.committed.take(size) else YELLOW
        if self.committed.take(size):
            if self.excess is not None:
                self.excess.tokens = min(self.excess.burst, self.excess.tokens + spilt)
            return GREEN
        if self.excess is None:
            return RED
        self.excess.tokens = min(self.excess.burst, self.excess.tokens + spilt)
        return YELLOW if self.excess.take(size) else RED


class _PolicerReference(Reference):
    def __init__(self, choosers: Mapping[str, FilterProgram], rules: Sequence[PolicerRule]) -> None:
        self._choosers = choosers
        self._meters = {
            (port, _choice(i)): _Meter(rule) for port in choosers for i, rule in enumerate(rules)
        }

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        choice, _rule = first_output(self._choosers[port], packet)
        if choice != PASS:
            meter = self._meters[port, choice]
            colour = meter.colour(len(packet.data), env.now_us)
            verdict: str | int = PASS
            if colour != GREEN:
                verdict = meter.rule.yellow if colour == YELLOW else meter.rule.red
            if verdict == DROP:
                return ()
            if isinstance(verdict, int):
                set_dscp(packet, verdict)
        return ((OPPOSITE[port], packet),)
