"""Header space: sets of packets as unions of boxes over Ethernet, VLAN, IPv4, IPv6 and L4 fields.

A packet has a *shape*, which says what headers it has (a later fragment has no ports, a frame that is
not IP has no addresses). A box is a set of shapes and, for each field, an interval (TCP flags: value and
mask). A box constrains a field only if all its shapes have it, so "has no ports" is never a port
number, and every condition of a `Match` is exactly one box. docs/decisions/0030 argues for it.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import ge, gt, le
from typing import NamedTuple

from orchestrator.errors import CompileError
from orchestrator.model.match import UNTAGGED, Match, Prefix

OTHER = 1
"""The shape of frames that are not IP; the others follow, for IPv4 and then for IPv6."""
_L4 = ("tcp", "udp", "icmp", "plain", "later_fragment")
SHAPES = ("other", *(f"ipv{v} {l4}" for v in (4, 6) for l4 in _L4))
"""Names of the shapes by bit; `plain` is any other protocol."""


def _bits(*l4: str, versions: tuple[int, ...] = (4, 6)) -> int:
    return sum(1 << SHAPES.index(f"ipv{v} {name}") for v in versions for name in l4)


SHAPES_OF_VERSION = {0: OTHER, 4: _bits(*_L4, versions=(4,)), 6: _bits(*_L4, versions=(6,))}
ALL_SHAPES = (1 << len(SHAPES)) - 1
_IP = ALL_SHAPES & ~OTHER
_TCP, _PORTS = _bits("tcp"), _bits("tcp", "udp")
_ICMP, _LATER = _bits("icmp"), _bits("later_fragment")
_PROTOCOLS_OF_SHAPE: tuple[tuple[int, int], ...] = (
    (_bits("tcp"), 6),
    (_bits("udp"), 17),
    (_bits("icmp", versions=(4,)), 1),
    (_bits("icmp", versions=(6,)), 58),
)
_ETHER_TYPES = {4: 0x0800, 6: 0x86DD}

FIELDS = (
    ("eth_dst", 48, ALL_SHAPES),
    ("eth_src", 48, ALL_SHAPES),
    ("vlan", 13, ALL_SHAPES),
    ("ether_type", 16, OTHER),
    ("src", 128, _IP),
    ("dst", 128, _IP),
    ("protocol", 8, _IP),
    ("src_port", 16, _PORTS),
    ("dst_port", 16, _PORTS),
    ("icmp_type", 8, _ICMP),
    ("icmp_code", 8, _ICMP),
)
"""Name, bits and the shapes that have it. An IPv4 address is the upper 32 bits of its field; `vlan` is
the outer tag's VID, UNTAGGED (above all VIDs) when there is none."""
NUMBER = {name: number for number, (name, _, _) in enumerate(FIELDS)}
_ETHER_TYPE, _SRC, _DST, _PROTOCOL = (NUMBER[n] for n in ("ether_type", "src", "dst", "protocol"))
_VLAN = NUMBER["vlan"]
_LOWEST: tuple[int, ...] = (0,) * len(FIELDS)
_HIGHEST = tuple(UNTAGGED if n == "vlan" else (1 << bits) - 1 for n, bits, _ in FIELDS)
_SPLIT_ORDER = tuple(NUMBER[n] for n in ("protocol", "dst", "src", "dst_port", "src_port")) + tuple(
    NUMBER[n] for n in ("icmp_type", "icmp_code", "ether_type", "vlan", "eth_dst", "eth_src")
)
ADDRESS_SHIFT = {4: 96, 6: 0}


class SetTooLarge(CompileError):
    """A set that would need more boxes than its limit."""


class Box(NamedTuple):
    """A product of intervals over packets of some shapes; `flags` is (value, mask) of TCP's."""

    shapes: int
    low: tuple[int, ...]
    high: tuple[int, ...]
    flags: tuple[int, int]

    def intersect(self, other: Box) -> Box | None:
        """What is in both, or None."""
        shapes = self.shapes & other.shapes
        if not shapes:
            return None
        low = tuple(map(max, self.low, other.low))
        high = tuple(map(min, self.high, other.high))
        if any(map(gt, low, high)):
            return None
        value, mask = self.flags
        if other.flags[1]:
            if (value ^ other.flags[0]) & mask & other.flags[1]:
                return None
            value, mask = value | other.flags[0], mask | other.flags[1]
        return _pruned(Box(shapes, low, high, (value, mask)))

    def within(self, other: Box) -> bool:
        """Whether all of it is in another box."""
        value, mask = other.flags
        return (
            not self.shapes & ~other.shapes
            and all(map(ge, self.low, other.low))
            and all(map(le, self.high, other.high))
            and not mask & ~self.flags[1]
            and not (self.flags[0] ^ value) & mask
        )

    def subtract(self, other: Box) -> list[Box]:
        """What is not in another box, as disjoint boxes."""
        common = self.intersect(other)
        if common is None:
            return [self]
        pieces: list[Box | None] = []
        shapes, low, high, flags = self
        if left := shapes & ~other.shapes:
            pieces.append(_pruned(Box(left, low, high, flags)))
            shapes &= other.shapes
        for n in _SPLIT_ORDER:
            if low[n] < common.low[n]:
                below = (*high[:n], common.low[n] - 1, *high[n + 1 :])
                pieces.append(_pruned(Box(shapes, low, below, flags)))
                low = (*low[:n], common.low[n], *low[n + 1 :])
            if high[n] > common.high[n]:
                above = (*low[:n], common.high[n] + 1, *low[n + 1 :])
                pieces.append(_pruned(Box(shapes, above, high, flags)))
                high = (*high[:n], common.high[n], *high[n + 1 :])
        value, mask = flags
        for bit in (1 << i for i in range(8)):
            if other.flags[1] & bit & ~mask:
                wanted = other.flags[0] & bit
                pieces.append(Box(shapes, low, high, (value | bit ^ wanted, mask | bit)))
                value, mask = value | wanted, mask | bit
        return [piece for piece in pieces if piece is not None]

    def contains(self, packet: Mapping[str, int]) -> bool:
        """Whether a packet as `sample` gives it is in the box."""
        return point(packet).within(self)

    def sample(self) -> dict[str, int]:
        """A packet of the box: `shape`, `version` and the values of the fields that it has.

        The lowest value of each field; ports that are free are an ordinary client's and server's.
        """
        shape = self.shapes & -self.shapes
        # An ordinary packet says more than a fragment or an unknown protocol.
        for wanted in (_TCP, _bits("udp"), _ICMP):
            if self.shapes & wanted:
                shape = self.shapes & wanted & -(self.shapes & wanted)
                break
        fields = {"shape": shape, "version": version_of(shape)}
        for number, (name, _, having) in enumerate(FIELDS):
            if having & shape:
                free = self.low[number] == 0 and self.high[number] == _HIGHEST[number]
                fields[name] = _USUAL.get(name, self.low[number]) if free else self.low[number]
        if shape & _IP:
            fields["protocol"] = protocol_of(shape, fields["protocol"])
        if shape & _PLAIN:
            fields["protocol"] = next(
                p
                for p in range(self.low[_PROTOCOL], self.high[_PROTOCOL] + 1)
                if p not in _own_protocols(shape)
            )
        if shape & OTHER:
            low = max(self.low[_ETHER_TYPE], 0x0806 if self.high[_ETHER_TYPE] >= 0x0806 else 0)
            fields["ether_type"] = next(t for t in (low, low + 1) if t not in _ETHER_TYPES.values())
        for name in ("src", "dst"):
            if name in fields:
                fields[name] >>= ADDRESS_SHIFT[fields["version"]]
        if shape & _TCP:
            fields["tcp_flags"] = self.flags[0] if self.flags[1] else 0x02
        return fields


_PLAIN = _bits("plain")
_USUAL = {"src_port": 40000, "dst_port": 80, "vlan": UNTAGGED, "icmp_type": 8}


def _own_protocols(shape: int) -> tuple[int, ...]:
    """Protocols that are no `plain` packet of this shape's version."""
    return (6, 17, 1) if shape & SHAPES_OF_VERSION[4] else (6, 17, 58)


def version_of(shape: int) -> int:
    """4, 6, or 0 when it is not IP."""
    return next(v for v, shapes in SHAPES_OF_VERSION.items() if shapes & shape)


def protocol_of(shape: int, otherwise: int) -> int:
    """The protocol that a shape fixes."""
    return next((p for having, p in _PROTOCOLS_OF_SHAPE if having & shape), otherwise)


def _pruned(box: Box) -> Box | None:
    """Without shapes that the protocol or EtherType contradicts; None when nothing is left."""
    shapes = box.shapes
    first, last = box.low[_PROTOCOL], box.high[_PROTOCOL]
    if last - first < 0xFF:
        for having, protocol in _PROTOCOLS_OF_SHAPE:
            if not first <= protocol <= last:
                shapes &= ~having
        if last - first < 3:
            for having in (SHAPES_OF_VERSION[4] & _PLAIN, SHAPES_OF_VERSION[6] & _PLAIN):
                if all(p in _own_protocols(having) for p in range(first, last + 1)):
                    shapes &= ~having
    if shapes & OTHER and box.low[_ETHER_TYPE] == box.high[_ETHER_TYPE] in _ETHER_TYPES.values():
        shapes &= ~OTHER
    return (box if shapes == box.shapes else box._replace(shapes=shapes)) if shapes else None


EVERYTHING = Box(ALL_SHAPES, _LOWEST, _HIGHEST, (0, 0))


def point(packet: Mapping[str, int]) -> Box:
    """The box of exactly one packet's headers, as `Box.sample` gives them."""
    low, high = list[int](_LOWEST), list[int](_HIGHEST)
    for name, value in packet.items():
        if name in NUMBER:
            at = value << ADDRESS_SHIFT[packet["version"]] if name in ("src", "dst") else value
            low[NUMBER[name]] = high[NUMBER[name]] = at
    flags = (packet["tcp_flags"], 0xFF) if "tcp_flags" in packet else (0, 0)
    return Box(packet["shape"], tuple(low), tuple(high), flags)


def random_point(box: Box, chance: random.Random) -> Box:
    """Packets of a box with one value of every field that rules ask for, by chance.

    Where the protocol does not go with the shape there are no such packets.
    """
    shape = chance.choice([bit for bit in (1 << i for i in range(len(SHAPES))) if box.shapes & bit])
    at = [chance.randint(a, b) for a, b in zip(box.low, box.high, strict=True)]
    at[_PROTOCOL] = protocol_of(shape, at[_PROTOCOL])
    if shape & OTHER:
        at[_ETHER_TYPE] = box.sample()["ether_type"] if at[_ETHER_TYPE] < 0x600 else at[_ETHER_TYPE]
    low, high = list[int](at), list[int](at)
    for n, (name, _, having) in enumerate(FIELDS):
        if not having & shape:
            low[n], high[n] = 0, _HIGHEST[n]
        elif name in ("eth_dst", "eth_src"):
            low[n], high[n] = box.low[n], box.high[n]
    flags = (chance.randrange(256) & ~box.flags[1] | box.flags[0], 0xFF) if shape & _TCP else (0, 0)
    return Box(shape, tuple(low), tuple(high), flags)


def prefix_bounds(prefix: Prefix) -> tuple[int, int]:
    """The interval of an address field that a prefix is."""
    shift = ADDRESS_SHIFT[prefix.version]
    low = prefix.value << shift
    return low, low | (1 << (prefix.bits - prefix.length + shift)) - 1


@cache
def _every_version_shapes(version: int | None, ether_type: int | None) -> int:
    shapes = ALL_SHAPES if version is None else SHAPES_OF_VERSION[version]
    if ether_type is not None:
        by_type = {t: SHAPES_OF_VERSION[v] for v, t in _ETHER_TYPES.items()}
        shapes &= by_type.get(ether_type, OTHER)
    return shapes


def box_of(match: Match) -> Box | None:
    """The packets that meet a match; None when there are none."""
    shapes = _every_version_shapes(match.version, match.ether_type)
    low, high = list[int](_LOWEST), list[int](_HIGHEST)
    if match.ether_type is not None and shapes & OTHER:
        low[_ETHER_TYPE] = high[_ETHER_TYPE] = match.ether_type
    for number, prefix in ((_SRC, match.src), (_DST, match.dst)):
        if prefix is not None:
            shapes &= SHAPES_OF_VERSION[prefix.version]
            if prefix.length:
                low[number], high[number] = prefix_bounds(prefix)
    if match.protocol is not None:
        shapes &= _IP
        low[_PROTOCOL] = high[_PROTOCOL] = match.protocol
    for name, ports in (("src_port", match.src_port), ("dst_port", match.dst_port)):
        if ports is not None:
            shapes &= _PORTS
            low[NUMBER[name]], high[NUMBER[name]] = ports.low, ports.high
    for name, value in (("icmp_type", match.icmp_type), ("icmp_code", match.icmp_code)):
        if value is not None:
            shapes &= _ICMP
            low[NUMBER[name]] = high[NUMBER[name]] = value
    if match.vlan is not None:
        low[_VLAN] = high[_VLAN] = match.vlan
    flags = (0, 0)
    if match.tcp_flags is not None:
        shapes &= _TCP
        flags = (match.tcp_flags[0] & match.tcp_flags[1], match.tcp_flags[1])
    if match.later_fragment is not None:
        shapes &= _LATER if match.later_fragment else _IP & ~_LATER
    return _pruned(Box(shapes, tuple(low), tuple(high), flags)) if shapes else None


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """A union of disjoint boxes. Every operation gives a new set; `limit` bounds its boxes."""

    boxes: tuple[Box, ...] = ()
    limit: int = 100_000

    @classmethod
    def of(cls, *matches: Match, limit: int = 100_000) -> HeaderSet:
        """The packets that meet any of the matches."""
        united = cls((), limit)
        for match in matches:
            box = box_of(match)
            if box is not None:
                united = united.unite(cls((box,), limit))
        return united

    def __bool__(self) -> bool:
        return bool(self.boxes)

    def _new(self, boxes: Iterable[Box]) -> HeaderSet:
        kept = tuple(boxes)
        if len(kept) > self.limit:
            raise SetTooLarge(f"a set of packets needs more than {self.limit} boxes")
        return HeaderSet(kept, self.limit)

    def intersect(self, other: HeaderSet) -> HeaderSet:
        """Packets in both."""
        common = (a.intersect(b) for a in self.boxes for b in other.boxes)
        return self._new(box for box in common if box is not None)

    def subtract(self, other: HeaderSet) -> HeaderSet:
        """Packets that are not in the other."""
        left = list(self.boxes)
        for box in other.boxes:
            left = [piece for mine in left for piece in mine.subtract(box)]
            if len(left) > self.limit:
                raise SetTooLarge(f"a set of packets needs more than {self.limit} boxes")
        return self._new(left)

    def unite(self, other: HeaderSet) -> HeaderSet:
        """Packets in either."""
        return self._new((*self.boxes, *other.subtract(self).boxes))

    def within(self, other: HeaderSet) -> bool:
        """Whether all its packets are in the other."""
        return not self.subtract(other)

    def contains(self, packet: Mapping[str, int]) -> bool:
        """Whether it has a packet as `sample` gives it."""
        return any(box.contains(packet) for box in self.boxes)

    def sample(self) -> dict[str, int] | None:
        """One of its packets, an ordinary one if it has any; None when it is empty."""
        if not self.boxes:
            return None
        likely = next((box for box in self.boxes if box.shapes & _PORTS), self.boxes[0])
        return likely.sample()

    def rewritten(self, field: str, pairs: Sequence[tuple[int, int, int]]) -> HeaderSet:
        """What its packets become when addresses are replaced: (version, old, new)."""
        rest: HeaderSet = self
        images = HeaderSet((), self.limit)
        for old, new in _address_points(field, pairs):
            hit = self.intersect(HeaderSet((old,), self.limit))
            rest = rest.subtract(hit)
            images = images.unite(hit._moved(field, new))
        return images.unite(rest)

    def before_rewrite(self, field: str, pairs: Sequence[tuple[int, int, int]]) -> HeaderSet:
        """The packets that become one of its packets when addresses are replaced."""
        before: HeaderSet = self
        for old, _ in _address_points(field, pairs):
            before = before.subtract(HeaderSet((old,), self.limit))
        for old, new in _address_points(field, pairs):
            hit = self.intersect(HeaderSet((new,), self.limit))
            before = before.unite(hit._moved(field, old))
        return before

    def _moved(self, field: str, to: Box) -> HeaderSet:
        """Its packets, which all have one address, with another one."""
        n = NUMBER[field]
        return self._new(
            box._replace(
                low=(*box.low[:n], to.low[n], *box.low[n + 1 :]),
                high=(*box.high[:n], to.high[n], *box.high[n + 1 :]),
            )
            for box in self.boxes
        )

    def words(self, most: int = 4) -> str:
        """The set for people."""
        told = [words_of(box) for box in self.boxes[:most]]
        if len(self.boxes) > most:
            told.append(f"{len(self.boxes) - most} more")
        return "; or ".join(told) or "nothing"


def _address_points(field: str, pairs: Sequence[tuple[int, int, int]]) -> Iterator[tuple[Box, Box]]:
    for version, old, new in pairs:
        yield address_box(field, version, old), address_box(field, version, new)


def address_box(field: str, version: int, address: int) -> Box:
    """All packets with an address in `field`."""
    n, bits = NUMBER[field], 32 if version == 4 else 128
    low, high = prefix_bounds(Prefix(version, address, bits))
    return Box(
        SHAPES_OF_VERSION[version],
        (*_LOWEST[:n], low, *_LOWEST[n + 1 :]),
        (*_HIGHEST[:n], high, *_HIGHEST[n + 1 :]),
        (0, 0),
    )


def words_of(box: Box) -> str:
    """A box for people: `ipv4 tcp, dst 10.0.0.0/8, dst_port 80`."""
    words = [_shape_words(box.shapes)]
    for number, (name, _, _) in enumerate(FIELDS):
        low, high = box.low[number], box.high[number]
        if (low, high) == (0, _HIGHEST[number]):
            continue
        if name in ("src", "dst"):
            words.append(f"{name} {_addresses(version_of(box.shapes), low, high)}")
        elif name == "protocol" and box.shapes & ~_PLAIN & ~_LATER == box.shapes:
            continue  # the shape says it
        else:
            words.append(f"{name} {low}" if low == high else f"{name} {low}-{high}")
    if box.flags[1]:
        words.append("tcp_flags {:#04x}/{:#04x}".format(*box.flags))
    return ", ".join(words)


def _shape_words(shapes: int) -> str:
    if shapes == ALL_SHAPES:
        return "any packet"
    words: list[str] = []
    for version, having in SHAPES_OF_VERSION.items():
        if not shapes & having:
            continue
        name = f"ipv{version}" if version else "not IP"
        if version and shapes & having != having:
            l4 = [
                _L4[i] for i in range(len(_L4)) if shapes >> 1 + i + (5 if version == 6 else 0) & 1
            ]
            name += " " + "/".join(n.replace("_", " ").replace("plain", "other") for n in l4)
        words.append(name)
    return " or ".join(words)


def _addresses(version: int, low: int, high: int) -> str:
    shift, cls = (
        ADDRESS_SHIFT[version],
        (ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address),
    )
    first, last = cls(low >> shift), cls(high >> shift)
    size = int(last) - int(first) + 1
    if size & (size - 1) == 0 and int(first) % size == 0:
        length = (32 if version == 4 else 128) - size.bit_length() + 1
        return f"{first}/{length}"
    return f"{first}-{last}"
