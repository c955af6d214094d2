"""vlan_push: adds an outermost VLAN tag (IEEE 802.1Q, 9.6); a third one is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    Leave,
    VlanPushProgram,
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
from orchestrator.nfs.editing import with_vlan

Vid = Annotated[int, Field(ge=1, le=4094, strict=True)]
"""802.1Q, 9.6: 0 means a tag with a priority only, 4095 is reserved."""


class VlanPushConfig(NfConfig):
    """The tag; `type` is its EtherType (0x88a8: a service tag)."""

    vid: Vid
    pcp: Annotated[int, Field(ge=0, le=7, strict=True)] = 0
    type: Literal["0x8100", "0x88a8"] = "0x8100"


@network_function("vlan_push")
class VlanPush(NetworkFunction[VlanPushConfig]):
    """Stateless: `push` from inside, nothing from outside."""

    Config = VlanPushConfig
    cost = CostProfile(289, 0.0, "Lemur (CoNEXT'20), VLANPush, 1500 B at 1.7 GHz")

    def elements(self, port: str) -> ElementGraph:
        config = self.config
        if port == "outside":
            back = Element("back", FilterProgram((), "inside"), ("inside",))
            return ElementGraph("back", {"back": back}, {("back", "inside"): Leave("inside")})
        program = VlanPushProgram(int(config.type, 16), config.pcp, config.vid)
        push = Element("push", program, ("outside",))
        return ElementGraph("push", {"push": push}, {("push", "outside"): Leave("outside")})

    def reference(self) -> Reference:
        return _VlanPushReference(self.config)

    def runtime_config(self) -> Mapping[str, Any]:
        return {"vid": self.config.vid, "pcp": self.config.pcp, "type": self.config.type}


class _VlanPushReference(Reference):
    def __init__(self, config: VlanPushConfig) -> None:
        self._type = int(config.type, 16)
        self._tci = config.pcp << 13 | config.vid

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if port == "outside":
            return (("inside", packet),)
        tagged = with_vlan(packet, self._type, self._tci)
        return () if tagged is None else (("outside", tagged),)
