"""Access control list: the first rule that holds decides; no state.

Rules are written for packets that go from inside to outside; `reverse` says what holds for the
others: no rules ("permit"), the rules with source and destination exchanged ("mirror"), or as they
are ("same"). Decisions are cached by header values.
"""

from __future__ import annotations

from servernf.python.match import Headers, MatchCondition
from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

MAX_CACHED = 65_536
_ACTIONS = ("permit", "deny")
_PERMIT = ""


@network_function("acl")
class Acl(NetworkFunction):
    """Permits or drops."""

    def setup(self, config: Fields) -> None:
        rules: list[tuple[MatchCondition, str]] = []
        for index, item in enumerate(config.objects("rules", required=False)):
            permits = item.choice("action", _ACTIONS) == "permit"
            rules.append((MatchCondition.read(item), _PERMIT if permits else f"rules[{index}]"))
            item.only_known()
        default = _PERMIT if config.choice("default", _ACTIONS) == "permit" else "default"
        reverse = config.choice("reverse", ("permit", "mirror", "same"), "permit")
        self._default = {INSIDE: default, OUTSIDE: _PERMIT if reverse == "permit" else default}
        backward: list[tuple[MatchCondition, str]] = []
        if reverse == "mirror":
            backward = [(condition.mirrored(), denies) for condition, denies in rules]
        elif reverse == "same":
            backward = rules
        self._rules = {INSIDE: rules, OUTSIDE: backward}
        self._cache: dict[tuple[str, Headers], str] = {}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        headers = Headers.of(packet)
        cache = self._cache
        denies = cache.get((port, headers))
        if denies is None:
            denies = self._decide(port, headers)
            if len(cache) >= MAX_CACHED:
                cache.clear()
            cache[port, headers] = denies
        if denies:
            return self.drop("denied", denies)
        return OUTSIDE if port == INSIDE else INSIDE

    def _decide(self, port: str, headers: Headers) -> str:
        """The rule that denies, or _PERMIT."""
        for condition, denies in self._rules[port]:
            if condition.holds(headers):
                return denies
        return self._default[port]
