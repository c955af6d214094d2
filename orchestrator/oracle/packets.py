"""Single packets that matter: random ones, the corners of every rule and route, and odd frames."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.model.elements import FilterProgram, RouteProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.headers import ETHERTYPE_ARP, ICMP, ICMPV6, SYN, TCP, UDP
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix
from orchestrator.model.topology import Topology
from orchestrator.nfs.values import impossible
from orchestrator.oracle import frames
from orchestrator.oracle.driver import Conversation, NamedConversation
from orchestrator.oracle.world import Station, World
from servernf.wire.addresses import BROADCAST_MAC, GATEWAY_MAC

_PRIORITIES = (0, 0xE000)
"""PCP of a VLAN tag, which no rule asks for."""
TTLS = (64, 64, 64, 255, 2, 1, 0)
FLAGS = (0x02, 0x10, 0x18, 0x12, 0x11, 0x04, 0x14, 0x00, 0x03, 0x29, 0x3F, 0xFF)
OTHER_PROTOCOLS = (0, 2, 4, 41, 43, 47, 50, 51, 60, 89, 132, 255)


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """The header fields of one packet; what a protocol lacks is ignored."""

    version: int
    src: int
    dst: int
    protocol: int
    src_port: int = 40000
    dst_port: int = 80
    flags: int = SYN
    icmp: tuple[int, int] | None = None
    ttl: int = 64
    offset: int = 0
    more: bool = False
    ident: int = 1
    data: bytes = b"0123456789abcdef"
    options: bytes = b""
    vlans: tuple[int, ...] = ()

    def frame(self, sender: Station) -> bytes:
        """The frame, sent to the gateway."""
        if self.offset:
            l4 = self.data[: max(8, len(self.data) // 8 * 8)]
        elif self.protocol == TCP:
            l4 = frames.tcp(self.src_port, self.dst_port, seq=1, flags=self.flags, data=self.data)
        elif self.protocol == UDP:
            l4 = frames.udp(self.src_port, self.dst_port, self.data)
        elif self.protocol in (ICMP, ICMPV6):
            kind, code = self.icmp or (8 if self.protocol == ICMP else 128, 0)
            l4 = frames.icmp(kind, code, struct.pack("!HH", self.src_port, 1) + self.data)
        else:
            l4 = self.data
        if not self.offset:
            l4 = frames.with_checksum(self.version, self.src, self.dst, self.protocol, l4)
        packet = frames.ip(
            self.version,
            self.src,
            self.dst,
            self.protocol,
            l4,
            ttl=self.ttl,
            ident=self.ident,
            offset=self.offset,
            more=self.more,
            options=self.options if self.version == 4 else b"",
        )
        ether_type = frames.ether_type_of(self.version)
        return frames.ethernet(packet, ether_type, src=sender.mac, vlans=self.vlans)


def single(name: str, host: str, frame: bytes) -> NamedConversation:
    """A scenario of one frame."""

    def conversation() -> Conversation:
        yield host, frame

    return NamedConversation(name, conversation)


# Random


def random_scenarios(
    graph: ServiceGraph, topology: Topology, seed: int
) -> Iterator[NamedConversation]:
    """Random packets without end; about half of them between addresses that exist."""
    world, rng = World(graph, topology), random.Random(seed)
    while True:
        sender = rng.choice(world.senders(rng.choice(world.ingresses)))
        yield single("random", sender.name, random_fields(world, sender, rng).frame(sender))


def random_fields(world: World, sender: Station, rng: random.Random) -> HeaderFields:
    """Random header fields that a host could send."""
    version, own = rng.choice(sender.addresses)
    endpoint = next(e for e in world.ingresses if sender in world.senders(e))
    targets = [address for v, address in world.targets[endpoint] if v == version]
    prefixes = [prefix for prefix in world.prefixes if prefix.version == version]
    bits = 32 if version == 4 else 128
    dst = rng.getrandbits(bits)
    if targets and rng.random() < 0.6:
        dst = rng.choice(targets)
    elif prefixes and rng.random() < 0.8:
        dst = world.address_in(rng.choice(prefixes), rng)
    src = own
    if rng.random() < 0.1:
        src = world.address_in(rng.choice(prefixes), rng) if prefixes else rng.getrandbits(bits)
    protocol = rng.choice((TCP, TCP, UDP, UDP, ICMP if version == 4 else ICMPV6))
    if rng.random() < 0.08:
        protocol = rng.choice((*OTHER_PROTOCOLS, ICMP, ICMPV6))
    ports = world.ports.get(protocol, (80,))
    later = rng.random() < 0.04
    return HeaderFields(
        version=version,
        src=src,
        dst=dst,
        protocol=protocol,
        src_port=rng.choice((rng.randrange(65536), rng.choice(ports), rng.randrange(1024, 1100))),
        dst_port=rng.choice((rng.randrange(65536), rng.choice(ports), rng.choice(ports))),
        flags=rng.choice(FLAGS),
        ttl=rng.choice(TTLS),
        offset=rng.choice((8, 1480, 65528)) if later else 0,
        more=rng.random() < 0.04,
        ident=rng.randrange(65536),
        data=rng.randbytes(rng.choice((0, 1, 7, 8, 9, 26, 200, 1400))),
        options=rng.choice((b"", b"", b"", b"\x01" * 4, b"\x01" * 40)),
        vlans=rng.choice(((), (), (), (), (5,), (5, 0x6007))),
    )


# Corners


def corner_scenarios(
    graph: ServiceGraph, topology: Topology, seed: int, *, rules: int | None = None
) -> Iterator[NamedConversation]:
    """Packets at the corners of every rule and route that an ingress's packets can meet.

    Prefixes: first and last address, and those just outside. Port ranges: each bound, and just
    outside. Protocols and flags: right and wrong. And a packet that an earlier rule takes away.
    `rules` bounds how many rules and routes of each element are chosen (at random).
    """
    world, rng = World(graph, topology), random.Random(seed)
    for endpoint in world.ingresses:
        for port in world.entered[endpoint]:
            for element in world.functions[port.node].elements(port.port).elements.values():
                name = f"corner of {port}.{element.name}"
                for fields in _corners(element.program, rules, rng):
                    sender = rng.choice(world.senders(endpoint))
                    completed = _complete(fields, world, sender, endpoint, rng)
                    yield single(name, sender.name, completed.frame(sender))


@dataclass(frozen=True, slots=True)
class _Partial:
    """The fields that a corner fixes; None is anything."""

    version: int | None = None
    src: int | None = None
    dst: int | None = None
    protocol: int | None = None
    src_port: int | None = None
    dst_port: int | None = None
    flags: int | None = None
    icmp: tuple[int, int] | None = None
    later: bool = False
    vlan: int | None = None


def _corners(program: object, limit: int | None, rng: random.Random) -> Iterator[_Partial]:
    if isinstance(program, FilterProgram):
        indices = list(range(len(program.rules)))
        if limit is not None and limit < len(indices):
            indices = sorted(rng.sample(indices, limit))
        for index in indices:
            match = program.rules[index].match
            yield from match_corners(match)
            earlier = program.rules[max(0, index - 200) : index]
            shared = (intersection(match, rule.match) for rule in reversed(earlier))
            taken = next((m for m in shared if m is not None), None)
            if taken is not None:
                yield next(match_corners(taken))
    elif isinstance(program, RouteProgram):
        routes = program.routes
        if limit is not None and limit < len(routes):
            routes = rng.sample(routes, limit)
        for route in routes:
            for address in _prefix_corners(route.prefix):
                yield _Partial(version=route.prefix.version, dst=address)


def match_corners(match: Match) -> Iterator[_Partial]:
    """First a packet in the middle of a match, then its corners, one field moved at a time."""
    version = match.version
    for prefix in (match.src, match.dst):
        if prefix is not None:
            version = prefix.version
    if match.ether_type is not None:
        version = {0x0800: 4, 0x86DD: 6}.get(match.ether_type, version)
    protocol = match.protocol
    if protocol is None and match.tcp_flags is not None:
        protocol = TCP
    elif protocol is None and (match.src_port or match.dst_port):
        protocol = UDP
    icmp = None
    if match.icmp_type is not None or match.icmp_code is not None:
        if protocol is None:
            protocol = ICMPV6 if version == 6 else ICMP
        version = 6 if protocol == ICMPV6 else 4
        icmp = match.icmp_type or 0, match.icmp_code or 0
    base = _Partial(
        version=version,
        src=match.src.value if match.src else None,
        dst=match.dst.value if match.dst else None,
        protocol=protocol,
        src_port=match.src_port.low if match.src_port else None,
        dst_port=match.dst_port.low if match.dst_port else None,
        flags=match.tcp_flags[0] if match.tcp_flags else None,
        icmp=icmp,
        later=bool(match.later_fragment),
        vlan=match.vlan,
    )
    yield base
    if match.vlan is not None:
        tags = (UNTAGGED, 0, match.vlan ^ 1, match.vlan ^ 0x800)
        yield from (replace(base, vlan=tag) for tag in tags if tag <= UNTAGGED)
    if match.src is not None:
        yield from (replace(base, src=address) for address in _prefix_corners(match.src))
    if match.dst is not None:
        yield from (replace(base, dst=address) for address in _prefix_corners(match.dst))
    if match.src_port is not None:
        yield from (replace(base, src_port=port) for port in _range_corners(match.src_port))
    if match.dst_port is not None:
        yield from (replace(base, dst_port=port) for port in _range_corners(match.dst_port))
    if protocol is not None:
        yield replace(base, protocol=UDP if protocol == TCP else TCP)
    if match.tcp_flags is not None:
        value, mask = match.tcp_flags
        yield replace(base, flags=value | ~mask & 0xFF)
        yield from (replace(base, flags=value ^ 1 << bit) for bit in range(8) if mask >> bit & 1)
    if icmp is not None:
        kind, code = icmp
        yield from (replace(base, icmp=(k, code)) for k in (kind - 1, kind + 1) if 0 <= k <= 255)
        yield from (replace(base, icmp=(kind, c)) for c in (code - 1, code + 1) if 0 <= c <= 255)
    l4 = (match.src_port, match.dst_port, match.tcp_flags, icmp)
    if any(condition is not None for condition in l4):
        yield replace(base, later=True)


def _prefix_corners(prefix: Prefix) -> list[int]:
    size = 1 << (prefix.bits - prefix.length)
    near = (prefix.value - 1, prefix.value, prefix.value + size - 1, prefix.value + size)
    return [address for address in dict.fromkeys(near) if 0 <= address < 1 << prefix.bits]


def _range_corners(ports: PortRange) -> list[int]:
    near = (ports.low - 1, ports.low, ports.high, ports.high + 1)
    return [port for port in dict.fromkeys(near) if 0 <= port <= 65535]


def intersection(a: Match, b: Match) -> Match | None:
    """What both match; None when nothing does (or when flags make it hard to say)."""
    fields: dict[str, object] = {}
    for name in (
        "ether_type",
        "version",
        "protocol",
        "tcp_flags",
        "later_fragment",
        "icmp_type",
        "icmp_code",
        "vlan",
    ):
        first, second = getattr(a, name), getattr(b, name)
        if first is not None and second is not None and first != second:
            return None
        fields[name] = second if first is None else first
    for name in ("src", "dst"):
        first, second = getattr(a, name), getattr(b, name)
        if first is not None and second is not None:
            wide, narrow = sorted((first, second), key=lambda prefix: prefix.length)
            outside = wide.version != narrow.version or narrow.value & wide.mask != wide.value
            if outside:
                return None
            fields[name] = narrow
        else:
            fields[name] = second if first is None else first
    for name in ("src_port", "dst_port"):
        first, second = getattr(a, name), getattr(b, name)
        if first is not None and second is not None:
            low, high = max(first.low, second.low), min(first.high, second.high)
            if low > high:
                return None
            fields[name] = PortRange(low, high)
        else:
            fields[name] = second if first is None else first
    result = Match(**fields)  # type: ignore[arg-type]
    return result if impossible(result) is None else None


def _complete(
    partial: _Partial, world: World, sender: Station, endpoint: str, rng: random.Random
) -> HeaderFields:
    """Fill in what a corner leaves open with what makes the packet get far."""
    versions = [version for version, _ in sender.addresses]
    version = partial.version or rng.choice(versions)
    own = next((address for v, address in sender.addresses if v == version), 1)
    targets = [address for v, address in world.targets[endpoint] if v == version] or [2]
    protocol = rng.choice((TCP, UDP)) if partial.protocol is None else partial.protocol
    ports = world.ports.get(protocol, (80,))
    return HeaderFields(
        version=version,
        src=own if partial.src is None else partial.src,
        dst=rng.choice(targets) if partial.dst is None else partial.dst,
        protocol=protocol,
        src_port=rng.randrange(65536) if partial.src_port is None else partial.src_port,
        dst_port=rng.choice(ports) if partial.dst_port is None else partial.dst_port,
        flags=SYN if partial.flags is None else partial.flags,
        icmp=partial.icmp,
        offset=1480 if partial.later else 0,
        ident=rng.randrange(65536),
        vlans=() if partial.vlan in (None, UNTAGGED) else (partial.vlan | rng.choice(_PRIORITIES),),
    )


# Odd frames


def odd_scenarios(
    graph: ServiceGraph, topology: Topology, seed: int
) -> Iterator[NamedConversation]:
    """Without end: ARP, unknown EtherTypes, odd MACs, VLANs, truncated and bent frames."""
    world, rng = World(graph, topology), random.Random(seed)
    while True:
        sender = rng.choice(world.senders(rng.choice(world.ingresses)))
        good = random_fields(world, sender, rng).frame(sender)
        kind = rng.choice(("arp", "unknown type", "odd MAC", "VLAN", "truncated", "bent", "padded"))
        if kind == "arp":
            good = _arp(sender, rng)
        elif kind == "unknown type":
            ether_type = rng.choice((0x88CC, 0x0101, 0x894F, 0x8847, rng.randrange(65536)))
            payload = rng.randbytes(rng.randrange(80))
            good = frames.ethernet(payload, ether_type, src=sender.mac)
        elif kind == "odd MAC":
            others = [station.mac for station in world.stations.values()]
            mac = rng.choice((BROADCAST_MAC, 0x01005E000001, *others, rng.getrandbits(48)))
            good = mac.to_bytes(6, "big") + good[6:]
        elif kind == "VLAN":
            tags = rng.choice(
                (b"\x81\x00\x00\x05", b"\x88\xa8\x20\x07\x81\x00\x00\x05", b"\x81\x00\x00\x01" * 3)
            )
            good = good[:12] + tags + good[12:]
        elif kind == "truncated":
            good = good[: rng.randrange(len(good))]
        elif kind == "bent":
            bent = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                bent[rng.randrange(12, min(len(bent), 70))] = rng.randrange(256)
            good = bytes(bent)
        else:
            good += rng.randbytes(rng.randrange(1, 40))
        yield single(kind, sender.name, good)


def _arp(sender: Station, rng: random.Random) -> bytes:
    """A request or reply for an address that may be anybody's."""
    own = next((address for version, address in sender.addresses if version == 4), 1)
    target = rng.choice((own ^ rng.randrange(16), rng.getrandbits(32)))
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, rng.choice((1, 2)))
    body += sender.mac.to_bytes(6, "big") + own.to_bytes(4, "big") + bytes(6)
    body += target.to_bytes(4, "big")
    dst = rng.choice((BROADCAST_MAC, GATEWAY_MAC))
    return frames.ethernet(body, ETHERTYPE_ARP, src=sender.mac, dst=dst)
