"""Scopes: which records of an NF's state are meant, by buckets and by flow space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from servernf.python.tables import RecordFlow
from servernf.wire.buckets import HASH_BITS, KEYS, MOST_BUCKETS, MOST_SPACES, hash_of
from servernf.wire.errors import InputError, quoted, unknown

_Prefix = IPv4Network | IPv6Network
_Ports = tuple[int, int]
Space = tuple[_Prefix | None, _Prefix | None]
"""Inside and outside addresses of flows; None: all."""


@dataclass(frozen=True, slots=True)
class StateScope:
    """All that is given must hold; nothing given: everything. Port ranges are inclusive."""

    buckets: frozenset[int] | None = None
    inside: _Prefix | None = None
    outside: _Prefix | None = None
    inside_ports: _Ports | None = None
    outside_ports: _Ports | None = None
    protocol: int | None = None
    _tests: tuple[Callable[[RecordFlow], bool], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests: list[Callable[[RecordFlow], bool]] = []
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

    def holds(self, flow: RecordFlow) -> bool:
        """Whether a flow of its buckets is in it."""
        return all(test(flow) for test in self._tests)


EVERYTHING = StateScope()


@dataclass(frozen=True, slots=True)
class Buckets:
    """Some of a group's buckets (`servernf.wire.buckets`): `of` there are, `key` is what is hashed. With
    `inside` or `outside` only the flows of these prefixes, and never those `without`."""

    key: str
    of: int
    chosen: frozenset[int]
    inside: _Prefix | None = None
    outside: _Prefix | None = None
    without: tuple[Space, ...] = ()

    @classmethod
    def checked(
        cls,
        key: str,
        of: int,
        chosen: Iterable[int],
        inside: str = "",
        outside: str = "",
        without: Sequence[tuple[str, str]] = (),
    ) -> Buckets:
        """What a peer says; InputError with all that is wrong with it."""
        problems = [] if key in KEYS else [f"scope.key: {unknown('key', key, KEYS)}"]
        numbers = frozenset(chosen)
        if not 1 <= of <= MOST_BUCKETS or of & of - 1:
            problems.append(f"scope.of: must be a power of two up to {MOST_BUCKETS}, not {of}")
        elif not numbers:
            problems.append("scope.buckets: name at least one")
        elif max(numbers) >= of:
            problems.append(f"scope.buckets: {max(numbers)} is not among {of} (0 to {of - 1})")
        space = _space("scope", inside, outside, problems)
        if len(without) > MOST_SPACES:
            problems.append(
                f"scope.without: has {len(without)} flow spaces, more than {MOST_SPACES}"
            )
        left_out = [
            _space(f"scope.without[{at}]", *texts, problems)
            for at, texts in enumerate(without[:MOST_SPACES])
        ]
        if (None, None) in left_out and not problems:
            problems.append(f"scope.without[{left_out.index((None, None))}]: is everything")
        if problems:
            raise InputError(problems)
        return cls(key, of, numbers, *space, tuple(left_out))

    @property
    def asks(self) -> frozenset[str]:
        """The fields of a flow that it looks at."""
        asked = {
            name
            for space in (self.space, *self.without)
            for name, prefix in zip(("inside", "outside"), space, strict=True)
            if prefix is not None
        }
        return _ASKS[self.key] | asked

    @property
    def space(self) -> Space:
        """Of which flows of its buckets it is."""
        return self.inside, self.outside

    @property
    def is_space(self) -> bool:
        """Whether it is of a flow space."""
        return self.space != (None, None)

    @property
    def is_narrow(self) -> bool:
        """Whether not all flows of its buckets are meant."""
        return self.is_space or bool(self.without)

    def group_of(self, flow: RecordFlow) -> int | None:
        """The hash by which a flow's state belongs together; None: it is in none of the buckets."""
        inside, outside = (int.from_bytes(a, "big") for a in (flow.inside, flow.outside))
        return self.group(inside, outside)

    def group(self, inside: int, outside: int) -> int | None:
        """As `group_of`, by addresses."""
        if not (_lies(inside, self.inside) and _lies(outside, self.outside)):
            return None
        if any(_lies(inside, one) and _lies(outside, other) for one, other in self.without):
            return None
        if self.key == "inside_address":
            value = hash_of(inside)
        else:
            value = hash_of(outside if self.key == "outside_address" else inside ^ outside)
        return value if self.holds(value) else None

    def holds(self, value: int) -> bool:
        """Whether a hash is in one of the buckets."""
        return value * self.of >> HASH_BITS in self.chosen

    def meets(self, other: Buckets) -> bool:
        """Whether both have some flow."""
        for mine, theirs in zip(self.space, other.space, strict=True):
            if mine is not None and theirs is not None and _is_apart(mine, theirs):
                return False
        if any(_covers(space, other.space) for space in self.without) or any(
            _covers(space, self.space) for space in other.without
        ):
            return False
        if self.key != other.key:
            return True
        of = max(self.of, other.of)
        return not self._at(of).isdisjoint(other._at(of))

    def _at(self, of: int) -> set[int]:
        each = of // self.of
        return {bucket * each + part for bucket in self.chosen for part in range(each)}


_ASKS = {
    "inside_address": frozenset({"inside"}),
    "outside_address": frozenset({"outside"}),
    "pair": frozenset({"inside", "outside"}),
}


def _lies(address: int, prefix: _Prefix | None) -> bool:
    if prefix is None:
        return True
    shift = prefix.max_prefixlen - prefix.prefixlen
    return address >> shift == int(prefix.network_address) >> shift


def _space(where: str, inside: str, outside: str, problems: list[str]) -> Space:
    """Prefixes as a peer writes them."""
    prefixes: list[_Prefix | None] = []
    for name, text in (("inside", inside), ("outside", outside)):
        try:
            prefixes.append(ip_network(text) if text else None)
        except ValueError as error:
            problems.append(f"{where}.{name}: {quoted(text)} is no prefix: {error}")
            prefixes.append(None)
    return prefixes[0], prefixes[1]


def _covers(outer: Space, inner: Space) -> bool:
    """Whether all flows of one space are in the other, too."""
    return all(
        a is None
        or (
            b is not None
            and a.version == b.version
            and a.prefixlen <= b.prefixlen
            and _lies(int(b.network_address), a)
        )
        for a, b in zip(outer, inner, strict=True)
    )


def _is_apart(one: _Prefix, other: _Prefix) -> bool:
    if isinstance(one, IPv4Network):
        return not (isinstance(other, IPv4Network) and one.overlaps(other))
    return not (isinstance(other, IPv6Network) and one.overlaps(other))


def _in_prefix(prefix: _Prefix) -> Callable[[bytes], bool]:
    size, shift = prefix.max_prefixlen // 8, prefix.max_prefixlen - prefix.prefixlen
    wanted = int(prefix.network_address) >> shift
    return lambda address: (
        len(address) == size and int.from_bytes(address, "big") >> shift == wanted
    )
