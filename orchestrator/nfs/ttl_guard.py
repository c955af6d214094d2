"""ttl_guard: drops or clamps packets whose TTL or hop limit is out of bounds (RFC 5082, GTSM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import PASS, CostProfile, ElementGraph, FilterProgram, TtlProgram
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
from orchestrator.nfs.matching import MatchFields, first_output
from orchestrator.nfs.values import match_json

Ttl = Annotated[int, Field(ge=0, le=255, strict=True)]


class TtlRule(MatchFields):
    """Packets that it matches first must have `min` to `max`; `action` is for the others."""

    min: Ttl = 0
    max: Ttl = 255
    action: Literal["drop", "clamp"] = "drop"

    @model_validator(mode="after")
    def _some_but_not_all(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no TTL would do")
        if (self.min, self.max) == (0, 255):
            raise ValueError("neither min nor max: every TTL would do")
        return self


class TtlGuardConfig(NfConfig):
    """Packets that no rule matches pass."""

    rules: Annotated[tuple[TtlRule, ...], Field(min_length=1)]
    reverse: Reverse = "pass"


@network_function("ttl_guard")
class TtlGuard(NetworkFunction[TtlGuardConfig]):
    """Stateless. Elements of each port: `select`, then one for each pair of bounds and action."""

    Config = TtlGuardConfig
    cost = CostProfile(
        450, 0.0, "our estimate: ACL (985) for few rules, UpdateTTL (60); Lemur (CoNEXT'20)"
    )

    def elements(self, port: str) -> ElementGraph:
        choices = {
            _choice(rule): TtlProgram(rule.min, rule.max, rule.action == "clamp")
            for rule in self.config.rules
        }
        return choice_elements(self._chooser(port), choices, OPPOSITE[port])

    def reference(self) -> Reference:
        bounds = {_choice(rule): rule for rule in self.config.rules}
        return _TtlGuardReference({p: self._chooser(p) for p in self.ports}, bounds)

    def runtime_config(self) -> Mapping[str, Any]:
        return {
            "rules": [
                {**match_json(r.to_match()), "min": r.min, "max": r.max, "action": r.action}
                for r in self.config.rules
            ],
            "reverse": self.config.reverse,
        }

    def _chooser(self, port: str) -> FilterProgram:
        rules = [(rule.to_match(), _choice(rule)) for rule in self.config.rules]
        return chooser(rules, PASS, port, self.config.reverse)


def _choice(rule: TtlRule) -> str:
    return f"{rule.action}_{rule.min}_{rule.max}"


class _TtlGuardReference(Reference):
    def __init__(
        self, choosers: Mapping[str, FilterProgram], bounds: Mapping[str, TtlRule]
    ) -> None:
        self._choosers = choosers
        self._bounds = bounds

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        choice, _rule = first_output(self._choosers[port], packet)
        if choice != PASS and packet.version:
            rule = self._bounds[choice]
            bound = min(max(packet.ttl, rule.min), rule.max)
            if bound != packet.ttl and rule.action == "drop":
                return ()
            if bound != packet.ttl:
                packet.ttl = bound
        return ((OPPOSITE[port], packet),)
