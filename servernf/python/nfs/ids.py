"""Intrusion detection: content signatures over the reassembled TCP stream and over UDP payloads.

Both directions of a connection are reassembled (`streams`) and searched with Aho-Corasick. A
signature split over segments is found because the last bytes searched, one less than the longest
signature, are searched again together with the next. So a signature that comes with another
configuration is found if no more of it has passed than that. A signature may have a label: what is known
of a direction is an NF context label for the NFs behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from servernf.python.hidden import hides
from servernf.python.matcher import Matcher
from servernf.python.network_function import INSIDE, OUTSIDE, network_function
from servernf.python.packet import TCP, UDP, PacketView
from servernf.python.streams import StreamFunction
from servernf.python.tcp_stream import Direction
from servernf.python.telling import ALERT, Alert
from servernf.wire.fields import Fields

_ACTIONS = ("drop", "alert")
_PROTOCOLS = {"tcp": TCP, "udp": UDP}


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes to look for; `ports` are inclusive ranges, of which one must hold either port.

    With `to` "server" it must hold the destination's, with "client" the source's.
    """

    number: int
    content: bytes
    protocol: int
    ports: tuple[tuple[int, int], ...]
    to: str
    nocase: bool
    drops: bool
    msg: str
    label: int
    """What packets are labelled with from the one that completes it on; 0: nothing."""
    rule: str

    def concerns(self, source_port: int, destination_port: int) -> bool:
        """Whether it is meant for packets between these ports."""
        return any(
            (low <= source_port <= high and self.to != "server")
            or (low <= destination_port <= high and self.to != "client")
            for low, high in self.ports
        )


class _Rules:
    """The signatures of one protocol."""

    def __init__(self, signatures: list[Signature]) -> None:
        # The first are searched in the text as it is, the others in lower case.
        self._exact = [s for s in signatures if not s.nocase]
        self._folded = [s for s in signatures if s.nocase]
        self._matcher = Matcher([s.content for s in self._exact])
        self._folded_matcher = Matcher([s.content.lower() for s in self._folded])
        longest = max(self._matcher.longest, self._folded_matcher.longest)
        self.tail = max(0, longest - 1)
        watched = bytearray(65_536)
        for signature in signatures:
            for low, high in signature.ports:
                watched[low : high + 1] = b"\x01" * (high - low + 1)
        self.watched = bytes(watched)

    def search(self, data: bytes | bytearray, searched: int) -> Iterator[Signature]:
        """What is found in `data`, its last byte behind the first `known` ones."""
        for number in self._matcher.search(data, searched):
            yield self._exact[number]
        if self._folded:
            for number in self._folded_matcher.search(data.lower(), searched):
                yield self._folded[number]


class _Memory:
    """Of a direction that has met a signature with a label: the bytes to search again, and the label."""

    __slots__ = ("label", "tail")

    def __init__(self, tail: bytes, label: int) -> None:
        self.tail, self.label = tail, label

    def written(self) -> list[bytes]:
        """As `Ids.read_memory` takes it."""
        return [self.tail, self.label.to_bytes(4, "big")]


@network_function("ids")
class Ids(StreamFunction):
    """Drops (or counts) what carries a signature."""

    def setup(self, config: Fields) -> None:
        self.declare_streams()
        action = config.choice("action", _ACTIONS, "drop")
        signatures = [
            _signature(item, action, f"signatures[{index}]")
            for index, item in enumerate(config.objects("signatures"))
        ]
        self.signatures = signatures
        if len({signature.number for signature in signatures}) < len(signatures):
            config.problem("signatures", "an id is given twice")
        self._tcp = _Rules([s for s in signatures if s.protocol == TCP])
        self._udp = _Rules([s for s in signatures if s.protocol == UDP])
        self._labels = any(signature.label for signature in signatures)
        self._label = 0
        """Of the packet that is looked at: the least of the signatures that it has completed."""
        self.watched = self._tcp.watched
        self.strict = any(signature.drops for signature in signatures)
        self._watched = {
            protocol: rules.watched
            for protocol, rules in ((TCP, self._tcp), (UDP, self._udp))
            if 1 in rules.watched
        }

    @property
    def watched_udp(self) -> bytes:
        """By UDP port, 1 where payloads are searched."""
        return self._udp.watched

    @property
    def tail_bytes(self) -> int:
        """How many bytes of a stream are searched again together with the next."""
        return self._tcp.tail

    def read_memory(self, written: Sequence[bytes]) -> Any:
        tail, *label = written
        if not label:
            return tail
        return _Memory(tail, int.from_bytes(label[0]))

    def metrics(self) -> dict[str, int]:
        alerts = {
            n: count for n, count in list(self.state.counts.items()) if n.startswith("alert.")
        }
        return {**super().metrics(), "alerts": sum(alerts.values()), **alerts}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        out = OUTSIDE if port == INSIDE else INSIDE
        source_port = packet.source_port
        if source_port < 0:  # another protocol or a later fragment
            if self.strict and hides(packet, self._watched):
                return self.drop("hidden")
            return out
        if packet.protocol == UDP:
            rules = self._udp
            if not (rules.watched[source_port] or rules.watched[packet.destination_port]):
                return out
            self._label = 0
            if not self._datagram_passes(rules, packet):
                return None
            if self._label:
                packet.context = self._label
            return out
        watched = self.watched
        if not (watched[source_port] or watched[packet.destination_port]):
            return out
        if not self.passes(packet, port, now_us):
            return None
        if self._labels:
            memory = self.memory_of(packet)
            if isinstance(memory, _Memory):
                packet.context = memory.label
        return out

    def _datagram_passes(self, rules: _Rules, packet: PacketView) -> bool:
        data, l4, end = packet.data, packet.l4, packet.end
        if packet.first_fragment:
            if self.strict:
                self.drop("fragment")
                return False
        else:
            length = data[l4 + 4] << 8 | data[l4 + 5]
            # Of IPv6 a length of 0 is a jumbogram's, and Linux takes it anywhere (RFC 2675, 4).
            if length or packet.version == 4:
                if not 8 <= length <= end - l4:
                    self.drop("udp_length")
                    return False
                end = l4 + length
        if end > l4 + 8 and self._matches(rules, data[l4 + 8 : end], 0, packet):
            self.drop("signature", self.blocking_rule)
            return False
        return True

    def _matches(
        self, rules: _Rules, data: bytes | bytearray, searched: int, packet: PacketView
    ) -> bool:
        """Search `data` behind its first `known` bytes; whether the packet must be dropped."""
        for signature in rules.search(data, searched):
            if signature.concerns(packet.source_port, packet.destination_port):
                self.count(f"alert.{signature.number}")
                text, rule, drops = signature.msg, signature.rule, signature.drops
                self.events.tell(ALERT, packet, Alert(signature.number, text, rule, drops))
                if signature.label:
                    self._label = min(self._label or signature.label, signature.label)
                if drops:
                    self.blocking_rule = rule
                    return True
        return False

    def judge(self, packet: PacketView, stream: Direction, ready: bytes) -> str:
        rules = self._tcp
        memory: bytes | _Memory = stream.memory or b""
        tail, label = (memory.tail, memory.label) if isinstance(memory, _Memory) else (memory, 0)
        text = tail + ready if tail else ready
        self._label = 0
        if self._matches(rules, text, len(tail), packet):
            return "signature"
        label = self._label or label
        tail = text[-rules.tail :] if rules.tail else b""
        stream.memory = _Memory(tail, label) if label else tail
        return ""


def _signature(fields: Fields, action: str, rule: str) -> Signature:
    protocol = _PROTOCOLS[fields.choice("protocol", tuple(_PROTOCOLS))]
    number = fields.integer("id", 0, 0xFFFF_FFFF)
    content = b""
    try:
        content = parse_content(fields.text("content"))
    except ValueError as error:
        fields.problem("content", str(error))
    ports = [
        bounds
        for index, item in enumerate(fields.items("ports", required=False))
        if (bounds := fields.as_port_range(f"ports[{index}]", item)) is not None
    ]
    to = fields.choice("to", ("any", "server", "client"), "any")
    nocase = fields.boolean("nocase") or False
    drops = fields.choice("action", _ACTIONS, action) == "drop"
    msg = fields.text("msg") if fields.has("msg") else ""
    label = fields.integer("label", 1, 0xFFFF_FFFF) if fields.has("label") else 0
    fields.only_known()
    where = tuple(ports) or ((0, 0xFFFF),)
    return Signature(number, content, protocol, where, to, nocase, drops, msg, label, rule)


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
