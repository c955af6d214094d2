"""Label filter: by the NF context label that an NF before this one gave the packet (0: none).

A rule permits, denies, or sends its label's packets out of a port of its own: a branch. What comes back
by such a port goes on to the inside, unless its label is denied.
"""

from __future__ import annotations

from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

_ACTIONS = ("permit", "deny")
_PERMIT, _DENY = "", "deny"


@network_function("label_filter")
class LabelFilter(NetworkFunction):
    """Permits, denies or branches."""

    def setup(self, config: Fields) -> None:
        self._verdicts: dict[int, tuple[str, str]] = {}
        branches: dict[str, None] = {}
        for index, item in enumerate(config.objects("rules")):
            label = item.integer("label", 0, 0xFFFF_FFFF)
            verdict = self._verdict(item)
            self._verdicts[label] = verdict, f"rules[{index}]"
            if verdict not in (_PERMIT, _DENY):
                branches[verdict] = None
            item.only_known()
        default = config.choice("default", _ACTIONS, "permit")
        self._default = (_PERMIT if default == "permit" else _DENY), "default"
        self._branches = tuple(branches)

    @property
    def ports(self) -> tuple[str, ...]:
        return (INSIDE, OUTSIDE, *self._branches)

    def _verdict(self, item: Fields) -> str:
        """_PERMIT, _DENY or the port of a branch."""
        if not item.has("port"):
            return _PERMIT if item.choice("action", _ACTIONS) == "permit" else _DENY
        port = item.text("port")
        if item.has("action"):
            item.problem("port", "is instead of an action")
        if port in ("", _DENY, INSIDE, OUTSIDE):
            item.problem("port", f"must be the name of a branch, not {port!r}")
        return port

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        verdict, rule = self._verdicts.get(packet.context, self._default)
        if verdict == _DENY:
            return self.drop("label", rule)
        if port in OTHER:
            return verdict or OTHER[port]
        return INSIDE
