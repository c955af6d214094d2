"""The reference semantics of ids: search in streams and datagrams, by the letter of the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.model.headers import TCP, UDP
from orchestrator.model.match import PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import Environment, Output, Reference
from orchestrator.nfs.inspecting import hides
from orchestrator.nfs.streams import Direction, Streams


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes to find in a protocol's streams or datagrams that use one of `ports`.

    `to` says whose port that is: "server" the destination's, "client" the source's, "any" either's.
    """

    id: int
    content: bytes
    protocol: int
    ports: tuple[PortRange, ...]
    to: str = "any"
    nocase: bool = False
    drops: bool = True
    label: int = 0
    """0: none."""

    def concerns(self, protocol: int, ports: tuple[int, int]) -> bool:
        """Whether a packet's protocol and its port on that side are the signature's."""
        seen = {"client": ports[:1], "server": ports[1:]}.get(self.to, ports)
        return protocol == self.protocol and any(
            r.low <= port <= r.high for r in self.ports for port in seen
        )

    def ends_in(self, tail: bytes, new: bytes) -> bool:
        """Whether it is found, its last byte in `new`."""
        start = max(0, len(tail) - len(self.content) + 1)
        text = tail[start:] + new
        if self.nocase:
            return self.content.lower() in text.lower()
        return self.content in text


@dataclass(frozen=True, slots=True)
class _Searched:
    """One direction: its last bytes, and the label of its packets from now on."""

    tail: bytes = b""
    label: int = 0


class IdsReference(Reference):
    """One ids instance; `alerts` counts all matches, also of signatures that drop."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self._signatures = signatures
        self._keep = max((len(s.content) for s in signatures), default=1) - 1
        self._strict = any(s.drops for s in signatures)
        self._streams: Streams[_Searched] = Streams(self._judge, strict=self._strict)
        self._watched = {
            protocol: [r for s in signatures if s.protocol == protocol for r in s.ports]
            for protocol in {s.protocol for s in signatures}
        }
        self.alerts = 0

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        left = "outside" if port == "inside" else "inside"
        passes = True
        if packet.has_ports and self._listens(packet):
            if packet.protocol == UDP:
                passes, label = self._datagram_passes(packet)
                packet.context = label or packet.context
            elif packet.protocol == TCP:
                passes = self._streams.verdict(packet, port, env.now_us).passes
                searched = self._streams.memory(packet) if passes else None
                if searched is not None and searched.label:
                    packet.context = searched.label
        elif not packet.has_ports and self._strict:
            passes = not hides(packet, self._watched)
        return ((left, packet),) if passes else ()

    def _datagram_passes(self, packet: Packet) -> tuple[bool, int]:
        """What the receiver's UDP takes is searched; whether it passes, and its label."""
        payload = packet.payload
        if packet.more_fragments:
            if self._strict:
                return False, 0
        else:
            at = packet.layout.l4 + 4
            length = int.from_bytes(packet.data[at : at + 2], "big")
            if not (packet.version == 6 and length == 0):
                if not 8 <= length <= 8 + len(payload):
                    return False, 0
                payload = payload[: length - 8]
        drops, label = self._found(packet, b"", payload)
        return not drops, label

    def _listens(self, packet: Packet) -> bool:
        """Whether one of its ports, on either side, is that of a signature."""
        return any(
            s.protocol == packet.protocol
            and any(
                r.low <= port <= r.high
                for r in s.ports
                for port in (packet.src_port or 0, packet.dst_port or 0)
            )
            for s in self._signatures
        )

    def _found(self, packet: Packet, tail: bytes, new: bytes) -> tuple[bool, int]:
        """Whether a match that ends in `new` must drop the packet, and the least label of them."""
        ports = (packet.src_port or 0, packet.dst_port or 0)
        hits = [
            s
            for s in self._signatures
            if s.concerns(packet.protocol or 0, ports) and s.ends_in(tail, new)
        ]
        self.alerts += len(hits)
        return any(s.drops for s in hits), min((s.label for s in hits if s.label), default=0)

    def _judge(self, packet: Packet, direction: Direction[_Searched], new: bytes) -> bool:
        before = direction.memory or _Searched()
        drops, label = self._found(packet, before.tail, new)
        if drops:
            return True
        tail = (before.tail + new)[-self._keep :] if self._keep else b""
        direction.memory = _Searched(tail, label or before.label)
        return False
