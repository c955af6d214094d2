"""Both ends of a TCP connection, whose segments have right numbers; and what a stranger makes up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

Way = tuple[str, int, str, int]
"""Source address and port, destination address and port."""
Sent = tuple[str, Any]
"""The port that a packet enters, and the packet from IP on."""


class TcpTalk:
    """A client inside and a server outside; each way is as its packets are when they enter."""

    def __init__(self, there: Way, back: Way, *, client: int = 1000, server: int = 5000) -> None:
        self._ways = {"inside": there, "outside": back}
        self.next = {"inside": client, "outside": server}

    def segment(self, port: str, flags: str = "A", data: bytes = b"", **fields: Any) -> Any:
        """What the end on the side of `port` sends next; given fields replace the right ones."""
        source, sport, destination, dport = self._ways[port]
        other = "outside" if port == "inside" else "inside"
        numbers = {"seq": self.next[port], "ack": self.next[other] if "A" in flags else 0}
        if not fields:
            self.next[port] += len(data) + ("S" in flags) + ("F" in flags)
        numbers |= fields
        numbers = {key: value & 0xFFFF_FFFF for key, value in numbers.items()}
        ip = (IPv6 if ":" in source else IP)(src=source, dst=destination)
        return ip / TCP(sport=sport, dport=dport, flags=flags, **numbers) / Raw(data)

    def inside(self, flags: str = "A", data: bytes = b"", **fields: Any) -> Any:
        """From the client."""
        return self.segment("inside", flags, data, **fields)

    def outside(self, flags: str = "A", data: bytes = b"", **fields: Any) -> Any:
        """From the server."""
        return self.segment("outside", flags, data, **fields)

    def handshake(self) -> Iterator[Sent]:
        """Three segments."""
        yield "inside", self.inside("S")
        yield "outside", self.outside("SA")
        yield "inside", self.inside("A")

    def life(self, rng: random.Random) -> Iterator[Sent]:
        """A whole connection, now and then disturbed by who does not know its numbers, or does."""
        steps: list[tuple[str, str, bytes]] = [("inside", "S", b""), ("outside", "SA", b"")]
        steps.append(("inside", "A", b""))
        for _ in range(rng.randrange(6)):
            steps.append((rng.choice(("inside", "outside")), "PA", bytes(rng.randrange(100))))
        ends = rng.choice((("FA", "FA"), ("RA",), ("R",), ("FA",), ()))
        order = rng.sample(("inside", "outside"), 2)
        steps += [(port, flags, b"") for port, flags in zip(order, ends, strict=False)]
        for port, flags, data in steps:
            if rng.random() < 0.3:
                yield self._forged(rng)
            packet = self.segment(port, flags, data)
            yield port, packet
            if rng.random() < 0.1:
                yield port, packet

    def _forged(self, rng: random.Random) -> Sent:
        port = rng.choice(("inside", "outside"))
        flags = rng.choice(("R", "RA", "S", "SA", "FA", "A", "PA", "SF", ""))
        other = "outside" if port == "inside" else "inside"
        near = rng.choice((0, 0, -1, 1, 500, -500, 100_000, -100_000, 1 << 31))
        far = rng.choice((0, 0, 0, 1, -70_000, 1 << 20))
        packet = self.segment(
            port,
            flags,
            bytes(rng.choice((0, 0, 10))),
            seq=self.next[port] + near,
            ack=self.next[other] + far,
        )
        if rng.random() < 0.2:
            packet[TCP].chksum = 1
        return port, packet
