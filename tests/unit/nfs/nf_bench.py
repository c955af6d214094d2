"""One NF on a table: frames in by a port, what leaves by which port out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet as ScapyPacket

from orchestrator.model.packet import Packet
from orchestrator.nfs.base import SimpleEnvironment, lookup
from orchestrator.oracle.packets import HeaderFields
from orchestrator.oracle.world import Station
from servernf.python.network_function import create
from servernf.python.packet import PacketView

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


class Both:
    """The reference and the workers' runtime of one NF side by side: they must do the same."""

    def __init__(self, nf_type: str, **config: Any) -> None:
        self.bench = Bench(nf_type, config)
        runtime_config = dict(self.bench.function.runtime_config())
        if (
            nf_type == "router"
        ):  # as orchestrator/compiler/worker_programs.py has it: MAC 0 is nobody's
            hops = [r["next_hop"] for r in runtime_config["routes"] if "next_hop" in r]
            runtime_config["neighbors"] = dict.fromkeys(hops, "00:00:00:00:00:00")
            runtime_config["gateway_mac"] = "06:00:00:00:00:01"
        self.runtime = create(nf_type, "g/nf", runtime_config)
        self.now_us = 0

    def send(self, port: str, frame: ScapyPacket | bytes) -> list[tuple[str, bytes]]:
        """What leaves for a frame that enters a port, in order."""
        frame = bytes(frame)
        self.bench.env.now_us = self.now_us
        packet = Packet.parse(frame)
        assert packet.malformed is None, packet.malformed
        expected = [
            (left, output.to_bytes())
            for left, output in self.bench.reference.process(packet, port, self.bench.env)
        ]
        view = PacketView()
        assert view.load(frame)
        left = self.runtime.process(view, port, self.now_us)
        got = [] if left is None else [(left, bytes(view.data))]
        got += [(copy.port, copy.frame) for copy in self.runtime.emitted]
        self.runtime.emitted.clear()
        assert got == expected, f"{port}: {frame.hex()}"
        return expected

    def one(self, port: str, frame: ScapyPacket | bytes) -> tuple[str, Ether]:
        """The only frame that leaves."""
        outputs = self.send(port, frame)
        assert len(outputs) == 1, f"{len(outputs)} frames leave"
        return outputs[0][0], Ether(outputs[0][1])


def ether(payload: ScapyPacket) -> Ether:
    """A frame from a host to the gateway."""
    return Ether(bytes(Ether(dst="06:00:00:00:00:01", src="0a:00:00:00:00:01") / payload))


def mixed_frames(count: int, seed: int) -> Iterator[bytes]:
    """Well-formed frames of all kinds between few addresses and ports."""
    rng = random.Random(seed)
    sender = Station("h1", HOST_MAC, ())
    for _ in range(count):
        version = rng.choice((4, 4, 6))
        base = 0x0A000100 if version == 4 else 0x20010DB8 << 96
        fields = HeaderFields(
            version=version,
            src=base | rng.randrange(16),
            dst=base | rng.randrange(16),
            protocol=rng.choice((6, 6, 17, 17, 1, 58, 132)),
            src_port=rng.randrange(1, 9),
            dst_port=rng.randrange(1, 9),
            flags=rng.choice((2, 16, 18)),
            ttl=rng.choice((0, 1, 2, 63, 64, 254, 255)),
            offset=rng.choice((0, 0, 0, 0, 0, 8)),
            more=rng.random() < 0.2,
            data=rng.randbytes(rng.choice((0, 9, 26, 200))),
            options=rng.choice((b"", b"", b"\x01" * 4)),
            vlans=rng.choice(((), (), (5,), (5, 0x6007))),
        )
        frame = fields.frame(sender)
        if Packet.parse(frame).malformed is None:
            yield frame
    yield bytes(ether(ARP(pdst="10.0.1.1")))
