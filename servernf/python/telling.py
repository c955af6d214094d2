"""What NFs tell people beside what they do to packets: events, rate-limited where they arise.

An NF tells of a packet only when something has happened to it, so nothing is asked of packets that pass.
What is told is kept as plain values; words are made of it by whoever reads it (`runtime.events`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from servernf.python.packet import ICMP, ICMPV6, PacketView

ALERT, DROP, NAT, SUPPRESSED = "alert", "drop", "nat", "suppressed"
RATES = {ALERT: (100, 1000), DROP: (100, 1000), NAT: (1000, 8000)}
"""By kind: events a second that an NF may tell, and how many at once."""
MOST_TEXT = 256
"""Bytes that are kept of a text of a packet's."""
_TELL_EVERY_US = 1_000_000
_MICRO = 1_000_000


class ToldPacket(NamedTuple):
    """What is told of a packet; ports are -1 where it has none. `kind` is ICMP type and code."""

    ether_type: int
    version: int
    protocol: int
    source: int
    destination: int
    source_port: int
    destination_port: int
    kind: bytes
    length: int
    ttl: int


class ToldDrop(NamedTuple):
    """Why an NF has dropped a packet; `rule` is its place in the configuration, as `rules[3]`."""

    reason: str
    rule: str


class Alert(NamedTuple):
    """A signature or rule that a packet has met. Texts are the packet's, cut to MOST_TEXT."""

    number: int
    signature: str
    rule: str
    blocked: bool
    hostname: bytes = b""
    url: bytes = b""
    rrname: bytes = b""


class Nat(NamedTuple):
    """A mapping; `event` as IPFIX has it (RFC 8158, natEvent)."""

    event: int
    protocol: int
    inside: int
    inside_port: int
    outside: int
    outside_port: int


class Suppressed(NamedTuple):
    """So many events of a kind were not told since the last of these."""

    kind: str
    events: int


Said = ToldDrop | Alert | Nat | Suppressed
Tell = Callable[[str, str, ToldPacket | None, Said], None]
"""Takes an instance's name and type, the packet and what is said."""

BIB_CREATE, BIB_DELETE, PORTS_EXHAUSTED, QUOTA_EXCEEDED = 10, 11, 12, 13
"""Of natEvent: NAT44 BIB create and delete, ports exhausted, quota exceeded."""


def flow_of(packet: PacketView) -> ToldPacket:
    """What is told of a packet."""
    protocol, l4 = packet.protocol, packet.l4
    icmp = protocol == (ICMP if packet.version == 4 else ICMPV6) and l4 > 0
    return ToldPacket(
        packet.ether_type,
        packet.version,
        protocol,
        packet.source,
        packet.destination,
        packet.source_port,
        packet.destination_port,
        bytes(packet.data[l4 : l4 + 2]) if icmp else b"",
        len(packet.data),
        packet.ttl if packet.version else 0,
    )


class Budget:
    """Tokens of one kind, and how many events found none."""

    __slots__ = ("at_us", "burst", "rate", "suppressed", "tokens", "told", "told_us")

    def __init__(self, rate: int, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.tokens: float = burst
        self.at_us = self.told_us = 0
        self.suppressed = self.told = 0

    def take(self, now_us: int) -> bool:
        past_us, self.at_us = now_us - self.at_us, now_us
        self.tokens = min(self.burst, self.tokens + self.rate * past_us / _MICRO)
        if self.tokens < 1:
            self.suppressed += 1
            return False
        self.tokens -= 1
        return True


class Source:
    """One NF that tells. Used by the thread of the data path only."""

    __slots__ = ("_clock", "_name", "_tell", "_type", "budgets")

    def __init__(
        self,
        name: str,
        type_name: str,
        clock: Callable[[], int],
        tell: Tell,
        rates: Mapping[str, tuple[int, int]] = RATES,
    ) -> None:
        self._name, self._type = name, type_name
        self._clock, self._tell = clock, tell
        self.budgets = {kind: Budget(*limits) for kind, limits in rates.items()}
        """By kind."""

    def tell(self, kind: str, packet: PacketView | None, said: Said) -> None:
        """Tell of a packet, unless too much of this kind has been told."""
        bucket, now_us = self.budgets[kind], self._clock()
        if not bucket.take(now_us):
            return
        if bucket.suppressed != bucket.told and now_us >= bucket.told_us + _TELL_EVERY_US:
            self._confess(kind, bucket, now_us)
        self._tell(self._name, self._type, None if packet is None else flow_of(packet), said)

    def nat(
        self,
        event: int,
        protocol: int,
        inside: int,
        inside_port: int,
        outside: int = 0,
        outside_port: int = 0,
    ) -> None:
        """Tell what becomes of a mapping (RFC 6888, 4)."""
        self.tell(NAT, None, Nat(event, protocol, inside, inside_port, outside, outside_port))

    def settle(self) -> None:
        """Tell what has been suppressed for long enough."""
        now_us = self._clock()
        for kind, bucket in self.budgets.items():
            if bucket.suppressed != bucket.told and now_us >= bucket.told_us + _TELL_EVERY_US:
                self._confess(kind, bucket, now_us)

    @property
    def suppressed(self) -> int:
        """How many events have not been told."""
        return sum(bucket.suppressed for bucket in self.budgets.values())

    def _confess(self, kind: str, bucket: Budget, now_us: int) -> None:
        count, bucket.told, bucket.told_us = (
            bucket.suppressed - bucket.told,
            bucket.suppressed,
            now_us,
        )
        self._tell(self._name, self._type, None, Suppressed(kind, count))


NOBODY = Source("", "", lambda: 0, lambda *_: None)
"""Of an instance whose events nobody asked for. Its buckets run dry."""
