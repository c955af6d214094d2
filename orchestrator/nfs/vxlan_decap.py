"""vxlan_decap: takes frames out of VXLAN (RFC 7348) over IPv4; what is not of its VNI is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.model.elements import (
    CostProfile,
    DecapProgram,
    Element,
    ElementGraph,
    FilterProgram,
    Leave,
)
from orchestrator.model.headers import UDP
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.values import Ipv4Field
from orchestrator.nfs.vxlan_encap import FLAG_VNI, VXLAN_PORT, Vni

NSH = b"\x89\x4f"
"""The EtherType of a tag, which must not be forged."""


class VxlanDecapConfig(NfConfig):
    """The tunnel's end (VTEP) here and the VXLAN network identifier."""

    vni: Vni
    local: Ipv4Field


@network_function("vxlan_decap")
class VxlanDecap(NetworkFunction[VxlanDecapConfig]):
    """Stateless: `decap` from outside, nothing from inside."""

    Config = VxlanDecapConfig
    cost = CostProfile(300, 0.1, "our estimate: VLANPop (230; Lemur, CoNEXT'20) and a few checks")

    def elements(self, port: str) -> ElementGraph:
        if port == "inside":
            forth = Element("forth", FilterProgram((), "outside"), ("outside",))
            return ElementGraph("forth", {"forth": forth}, {("forth", "outside"): Leave("outside")})
        decap = Element("decap", DecapProgram(self.config.local, self.config.vni), ("inside",))
        return ElementGraph("decap", {"decap": decap}, {("decap", "inside"): Leave("inside")})

    def reference(self) -> Reference:
        return _VxlanDecapReference(self.config)

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        return [("outside", 4, self.config.local)]

    def runtime_config(self) -> Mapping[str, Any]:
        return self.config.model_dump(mode="json")


class _VxlanDecapReference(Reference):
    def __init__(self, config: VxlanDecapConfig) -> None:
        self._config = config

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if port == "inside":
            return (("outside", packet),)
        inner = self._inner(packet)
        if inner is None or inner.malformed is not None:
            return ()
        return (("inside", inner),)

    def _inner(self, packet: Packet) -> Packet | None:
        """The frame in the tunnel; None when it is not one for us."""
        addressed = (
            packet.version == 4
            and packet.protocol == UDP
            and packet.dst == self._config.local
            and packet.dst_port == VXLAN_PORT
            and not packet.more_fragments
        )
        if not addressed:
            return None
        udp = packet.layout.l4
        length = int.from_bytes(packet.data[udp + 4 : udp + 6], "big")
        vxlan = packet.data[udp + 8 : udp + 16]
        if length < 16 or not vxlan[0] & FLAG_VNI:
            return None
        if int.from_bytes(vxlan[4:7], "big") != self._config.vni:
            return None
        inner = bytes(packet.data[udp + 16 :])
        return None if inner[12:14] == NSH else Packet.parse(inner)
