"""Routes by the hundred thousand: in columns, with a digest by which equal ones are told.

A full routing table as objects takes seconds to make and a hundred bytes a field; most stages only ask
which outputs and next hops there are. So routes are columns of numbers, and objects once asked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from orchestrator.model.match import Prefix

NextHop = tuple[int, int]
"""(IP version, address)."""
_COLUMNS: Mapping[str, str] = {
    **{"version": "u1", "length": "u1", "output": "<u4", "hop": "<u4"},
    **{"place": "<u4", "number": "<u4", "high": "<u8", "low": "<u8"},
}
"""Of one route: what `output`, `hop` and `place` are an index of is said beside the columns."""
_LOW = (1 << 64) - 1
_UNNUMBERED = (1 << 32) - 1
_NUMBERED = re.compile(r"(.*?)(0|[1-9][0-9]{0,8})(\D*)", re.DOTALL)
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Route:
    """`next_hop` (version, address) is None for a connected route; `output` DROP is unreachable."""

    prefix: Prefix
    output: str
    next_hop: NextHop | None
    rule: str


class RouteRow(NamedTuple):
    """A route without objects: its prefix is (version, value, length).

    `place` is what stands before and behind the `number` in its rule's name, as in ("routes[", "]").
    """

    version: int
    value: int
    length: int
    output: str
    next_hop: NextHop | None
    place: tuple[str, str]
    number: int

    @property
    def rule(self) -> str:
        """The name of its rule."""
        before, behind = self.place
        return before if self.number == _UNNUMBERED else f"{before}{self.number}{behind}"


class Routes(Sequence[Route]):
    """Routes in order. Equal ones have equal digests, and no others have."""

    def __init__(self, rows: Iterable[RouteRow] = ()) -> None:
        listed = list(rows)
        columns = list(zip(*listed, strict=True)) or [()] * len(RouteRow._fields)
        versions, values, lengths, outputs, hops, places, numbers = columns
        self.outputs, output = _indexed(outputs)
        """In the order in which routes first name them."""
        self.hops, hop = _indexed(hops)
        """Likewise; None: connected."""
        self.places, place = _indexed(places)
        """Likewise."""
        self._columns = _arrays(
            {
                **{"version": versions, "length": lengths, "output": output, "hop": hop},
                **{"place": place, "number": numbers},
                **{"high": [v >> 64 for v in values], "low": [v & _LOW for v in values]},
            }
        )

    @classmethod
    def of(cls, routes: Iterable[Route]) -> Routes:
        """The same in columns."""
        if isinstance(routes, Routes):
            return routes
        return cls(
            RouteRow(
                p.version, p.value, p.length, route.output, route.next_hop, *_place_of(route.rule)
            )
            for route in routes
            for p in (route.prefix,)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Routes:
        """What `to_bytes` wrote; ValueError where that is something else."""
        head, newline, body = data.partition(b"\n")
        document: Any = json.loads(head) if newline else None
        if not isinstance(document, dict):
            raise ValueError("no document of routes")
        routes = cls.__new__(cls)
        count = int(document["count"])
        routes.outputs = tuple(document["outputs"])
        routes.hops = tuple(None if hop is None else tuple(hop) for hop in document["hops"])
        routes.places = tuple(tuple(place) for place in document["places"])
        routes._columns, at = {}, 0
        for name, kind in _COLUMNS.items():
            size = count * np.dtype(kind).itemsize
            routes._columns[name] = np.frombuffer(body[at : at + size], kind)
            at += size
        if at != len(body):
            raise ValueError(f"{len(body)} bytes of routes instead of {at}")
        for name, items in (
            ("output", routes.outputs),
            ("hop", routes.hops),
            ("place", routes.places),
        ):
            if count and int(routes._columns[name].max()) >= len(items):
                raise ValueError(f"a route has no {name}")
        return routes

    def to_bytes(self) -> bytes:
        """As one document: a line of JSON, then the columns."""
        head = {"count": len(self), **self._told()}
        columns = (column.tobytes() for column in self._columns.values())
        return b"".join((json.dumps(head).encode(), b"\n", *columns))

    def _told(self) -> dict[str, Any]:
        return {"outputs": self.outputs, "hops": self.hops, "places": self.places}

    @cached_property
    def digest(self) -> bytes:
        """16 bytes of all that they say."""
        digest = blake2b(json.dumps(self._told()).encode(), digest_size=_DIGEST_BYTES)
        for column in self._columns.values():
            digest.update(column.tobytes())
        return digest.digest()

    @cached_property
    def counts(self) -> Counter[int]:
        """How many there are of each IP version."""
        versions, counts = np.unique(self._columns["version"], return_counts=True)
        return Counter(dict(zip(versions.tolist(), counts.tolist(), strict=True)))

    @cached_property
    def kinds(self) -> frozenset[tuple[str, int]]:
        """(output, IP version) of those that there are."""
        both = self._columns["output"].astype(np.int64) << 8 | self._columns["version"]
        return frozenset((self.outputs[n >> 8], n & 255) for n in np.unique(both).tolist())

    @cached_property
    def ways(self) -> frozenset[tuple[int, str, NextHop | None]]:
        """(IP version, output, next hop) of those that there are."""
        columns = self._columns
        both = columns["output"].astype(np.uint64) << np.uint64(32) | columns["hop"]
        first = (np.unique(both[columns["version"] == v]) for v in (4, 6))
        return frozenset(
            (version, self.outputs[way >> 32], self.hops[way & 0xFFFF_FFFF])
            for version, ways in zip((4, 6), first, strict=True)
            for way in ways.tolist()
        )

    @cached_property
    def next_hops(self) -> frozenset[NextHop]:
        """All of them."""
        return frozenset(hop for hop in self.hops if hop is not None)

    def doubles(self) -> Iterator[tuple[Route, Route]]:
        """Routes whose prefix an earlier one has, and the first of those."""
        names = ("version", "length", "high", "low")
        prefixes = np.empty(len(self), [(name, _COLUMNS[name]) for name in names])
        for name in names:
            prefixes[name] = self._columns[name]
        _, first, which = np.unique(prefixes, return_index=True, return_inverse=True)
        if len(first) == len(self):
            return
        firsts = first[which.reshape(-1)]
        for at in np.nonzero(firsts != np.arange(len(self)))[0].tolist():
            yield self[at], self[int(firsts[at])]

    def rows(self) -> Iterator[RouteRow]:
        """All, without objects for their prefixes."""
        return self._rows(slice(None))

    def _rows(self, some: slice) -> Iterator[RouteRow]:
        outputs, hops, places = self.outputs, self.hops, self.places
        columns = (column[some].tolist() for column in self._columns.values())
        for version, length, output, hop, place, number, high, low in zip(*columns, strict=True):
            value = high << 64 | low if high else low
            yield RouteRow(
                version, value, length, outputs[output], hops[hop], places[place], number
            )

    def __iter__(self) -> Iterator[Route]:
        return map(_route, self.rows())

    def __len__(self) -> int:
        return len(self._columns["version"])

    @overload
    def __getitem__(self, index: int) -> Route: ...
    @overload
    def __getitem__(self, index: slice) -> Routes: ...
    def __getitem__(self, index: int | slice) -> Route | Routes:
        if isinstance(index, int):
            at = range(len(self))[index]
            return _route(next(self._rows(slice(at, at + 1))))
        return Routes(self._rows(index))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Routes) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return repr(tuple(self))


def _route(row: RouteRow) -> Route:
    prefix = Prefix(row.version, row.value, row.length)
    return Route(prefix, row.output, row.next_hop, row.rule)


def _place_of(rule: str) -> tuple[tuple[str, str], int]:
    """A rule's name in what many have in common, and a number."""
    match = _NUMBERED.fullmatch(rule)
    return ((match[1], match[3]), int(match[2])) if match else ((rule, ""), _UNNUMBERED)


def _indexed(items: Iterable[Any]) -> tuple[tuple[Any, ...], list[int]]:
    """The different items, in order of their first ones, and for each item which one it is."""
    numbers: dict[Any, int] = {}
    places = [numbers.setdefault(item, len(numbers)) for item in items]
    return tuple(numbers), places


def _arrays(columns: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
    return {name: np.array(columns[name], kind) for name, kind in _COLUMNS.items()}
