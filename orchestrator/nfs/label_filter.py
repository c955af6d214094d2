"""label_filter: permits or denies packets by the NF context label that an NF before it gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    Leave,
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
from orchestrator.nfs.inspecting import OPPOSITE

Label = Annotated[int, Field(ge=1, lt=1 << 32, strict=True)]
Action = Literal["permit", "deny"]


class LabelRule(NfConfig):
    """A label, 0 for packets that have none, and what becomes of its packets."""

    label: Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
    action: Action


class LabelFilterConfig(NfConfig):
    """Labels that no rule names are `default`'s."""

    rules: Annotated[tuple[LabelRule, ...], Field(min_length=1)]
    default: Action = "permit"

    @model_validator(mode="after")
    def _once(self) -> Self:
        labels = [rule.label for rule in self.rules]
        doubles = sorted({label for label in labels if labels.count(label) > 1})
        if doubles:
            raise ValueError(f"label {doubles[0]} has two rules")
        return self


@network_function("label_filter")
class LabelFilter(NetworkFunction[LabelFilterConfig]):
    """One element each port: `filter`."""

    Config = LabelFilterConfig
    cost = CostProfile(100, 0.0, "our estimate: one look into a small table")

    def elements(self, port: str) -> ElementGraph:
        left = OPPOSITE[port]
        program = StatefulProgram("reads the NF context label, which no table of a switch does")
        return ElementGraph(
            "filter",
            {"filter": Element("filter", program, (left,))},
            {("filter", left): Leave(left)},
        )

    def reference(self) -> Reference:
        return LabelFilterReference(self.config)


class LabelFilterReference(Reference):
    """Without state."""

    def __init__(self, config: LabelFilterConfig) -> None:
        self.config = config

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        actions = (rule.action for rule in self.config.rules if rule.label == packet.context)
        permits = next(actions, self.config.default) == "permit"
        return ((OPPOSITE[port], packet),) if permits else ()
