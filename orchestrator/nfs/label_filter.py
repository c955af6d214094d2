"""label_filter: permits, denies or sends to a branch, by the NF context label of an NF before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

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
    """A label, 0 for packets that have none, and what becomes of its packets: an action, or the port
    of a branch that they leave by."""

    label: Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
    action: Action | None = None
    port: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,31}$")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.action is None) == (self.port is None):
            raise ValueError("give an action (permit, deny) or the port of a branch")
        if self.port in (*OPPOSITE, "deny"):
            raise ValueError(f"port '{self.port}' is no branch: choose another name")
        return self

    @model_serializer
    def _written(self) -> dict[str, Any]:
        chosen = {"port": self.port} if self.action is None else {"action": self.action}
        return {"label": self.label, **chosen}


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

    @property
    def branches(self) -> tuple[str, ...]:
        """Ports of branches, in the order of the rules."""
        return tuple(dict.fromkeys(rule.port for rule in self.rules if rule.port is not None))


@network_function("label_filter")
class LabelFilter(NetworkFunction[LabelFilterConfig]):
    """One element each port: `filter`."""

    Config = LabelFilterConfig
    cost = CostProfile(100, 0.0, "our estimate: one look into a small table")

    @property
    def ports(self) -> tuple[str, ...]:
        return (*OPPOSITE, *self.config.branches)

    def elements(self, port: str) -> ElementGraph:
        left = (OPPOSITE[port], *self.config.branches) if port in OPPOSITE else ("inside",)
        program = StatefulProgram("reads the NF context label, which no table of a switch does")
        edges: dict[tuple[str, str], str | Leave] = {("filter", out): Leave(out) for out in left}
        return ElementGraph("filter", {"filter": Element("filter", program, left)}, edges)

    def reference(self) -> Reference:
        return LabelFilterReference(self.config)


class LabelFilterReference(Reference):
    """Without state."""

    def __init__(self, config: LabelFilterConfig) -> None:
        self.config = config

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        named = [rule for rule in self.config.rules if rule.label == packet.context]
        action = self.config.default
        if named:
            action = named[0].action or "branch"
        if action == "deny":
            return ()
        if port not in OPPOSITE:
            return (("inside", packet),)
        if action == "branch":
            assert named[0].port is not None
            return ((named[0].port, packet),)
        return ((OPPOSITE[port], packet),)
