"""Static one-to-one NAT: addresses are exchanged pair by pair; ports stay, no state is kept.

What an ICMP error quotes went the other way: its destination is translated as a source, its source as a
destination (RFC 5508, 4).
"""

from __future__ import annotations

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.python.quotes import quote_of, translate
from servernf.wire.fields import Fields


@network_function("static_nat")
class StaticNat(NetworkFunction):
    """From inside the source is translated, from outside the destination; others pass."""

    def setup(self, config: Fields) -> None:
        self._outside: dict[tuple[int, int], int] = {}
        self._inside: dict[tuple[int, int], int] = {}
        for pair in config.objects("pairs"):
            inside, outside = pair.address("inside"), pair.address("outside")
            pair.only_known()
            if inside is None or outside is None:
                continue
            if inside.version != outside.version:
                pair.problem("", f"{inside} and {outside} are not of one IP version")
                continue
            version = inside.version
            if (version, int(inside)) in self._outside:
                pair.problem("inside", f"{inside} is in an earlier pair")
            if (version, int(outside)) in self._inside:
                pair.problem("outside", f"{outside} is in an earlier pair")
            self._outside[version, int(inside)] = int(outside)
            self._inside[version, int(outside)] = int(inside)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        quote = quote_of(packet)
        if port == INSIDE:
            new = self._outside.get((packet.version, packet.source))
            if new is not None:
                packet.set_source(new)
            if quote is not None:
                quoted = self._outside.get((packet.version, quote.destination))
                if quoted is not None:
                    translate(packet, quote, quoted, source=False)
            return OUTSIDE
        new = self._inside.get((packet.version, packet.destination))
        if new is not None:
            packet.set_destination(new)
        if quote is not None:
            quoted = self._inside.get((packet.version, quote.source))
            if quoted is not None:
                translate(packet, quote, quoted, source=True)
        return INSIDE
