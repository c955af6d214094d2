"""dscp_marker: sets the DSCP of packets by rules (RFC 2474); ECN stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import model_validator

from orchestrator.model.elements import PASS, CostProfile, DscpProgram, ElementGraph, FilterProgram
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


class DscpRule(MatchFields):
    """A match and the DSCP of the packets that it matches first."""

    dscp: DscpField


class DscpMarkerConfig(NfConfig):
    """`default`: the DSCP of packets that no rule matches; without it theirs stays."""

    rules: tuple[DscpRule, ...] = ()
    default: DscpField | None = None
    reverse: Reverse = "pass"

    @model_validator(mode="after")
    def _marks(self) -> Self:
        if not self.rules and self.default is None:
            raise ValueError("neither rules nor a default: it would mark nothing")
        return self


@network_function("dscp_marker")
class DscpMarker(NetworkFunction[DscpMarkerConfig]):
    """Stateless. Elements of each port: `select`, then one for each DSCP that its rules give."""

    Config = DscpMarkerConfig
    cost = CostProfile(
        450, 0.0, "our estimate: ACL (985) for few rules, UpdateTTL (60); Lemur (CoNEXT'20)"
    )

    def elements(self, port: str) -> ElementGraph:
        config = self.config
        values = {rule.dscp for rule in config.rules} | {config.default}
        choices = {_choice(v): DscpProgram(v) for v in values if v is not None}
        return choice_elements(self._chooser(port), choices, OPPOSITE[port])

    def reference(self) -> Reference:
        return _DscpMarkerReference({port: self._chooser(port) for port in self.ports})

    def runtime_config(self) -> Mapping[str, Any]:
        rules = [{**match_json(r.to_match()), "dscp": r.dscp} for r in self.config.rules]
        return {"rules": rules, "default": self.config.default, "reverse": self.config.reverse}

    def _chooser(self, port: str) -> FilterProgram:
        config = self.config
        rules = [(rule.to_match(), _choice(rule.dscp)) for rule in config.rules]
        default = PASS if config.default is None else _choice(config.default)
        return chooser(rules, default, port, config.reverse)


def _choice(dscp: int) -> str:
    return f"dscp{dscp}"


class _DscpMarkerReference(Reference):
    def __init__(self, choosers: Mapping[str, FilterProgram]) -> None:
        self._choosers = choosers

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        choice, _rule = first_output(self._choosers[port], packet)
        if choice != PASS:
            set_dscp(packet, int(choice.removeprefix("dscp")))
        return ((OPPOSITE[port], packet),)
