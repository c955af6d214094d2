"""Scopes: which records of an NF's state are meant, by buckets and by flow space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from servernf.python.tables import Flow

_Prefix = IPv4Network | IPv6Network
_Ports = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Scope:
    """All that is given must hold; nothing given: everything. Port ranges are inclusive."""

    buckets: frozenset[int] | None = None
    inside: _Prefix | None = None
    outside: _Prefix | None = None
    inside_ports: _Ports | None = None
    outside_ports: _Ports | None = None
    protocol: int | None = None
    _tests: tuple[Callable[[Flow], bool], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests: list[Callable[[Flow], bool]] = []
        if self.inside is not None:
            lies = _in_prefix(self.inside)
            tests.append(lambda flow: lies(flow.inside))
        if self.outside is not None:
            lies_there = _in_prefix(self.outside)
            tests.append(lambda flow: lies_there(flow.outside))
        if self.inside_ports is not None:
            low, high = self.inside_ports
            tests.append(lambda flow: low <= flow.inside_port <= high)
        if self.outside_ports is not None:
            first, last = self.outside_ports
            tests.append(lambda flow: first <= flow.outside_port <= last)
        if self.protocol is not None:
            protocol = self.protocol
            tests.append(lambda flow: flow.protocol == protocol)
        object.__setattr__(self, "_tests", tuple(tests))

    @property
    def asks(self) -> frozenset[str]:
        """The fields of a flow that it looks at, beside what buckets do."""
        given = {
            "inside": self.inside,
            "outside": self.outside,
            "inside_port": self.inside_ports,
            "outside_port": self.outside_ports,
            "protocol": self.protocol,
        }
        return frozenset(name for name, value in given.items() if value is not None)

    @property
    def is_narrow(self) -> bool:
        """Whether it asks more than for buckets."""
        return bool(self._tests)

    @property
    def is_all(self) -> bool:
        """Whether it is everything."""
        return self.buckets is None and not self._tests

    def holds(self, flow: Flow) -> bool:
        """Whether a flow of its buckets is in it."""
        return all(test(flow) for test in self._tests)


EVERYTHING = Scope()


def _in_prefix(prefix: _Prefix) -> Callable[[bytes], bool]:
    size, shift = prefix.max_prefixlen // 8, prefix.max_prefixlen - prefix.prefixlen
    wanted = int(prefix.network_address) >> shift
    return lambda address: (
        len(address) == size and int.from_bytes(address, "big") >> shift == wanted
    )
