"""Rules that choose something for each packet: the first condition that holds decides.

Rules are written for packets that go from inside to outside; `reverse` says what holds for the others:
nothing ("pass"), the rules with source and destination exchanged ("mirror"), or as they are ("same").
Answers are cached by header values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from servernf.python.match import Headers, MatchCondition
from servernf.python.network_function import INSIDE, OUTSIDE
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

MAX_CACHED = 65_536
_T = TypeVar("_T")


class Rules(Generic[_T]):
    """What the rules of a configuration choose; None where no rule says anything."""

    def __init__(
        self, config: Fields, read: Callable[[Fields], _T], default: _T | None = None
    ) -> None:
        """`read` takes from a rule what it chooses."""
        rules: list[tuple[MatchCondition, _T]] = []
        for item in config.objects("rules", required=False):
            chosen = read(item)
            rules.append((MatchCondition.read(item), chosen))
            item.only_known()
        reverse = config.choice("reverse", ("pass", "mirror", "same"), "pass")
        backward: list[tuple[MatchCondition, _T]] = []
        if reverse == "mirror":
            backward = [(condition.mirrored(), chosen) for condition, chosen in rules]
        elif reverse == "same":
            backward = rules
        self._rules = {INSIDE: rules, OUTSIDE: backward}
        self._default = {INSIDE: default, OUTSIDE: None if reverse == "pass" else default}
        self._cache: dict[tuple[str, Headers], _T | None] = {}

    @property
    def conditions(self) -> Sequence[MatchCondition]:
        """What the rules ask, as they are written."""
        return [condition for condition, _ in self._rules[INSIDE]]

    @property
    def empty(self) -> bool:
        """Whether there are no rules."""
        return not self._rules[INSIDE]

    def choose(self, packet: PacketView, port: str) -> _T | None:
        """What is chosen for a packet that enters `port`."""
        key = (port, Headers.of(packet))
        cache = self._cache
        if key in cache:
            return cache[key]
        chosen = self._decide(*key)
        if len(cache) >= MAX_CACHED:
            cache.clear()
        cache[key] = chosen
        return chosen

    def _decide(self, port: str, headers: Headers) -> _T | None:
        for condition, chosen in self._rules[port]:
            if condition.holds(headers):
                return chosen
        return self._default[port]
