"""vlan_pop: takes the outermost VLAN tag off (IEEE 802.1Q, 9.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    Leave,
    VlanPopProgram,
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
from orchestrator.nfs.editing import without_vlan
from orchestrator.nfs.vlan_push import Vid


class VlanPopConfig(NfConfig):
    """`others`: what becomes of frames without a tag, or whose VID is another than `vid`."""

    vid: Vid | None = None
    others: Literal["pass", "drop"] = "pass"


@network_function("vlan_pop")
class VlanPop(NetworkFunction[VlanPopConfig]):
    """Stateless: `pop` from inside, nothing from outside."""

    Config = VlanPopConfig
    cost = CostProfile(230, 0.0, "Lemur (CoNEXT'20), VLANPop, 1500 B at 1.7 GHz")

    def elements(self, port: str) -> ElementGraph:
        if port == "outside":
            back = Element("back", FilterProgram((), "inside"), ("inside",))
            return ElementGraph("back", {"back": back}, {("back", "inside"): Leave("inside")})
        program = VlanPopProgram(self.config.vid, self.config.others == "drop")
        pop = Element("pop", program, ("outside",))
        return ElementGraph("pop", {"pop": pop}, {("pop", "outside"): Leave("outside")})

    def reference(self) -> Reference:
        return _VlanPopReference(self.config)

    def runtime_config(self) -> Mapping[str, Any]:
        return {"vid": self.config.vid, "others": self.config.others}


class _VlanPopReference(Reference):
    def __init__(self, config: VlanPopConfig) -> None:
        self._config = config

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if port == "outside":
            return (("inside", packet),)
        config = self._config
        vid = packet.vlans[0] & 0xFFF if packet.vlans else None
        if vid is None or config.vid not in (None, vid):
            return () if config.others == "drop" else (("outside", packet),)
        untagged = without_vlan(packet)
        return () if untagged is None else (("outside", untagged),)
