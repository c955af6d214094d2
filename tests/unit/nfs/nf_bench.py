"""One NF on a table: frames in by a port, what leaves by which port out."""

from __future__ import annotations

from typing import Any

from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket

from orchestrator.model.packet import Packet
from orchestrator.nfs.base import SimpleEnvironment, lookup

HOST_MAC = 0x0A_00_00_00_00_01


class Bench:
    """A fresh reference instance of an NF type; `now_us` is its clock."""

    def __init__(self, nf_type: str, config: dict[str, Any]) -> None:
        cls = lookup(nf_type)
        self.function = cls("nf", cls.Config.model_validate(config))
        self.reference = self.function.reference()
        self.env = SimpleEnvironment(neighbors={(4, 0xC633640D): 0x0A_00_00_00_00_03})

    def send(self, port: str, layers: ScapyPacket) -> tuple[str, ScapyPacket] | None:
        """The port and the frame that leave; None when dropped."""
        frame = bytes(Ether(dst="06:00:00:00:00:01", src="0a:00:00:00:00:01") / layers)
        outputs = self.reference.process(Packet.parse(frame), port, self.env)
        assert len(outputs) <= 1
        return (outputs[0][0], Ether(outputs[0][1].to_bytes())) if outputs else None

    def passes(self, port: str, layers: ScapyPacket) -> bool:
        return self.send(port, layers) is not None

    def wait(self, seconds: float) -> None:
        self.env.now_us += round(seconds * 1_000_000)
