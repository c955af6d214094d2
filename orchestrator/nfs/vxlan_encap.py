"""vxlan_encap: puts whole frames into VXLAN (RFC 7348) over IPv4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self
from zlib import crc32

from pydantic import Field, model_validator

from orchestrator.model.checksums import internet_checksum
from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    EncapProgram,
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
from orchestrator.nfs.editing import flow_addresses
from orchestrator.nfs.values import Ipv4Field, address_text
from servernf.wire.addresses import GATEWAY_MAC

Vni = Annotated[int, Field(ge=0, le=(1 << 24) - 1, strict=True)]
VXLAN_PORT = 4789
FLAG_VNI = 0x08


class VxlanEncapConfig(NfConfig):
    """The tunnel's ends (VTEPs) and the VXLAN network identifier."""

    vni: Vni
    local: Ipv4Field
    remote: Ipv4Field

    @model_validator(mode="after")
    def _two_ends(self) -> Self:
        if self.local == self.remote:
            raise ValueError(f"local and remote are both {address_text((4, self.local))}")
        return self


@network_function("vxlan_encap")
class VxlanEncap(NetworkFunction[VxlanEncapConfig]):
    """Stateless: `encap` from inside, nothing from outside."""

    Config = VxlanEncapConfig
    cost = CostProfile(
        400, 0.1, "our estimate: VLANPush (289; Lemur, CoNEXT'20) and 50 bytes of headers"
    )

    def elements(self, port: str) -> ElementGraph:
        if port == "outside":
            back = Element("back", FilterProgram((), "inside"), ("inside",))
            return ElementGraph("back", {"back": back}, {("back", "inside"): Leave("inside")})
        program = EncapProgram(self.config.local, self.config.remote, self.config.vni)
        encap = Element("encap", program, ("outside",))
        return ElementGraph("encap", {"encap": encap}, {("encap", "outside"): Leave("outside")})

    def reference(self) -> Reference:
        return _VxlanEncapReference(self.config)

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        return [("outside", 4, self.config.local)]

    def runtime_config(self) -> Mapping[str, Any]:
        return self.config.model_dump(mode="json")


class _VxlanEncapReference(Reference):
    def __init__(self, config: VxlanEncapConfig) -> None:
        self._config = config

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if port == "outside":
            return (("inside", packet),)
        return (("outside", Packet.parse(self._outer(packet) + packet.to_bytes())),)

    def _outer(self, packet: Packet) -> bytes:
        config, inner = self._config, len(packet.data)
        source, destination = flow_addresses(packet)
        flow = source.to_bytes(16, "big") + destination.to_bytes(16, "big")
        gateway = GATEWAY_MAC.to_bytes(6, "big")
        vxlan = bytes((FLAG_VNI, 0, 0, 0)) + config.vni.to_bytes(3, "big") + b"\0"
        udp = b"".join(
            number.to_bytes(2, "big")
            for number in (0xC000 + crc32(flow) % 0x4000, VXLAN_PORT, 8 + len(vxlan) + inner, 0)
        )
        length = 20 + len(udp) + len(vxlan) + inner
        ip = bytearray(
            b"\x45\0" + length.to_bytes(2, "big") + b"\0\0\x40\0\x40" + bytes((UDP, 0, 0))
        )
        ip += config.local.to_bytes(4, "big") + config.remote.to_bytes(4, "big")
        ip[10:12] = internet_checksum(bytes(ip)).to_bytes(2, "big")
        return gateway + gateway + b"\x08\0" + bytes(ip) + udp + vxlan
