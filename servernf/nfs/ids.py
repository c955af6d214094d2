"""Intrusion detection: content signatures over the reassembled TCP stream and over UDP payloads.

Both directions of a connection are reassembled (first copy of a byte wins) and searched with
Aho-Corasick. A signature split over segments is found because the last bytes searched, one less
than the longest signature, are searched again together with the next.

Memory is bounded: 65,536 connections, 64 segments and 128 KiB waiting a direction, and 64 MiB
waiting altogether; what would exceed it is dropped, so that nothing passes uninspected.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from servernf.config import Fields
from servernf.matcher import Matcher
from servernf.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.packet import TCP, UDP, PacketView
from servernf.tcp_stream import Direction, TooMuchWaiting

MAX_CONNECTIONS = 65_536
MAX_WAITING_BYTES = 64 << 20
IDLE_US = 300_000_000

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_PROTOCOLS = {"tcp": TCP, "udp": UDP}
_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes to look for; `ports` are inclusive ranges, of which one must hold either port."""

    number: int
    content: bytes
    protocol: int
    ports: tuple[tuple[int, int], ...]

    def concerns(self, source_port: int, destination_port: int) -> bool:
        """Whether it is meant for packets between these ports."""
        return any(
            low <= source_port <= high or low <= destination_port <= high
            for low, high in self.ports
        )


class _Connection:
    __slots__ = ("blocked", "high", "last_us", "low")

    def __init__(self) -> None:
        self.blocked = False
        self.last_us = 0
        self.low = Direction()  # from the lower (address, port) to the higher
        self.high = Direction()

    @property
    def waiting_bytes(self) -> int:
        return self.low.waiting_bytes + self.high.waiting_bytes

    def block(self) -> None:
        self.blocked = True
        self.low = self.high = Direction()


class _Rules:
    """The signatures of one protocol."""

    def __init__(self, signatures: list[Signature]) -> None:
        self.signatures = signatures
        self.matcher = Matcher([signature.content for signature in signatures])
        self.tail = max(0, self.matcher.longest - 1)
        watched = bytearray(65_536)
        for signature in signatures:
            for low, high in signature.ports:
                watched[low : high + 1] = b"\x01" * (high - low + 1)
        self.watched = bytes(watched)


@network_function("ids")
class Ids(NetworkFunction):
    """Drops (or counts) what carries a signature."""

    def setup(self, config: Fields) -> None:
        signatures = [_signature(item) for item in config.objects("signatures")]
        self._drops = config.choice("action", ("drop", "alert"), "drop") == "drop"
        if len({signature.number for signature in signatures}) < len(signatures):
            config.problem("signatures", "an id is given twice")
        self._tcp = _Rules([s for s in signatures if s.protocol == TCP])
        self._udp = _Rules([s for s in signatures if s.protocol == UDP])
        self._connections: OrderedDict[_Key, _Connection] = OrderedDict()
        self._waiting_bytes = 0
        self.alerts: dict[int, int] = {}

    def metrics(self) -> dict[str, int]:
        alerts = {f"alert.{number}": count for number, count in list(self.alerts.items())}
        return {
            "connections": len(self._connections),
            "waiting_bytes": self._waiting_bytes,
            "alerts": sum(alerts.values()),
            **alerts,
        }

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        out = OUTSIDE if port == INSIDE else INSIDE
        source_port = packet.source_port
        if source_port < 0:
            return out  # no ports: another protocol or a later fragment
        if packet.protocol == UDP:
            rules = self._udp
            if not (rules.watched[source_port] or rules.watched[packet.destination_port]):
                return out
            data, l4 = packet.data, packet.l4
            end = l4 + (data[l4 + 4] << 8 | data[l4 + 5])
            if end > packet.end:
                end = packet.end
            if end > l4 + 8 and self._matches(rules, data[l4 + 8 : end], 0, packet):
                return self.drop("signature")
            return out
        watched = self._tcp.watched
        if not (watched[source_port] or watched[packet.destination_port]):
            return out
        return out if self._passes(packet, now_us) else None

    def _matches(
        self, rules: _Rules, data: bytes | bytearray, known: int, packet: PacketView
    ) -> bool:
        """Search `data` behind its first `known` bytes; whether the packet must be dropped."""
        for number in rules.matcher.search(data, known):
            signature = rules.signatures[number]
            if signature.concerns(packet.source_port, packet.destination_port):
                self.alerts[signature.number] = self.alerts.get(signature.number, 0) + 1
                if self._drops:
                    return True
        return False

    # TCP.

    def _passes(self, packet: PacketView, now_us: int) -> bool:
        data, l4 = packet.data, packet.l4
        flags = data[l4 + 13]
        header = data[l4 + 12] >> 4 << 2
        payload = bytes(data[l4 + (header if header > 20 else 20) : packet.end])
        source = packet.source << 16 | packet.source_port
        destination = packet.destination << 16 | packet.destination_port
        ascending = source <= destination
        key = (
            (packet.version, source, destination)
            if ascending
            else (packet.version, destination, source)
        )
        connection = self._find(key, flags, payload, now_us)
        if connection is None:
            return True
        if connection.blocked:
            self.drop("blocked")
            return False
        if flags & _RST:
            self._forget(key)
            return True
        side = connection.low if ascending else connection.high
        seq = int.from_bytes(data[l4 + 4 : l4 + 8], "big")
        if flags & _SYN:
            # A repeated SYN-ACK must not make the stream forget where it is.
            if side.isn != seq:
                self._waiting_bytes -= side.waiting_bytes
                side.start(seq + 1)
                side.isn = seq
            seq = seq + 1 & 0xFFFF_FFFF
        if payload and not side.ended:
            if not side.started:
                side.start(seq)
            if not self._take(connection, side, seq, payload, packet):
                return False
        if flags & _FIN and side.fin_at < 0:
            if not side.started:
                side.start(seq + len(payload))
            side.fin(seq + len(payload))
        if connection.low.ended and connection.high.ended:
            self._forget(key)
        return True

    def _take(
        self, connection: _Connection, side: Direction, seq: int, payload: bytes, packet: PacketView
    ) -> bool:
        """Add a segment to its stream and search what is in order now."""
        before = side.waiting_bytes
        try:
            ready = side.add(seq, payload, MAX_WAITING_BYTES - self._waiting_bytes)
        except TooMuchWaiting:
            self.drop("out_of_order")
            return False
        self._waiting_bytes += side.waiting_bytes - before
        if not ready:
            return True
        rules = self._tcp
        known = len(side.tail)
        text = side.tail + ready if known else ready
        if self._matches(rules, text, known, packet):
            self._waiting_bytes -= connection.waiting_bytes
            connection.block()
            self.drop("signature")
            return False
        side.tail = text[-rules.tail :] if rules.tail else b""
        return True

    def _find(self, key: _Key, flags: int, payload: bytes, now_us: int) -> _Connection | None:
        """The packet's connection; new when it begins one, None when there is nothing to follow."""
        connections = self._connections
        connection = connections.get(key)
        if connection is not None and connection.last_us + IDLE_US <= now_us:
            self._forget(key)
            connection = None
        if flags & (_SYN | _ACK | _RST) == _SYN:
            if connection is not None:
                self._forget(key)
            connection = None
        if connection is None:
            if not (payload or flags & _SYN) or flags & _RST:
                return None
            connection = connections[key] = _Connection()
            if len(connections) > MAX_CONNECTIONS:
                _, oldest = connections.popitem(last=False)
                self._waiting_bytes -= oldest.waiting_bytes
        else:
            connections.move_to_end(key)
        connection.last_us = now_us
        return connection

    def _forget(self, key: _Key) -> None:
        self._waiting_bytes -= self._connections.pop(key).waiting_bytes


def _signature(fields: Fields) -> Signature:
    protocol = _PROTOCOLS[fields.choice("protocol", tuple(_PROTOCOLS))]
    number = fields.integer("id", 0, 0xFFFF_FFFF)
    content = b""
    try:
        content = parse_content(fields.text("content"))
    except ValueError as error:
        fields.problem("content", str(error))
    ports = [
        found
        for index, item in enumerate(fields.items("ports", required=False))
        if (found := fields.as_port_range(f"ports[{index}]", item)) is not None
    ]
    fields.only_known()
    return Signature(number, content, protocol, tuple(ports) or ((0, 0xFFFF),))


def parse_content(text: str) -> bytes:
    """`GET |0d 0a|` as bytes: what stands between bars is hexadecimal."""
    parts = text.split("|")
    if len(parts) % 2 == 0:
        raise ValueError(f"{text!r}: a '|' is not closed")
    content = b""
    for index, part in enumerate(parts):
        if index % 2:
            try:
                content += bytes.fromhex(part)
            except ValueError:
                raise ValueError(f"{text!r}: '|{part}|' is not hexadecimal") from None
        else:
            content += part.encode()
    if not content:
        raise ValueError(f"{text!r} holds no byte")
    return content
