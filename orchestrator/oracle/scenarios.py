"""Conversations: whole TCP connections, datagrams, echoes, ICMP errors, fragments, and a mix of all."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.model.graph import ServiceGraph
from orchestrator.model.headers import ACK, FIN, ICMP, ICMPV6, PSH, RST, SYN, TCP, UDP
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Topology
from orchestrator.nfs.values import Address
from orchestrator.oracle import frames
from orchestrator.oracle.driver import Conversation, NamedConversation
from orchestrator.oracle.network import Delivery
from orchestrator.oracle.packets import corner_scenarios, odd_scenarios, random_scenarios
from orchestrator.oracle.world import Station, World

Begin = Callable[[World, random.Random], Conversation]


@dataclass(slots=True)
class Talker:
    """One end of a conversation: builds frames from its own address and port to the other's.

    For ICMP the ports are the identifier, twice.
    """

    host: str
    mac: int
    version: int
    protocol: int
    address: int
    port: int
    peer: int
    peer_port: int

    @classmethod
    def answering(cls, delivery: Delivery, world: World) -> Talker:
        """The receiver of a frame, as it sees the sender: that may be a NAPT's address."""
        host, packet = delivery[0], Packet.parse(delivery[1])
        own, other = packet.dst_port or packet.icmp_id, packet.src_port or packet.icmp_id
        return cls(
            host,
            world.stations[host].mac,
            packet.version,
            packet.protocol or 0,
            packet.dst,
            own or 0,
            packet.src,
            other or 0,
        )

    def ip(self, l4: bytes, *, protocol: int | None = None, ttl: int = 64) -> Delivery:
        """(host, frame) with the segment's checksum filled in."""
        protocol = self.protocol if protocol is None else protocol
        l4 = frames.with_checksum(self.version, self.address, self.peer, protocol, l4)
        packet = frames.ip(self.version, self.address, self.peer, protocol, l4, ttl=ttl)
        ether_type = frames.ether_type_of(self.version)
        return self.host, frames.ethernet(packet, ether_type, src=self.mac)

    def tcp(self, flags: int, seq: int, ack: int = 0, data: bytes = b"") -> Delivery:
        """A segment."""
        return self.ip(
            frames.tcp(self.port, self.peer_port, seq=seq, ack=ack, flags=flags, data=data)
        )

    def udp(self, data: bytes) -> Delivery:
        """A datagram."""
        return self.ip(frames.udp(self.port, self.peer_port, data))

    def echo(self, number: int, data: bytes, *, reply: bool = False) -> Delivery:
        """An echo request or reply."""
        kinds = (8, 0) if self.version == 4 else (128, 129)
        rest = struct.pack("!HH", self.port, number) + data
        return self.ip(frames.icmp(kinds[reply], 0, rest))

    def error(self, about: bytes, kind: int, code: int) -> Delivery:
        """An ICMP error about a frame that came: quotes its IP header and 8 bytes (RFC 792)."""
        packet = Packet.parse(about)
        at = packet.layout
        quoted = about[at.l3 : min(at.l4 + 8, at.end)]
        protocol = ICMP if self.version == 4 else ICMPV6
        return self.ip(frames.icmp(kind, code, bytes(4) + quoted), protocol=protocol)


def _client(world: World, rng: random.Random, protocol: int, port: int | None = None) -> Talker:
    """A host of an ingress with somebody to talk to; source ports collide now and then."""
    endpoint = rng.choice(world.ingresses)
    sender = rng.choice(world.senders(endpoint))
    target = _target(world, endpoint, sender, rng)
    services = [s for s in world.services[endpoint] if s[1] == protocol]
    if services and rng.random() < 0.7:
        target, _, port = rng.choice(services)
    source = rng.choice((rng.randrange(1024, 65536), rng.randrange(40000, 40020), 500))
    chosen = rng.choice(world.ports.get(protocol, (80,))) if port is None else port
    own = next(address for version, address in sender.addresses if version == target[0])
    if protocol in (ICMP, ICMPV6):
        protocol = ICMP if target[0] == 4 else ICMPV6
        source = chosen = rng.choice((rng.randrange(65536), rng.randrange(2000, 2010)))
    return Talker(sender.name, sender.mac, target[0], protocol, own, source, target[1], chosen)


def _target(world: World, endpoint: str, sender: Station, rng: random.Random) -> Address:
    versions = {version for version, _ in sender.addresses}
    targets = [t for t in world.targets[endpoint] if t[0] in versions]
    return rng.choice(targets)


def udp_exchange(world: World, rng: random.Random) -> Conversation:
    """Datagrams to and fro; now and then the answer is an ICMP error, or something is forbidden."""
    contents = [(c, port) for protocol, c, port in world.contents if protocol == UDP]
    marker, port = rng.choice(contents) if contents and rng.random() < 0.2 else (b"", None)
    talk = world.talk(UDP, rng) if rng.random() < 0.7 else None
    client = _client(world, rng, UDP, port if talk is None else talk.port)
    for _ in range(rng.randrange(1, 5)):
        data = rng.randbytes(rng.choice((0, 1, 7, 8, 64, 500, 1200)))
        cut = rng.randrange(len(data) + 1)
        reply_bytes, odd = rng.randbytes(rng.randrange(1, 600)), rng.random()
        if talk is not None:
            data, cut, marker, reply_bytes = talk.data, 0, b"", talk.answer or reply_bytes
            talk = world.talk(UDP, rng)
        delivered = yield client.udp(data[:cut] + marker + data[cut:])
        marker = b""
        if not delivered:
            continue
        server = Talker.answering(delivered[0], world)
        if odd < 0.2:
            kinds = ((3, 3), (11, 0), (12, 0)) if server.version == 4 else ((1, 4), (3, 0))
            yield server.error(delivered[0][1], *rng.choice(kinds))
            continue
        answer = yield server.udp(reply_bytes)
        if answer and odd < 0.35:
            # The client has closed its socket meanwhile: an error in the other direction.
            back = Talker.answering(answer[0], world)
            yield back.error(answer[0][1], *((3, 3) if back.version == 4 else (1, 4)))


def echo(world: World, rng: random.Random) -> Conversation:
    """Pings, answered; one of them may be answered by an error."""
    client = _client(world, rng, ICMP)
    for number in range(rng.randrange(1, 4)):
        delivered = yield client.echo(number, rng.randbytes(rng.choice((0, 8, 56, 1000))))
        odd = rng.random()
        if not delivered:
            continue
        server = Talker.answering(delivered[0], world)
        payload = Packet.parse(delivered[0][1]).payload
        if odd < 0.2:
            yield server.error(delivered[0][1], *((11, 0) if server.version == 4 else (3, 0)))
        else:
            yield server.echo(number, payload, reply=True)


def fragmented(world: World, rng: random.Random) -> Conversation:
    """A datagram or echo in fragments, in order or not, and a fragmented answer."""
    protocol = rng.choice((UDP, ICMP))
    client = _client(world, rng, protocol)
    data = rng.randbytes(rng.randrange(100, 2000))
    host, whole = client.udp(data) if protocol == UDP else client.echo(1, data)
    pieces = frames.fragments(whole, rng.choice((64, 256, 600)), rng.randrange(65536))
    if rng.random() < 0.3:
        rng.shuffle(pieces)
    first: Delivery | None = None
    for piece in pieces:
        delivered = yield host, piece
        if delivered and not Packet.parse(delivered[0][1]).later_fragment:
            first = delivered[0]
    size, ident = rng.choice((64, 256)), rng.randrange(65536)
    if first is None:
        return
    server = Talker.answering(first, world)
    host, whole = server.udp(data) if protocol == UDP else server.echo(1, data, reply=True)
    for piece in frames.fragments(whole, size, ident):
        yield host, piece


def tcp_connection(world: World, rng: random.Random) -> Conversation:
    """Handshake, data both ways with segmentation, reordering, retransmission, then FIN or RST.

    Now and then somebody who knows the ends, but not the numbers, joins in.
    """
    contents = [(c, port) for protocol, c, port in world.contents if protocol == TCP]
    marked = bool(contents) and rng.random() < 0.3
    marker, port = rng.choice(contents) if marked else (b"", None)
    talk = world.talk(TCP, rng) if rng.random() < 0.7 else None
    client = _client(world, rng, TCP, port if talk is None else talk.port)
    seq, peer_seq = rng.getrandbits(32), rng.getrandbits(32)
    delivered: list[Delivery] = []
    for _ in range(2):
        delivered = yield client.tcp(SYN, seq)
        if delivered:
            break
    if not delivered:
        return
    server = Talker.answering(delivered[0], world)
    answered = yield server.tcp(SYN | ACK, peer_seq, seq + 1)
    if not answered:
        return
    seq, peer_seq = seq + 1, peer_seq + 1
    yield client.tcp(ACK, seq, peer_seq)

    request, response = (rng.randbytes(rng.randrange(1, 3000)) for _ in range(2))
    cut = rng.randrange(len(request))
    if rng.random() < 0.7:
        request = request[:cut] + marker + request[cut:]
    else:
        response += marker
    if talk is not None:
        request, response = talk.data, talk.answer or response
    for talker, start, other, data in (
        (client, seq, peer_seq, request),
        (server, peer_seq, seq + len(request), response),
    ):
        for offset, piece in _segments(data, rng):
            if rng.random() < 0.05:
                yield _forged(rng.choice((client, server)), start + offset, rng)
            yield talker.tcp(ACK | PSH, start + offset, other, piece)
        listener, heard = (server, start) if talker is client else (client, start)
        yield listener.tcp(ACK, other, heard + len(data))
    seq, peer_seq = seq + len(request), peer_seq + len(response)
    if rng.random() < 0.2:
        ends = (client, seq, peer_seq), (server, peer_seq, seq)
        talker, own, other = rng.choice(ends)
        yield talker.tcp(RST, own, other)
        return
    yield client.tcp(FIN | ACK, seq, peer_seq)
    yield server.tcp(ACK, peer_seq, seq + 1)
    yield server.tcp(FIN | ACK, peer_seq, seq + 1)
    yield client.tcp(ACK, seq + 1, peer_seq + 1)


def _forged(talker: Talker, near: int, rng: random.Random) -> Delivery:
    """A segment that changes a connection, if it is believed."""
    flags = rng.choice((RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, ACK))
    seq = near + rng.choice((0, 1, 5000, -100_000, 1 << 31))
    host, frame = talker.tcp(flags, seq, rng.getrandbits(32), rng.randbytes(rng.choice((0, 9))))
    if rng.random() < 0.3:
        frame = frame[:-1] + bytes((frame[-1] ^ 1,))
    return host, frame


def _segments(data: bytes, rng: random.Random) -> list[tuple[int, bytes]]:
    """(offset, bytes): cut at random, some swapped, some sent twice or with other bounds."""
    size = rng.choice((1, 8, 100, 536, 1448)) if len(data) < 100 else rng.choice((100, 536, 1448))
    pieces: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        length = rng.randrange(1, size + 1) if rng.random() < 0.5 else size
        pieces.append((at, data[at : at + length]))
        at += length
    if rng.random() < 0.5:
        for index in range(len(pieces) - 1):
            if rng.random() < 0.3:
                pieces[index], pieces[index + 1] = pieces[index + 1], pieces[index]
    if rng.random() < 0.3:
        start = rng.randrange(len(data))
        again = (start, data[start : start + size])
        pieces.insert(rng.randrange(len(pieces) + 1), again)
    return pieces


CONVERSATIONS: tuple[tuple[str, Begin, int], ...] = (
    ("TCP connection", tcp_connection, 5),
    ("UDP exchange", udp_exchange, 5),
    ("echo", echo, 3),
    ("fragments", fragmented, 2),
)
"""Name, conversation, weight."""


def conversation_scenarios(
    graph: ServiceGraph, topology: Topology, seed: int
) -> Iterator[NamedConversation]:
    """Conversations without end."""
    world, rng = World(graph, topology), random.Random(seed)
    weights = [weight for *_, weight in CONVERSATIONS]
    while True:
        name, begin, _ = rng.choices(CONVERSATIONS, weights)[0]
        yield conversation(name, begin, world, rng.getrandbits(64))


def conversation(name: str, begin: Begin, world: World, seed: int) -> NamedConversation:
    """A scenario whose every copy makes the same random choices."""
    return NamedConversation(f"{name} {seed:x}", lambda: begin(world, random.Random(seed)))


def campaign(graph: ServiceGraph, topology: Topology, seed: int = 0) -> Iterator[NamedConversation]:
    """Without end: conversations, corners (until all have been), random and odd packets, mixed."""
    rng = random.Random(seed)
    corners = corner_scenarios(graph, topology, seed, rules=500)
    sources = (
        conversation_scenarios(graph, topology, seed),
        corners,
        random_scenarios(graph, topology, seed),
        odd_scenarios(graph, topology, seed),
    )
    weights = (2, 8, 4, 2)
    while True:
        source = rng.choices(sources, weights)[0]
        scenario = next(source, None)
        if scenario is not None:
            yield scenario
