"""Mirror: every packet passes; those that a rule matches are sent once more, by port `mirror`."""

from __future__ import annotations

from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    Emitted,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.python.rules import Rules
from servernf.wire.fields import Fields

_MIRROR = "mirror"


@network_function("mirror")
class Mirror(NetworkFunction):
    """Drops nothing but what enters `mirror`, where nothing should."""

    @property
    def ports(self) -> tuple[str, ...]:
        return (INSIDE, OUTSIDE, _MIRROR)

    def setup(self, config: Fields) -> None:
        self._rules = Rules(config, lambda _: True)
        self.state.counts |= {"copies": 0}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == _MIRROR:
            return self.drop("from_mirror")
        if self._rules.choose(packet, port):
            self.emitted.append(Emitted(_MIRROR, bytes(packet.data)))
            self.count("copies")
        return OTHER[port]

    def metrics(self) -> dict[str, int]:
        return dict(self.state.counts)
