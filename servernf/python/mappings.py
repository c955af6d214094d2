"""The mappings of a NAPT: the ports that they hold, whose they are, the TCP connections they serve."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import ends
from servernf.python.network_function import INSIDE, OUTSIDE
from servernf.python.packet import TCP, PacketView
from servernf.python.state import EntryKind, TableKind
from servernf.python.tables import RecordFlow, RecordTable
from servernf.python.tcp_acceptance import (
    ACCEPTED,
    ACK,
    BEGINS,
    FIN,
    REFUSED,
    RST,
    SYN,
    Side,
    accept_packet,
    is_established,
    is_intact,
    side_fields,
    side_problem,
)
from servernf.python.watched import DeclaredTable, Watch, Watched
from servernf.wire.buckets import HASH_BITS, bucket_of, bucket_ports
from servernf.wire.state import RecordField, Values

MAX_SESSIONS = 65_536
MAX_SESSIONS_OF_MAPPING = 4096
"""TCP connections that are followed."""
MAX_REMOTES = 4096
"""Remote endpoints that one mapping remembers for filtering; the oldest is forgotten first."""

_FLAGS = FIN | SYN | RST | ACK
ESTABLISHED_TCP = 256
"""A mapping's kind is its protocol or this; each has a timeout."""
_REMOTE_BYTES = 7


Queue: TypeAlias = "OrderedDict[NatMapping, None]"


class PortPool:
    """Ports of one address and protocol: bit n of `taken` stands for port n."""

    __slots__ = ("established", "taken", "transitory")

    def __init__(self) -> None:
        self.taken = 0
        # Mappings by when they were used last. One timeout holds for each, so the first of each
        # is the first to expire. (UDP and ICMP have transitory ones only.)
        self.transitory: Queue = OrderedDict()
        self.established: Queue = OrderedDict()

    def free(self, wanted: int, share: int) -> int:
        """The wanted port, else the next free one of `share` upwards, wrapping; -1: none is free."""
        free = share & ~self.taken
        if not free:
            return -1
        above = free >> wanted << wanted
        free = above or free
        return (free & -free).bit_length() - 1


_NONE: Queue = OrderedDict()
"""Stands for the established mappings of a host that never had any."""


class InsideHost:
    """The mappings of one protocol that an inside address has; queues as a pool's."""

    __slots__ = ("established", "transitory")

    def __init__(self) -> None:
        self.transitory: Queue = OrderedDict()
        self.established = _NONE

    def __len__(self) -> int:
        return len(self.transitory) + len(self.established)


class Session(FairEntry):
    """A TCP connection of a mapping."""

    __slots__ = ("inside", "is_established", "mapping", "outside", "remote")

    def __init__(self, remote: bytes = b"") -> None:
        self.remote = remote
        """Its outside end: address and port."""
        self.inside = Side()
        self.outside = Side()
        self.is_established = False
        self.mapping: NatMapping | None = None
        """Set once it is followed."""


class NatMapping:
    """An inside (protocol, address, port or ICMP id) and its outside (address, port)."""

    __slots__ = (
        "established",
        "host",
        "host_queue",
        "inside",
        "inside_port",
        "key",
        "kind",
        "outside",
        "outside_port",
        "pool",
        "prefix",
        "protocol",
        "queue",
        "remotes",
        "sessions",
        "share",
        "used_us",
    )
    pool: PortPool
    host: InsideHost
    queue: Queue
    host_queue: Queue

    def __init__(
        self, key: int = 0, outside: int = 0, outside_port: int = 0, share: Share | None = None
    ) -> None:
        self.share = share
        """The last one that was found to hold it."""
        self.outside = outside
        self.outside_port = outside_port
        self.used_us = 0
        self.sessions: dict[bytes, Session] = {}
        """Those of TCP that are followed, the one that began first in front."""
        self.established = 0
        """How many of them are."""
        self.remotes: dict[int, None] = {}
        self.identify(key)

    def identify(self, key: int) -> None:
        """Be the mapping of an inside."""
        self.key = key
        self.kind = self.protocol = key & 0xFF
        self.inside_port = key >> 8 & 0xFFFF
        self.inside = key >> 24
        self.prefix = (key >> 8).to_bytes(6, "big") if self.kind == TCP else b""
        """Of its sessions' keys: inside address and port."""

    @property
    def outside_key(self) -> int:
        """Where it is found from outside."""
        return self.outside << 24 | self.outside_port << 8 | self.protocol

    @property
    def written_remotes(self) -> bytes:
        """`remotes`, the one that was there first in front."""
        return b"".join(remote.to_bytes(_REMOTE_BYTES, "big") for remote in self.remotes)

    @written_remotes.setter
    def written_remotes(self, raw: bytes) -> None:
        at = range(0, len(raw), _REMOTE_BYTES)
        self.remotes = {int.from_bytes(raw[i : i + _REMOTE_BYTES], "big"): None for i in at}

    def refresh(self) -> None:
        """It will be the last of its kind to expire."""
        self.queue.move_to_end(self)
        self.host_queue.move_to_end(self)

    def count_established(self, change: int) -> None:
        """So many connections more are established."""
        self.established += change
        kind = ESTABLISHED_TCP if self.established else TCP
        if kind != self.kind:
            self.move(kind)

    def move(self, kind: int) -> None:
        """As `refresh`, and another timeout holds from now on."""
        del self.queue[self], self.host_queue[self]
        self.kind = kind
        self.queue_up()

    def queue_up(self) -> None:
        """Stand last in the queues of its kind."""
        established = self.kind == ESTABLISHED_TCP
        if established and self.host.established is _NONE:
            self.host.established = OrderedDict()
        self.queue = self.pool.established if established else self.pool.transitory
        self.host_queue = self.host.established if established else self.host.transitory
        self.queue[self] = self.host_queue[self] = None


class Share(NamedTuple):
    """The pool: addresses, ports from `low` to `high`, and how they are dealt to buckets."""

    addresses: list[int]
    low: int
    high: int
    dealt: tuple[int, ...]
    """The ports of each bucket: bit n stands for port n."""

    @classmethod
    def of(cls, addresses: list[int], low: int, high: int, buckets: int) -> Share:
        """A pool that is dealt to so many buckets."""
        dealt = (bucket_ports(low, high, at, at, buckets) for at in range(buckets))
        return cls(addresses, low, high, tuple((1 << end + 1) - (1 << at) for at, end in dealt))

    def ports_of(self, inside: int) -> int:
        """The ports that an inside address may have."""
        return self.dealt[bucket_of(inside, len(self.dealt))]

    def hash_of_port(self, port: int) -> int | None:
        """The first hash of the bucket that has a port; None: no bucket has it."""
        for bucket, ports in enumerate(self.dealt):
            if port >= 0 and ports >> port & 1:
                return (bucket << HASH_BITS) // len(self.dealt)
        return None

    def holds(self, mapping: NatMapping) -> bool:
        return (
            mapping.outside in self.addresses
            and self.ports_of(mapping.inside) >> mapping.outside_port & 1 == 1
        )


class Mappings(RecordTable[int, NatMapping]):
    """All mappings, by inside and by outside; what ports are taken follows from them."""

    secondary = ("by_outside",)

    def __init__(self) -> None:
        super().__init__()
        self.by_outside: dict[int, NatMapping] = {}
        self.pools: dict[tuple[int, int], PortPool] = {}
        """By protocol and address, made when first needed; also those that are owned no more."""
        self.hosts: dict[tuple[int, int], InsideHost] = {}
        """By protocol and inside address, while they have mappings."""
        self._unsorted: dict[int, Queue] = {}

    def take(self, protocol: int, outside: int, wanted: int, ports: int) -> int:
        """A free port of an address, of those that `ports` has; -1: none is free."""
        pool = self.pools.get((protocol, outside))
        if pool is None:
            pool = self.pools[protocol, outside] = PortPool()
        return pool.free(wanted, ports)

    def add(self, mapping: NatMapping) -> None:
        """Enter one whose inside and outside are free."""
        place = mapping.protocol, mapping.outside
        pool = self.pools.get(place)
        if pool is None:
            pool = self.pools[place] = PortPool()
        host = self.hosts.get((mapping.protocol, mapping.inside))
        if host is None:
            host = self.hosts[mapping.protocol, mapping.inside] = InsideHost()
        mapping.pool, mapping.host = pool, host
        mapping.queue_up()
        pool.taken |= 1 << mapping.outside_port
        self.records[mapping.key] = mapping
        self.by_outside[mapping.outside_key] = mapping
        if self.index is not None:
            self.index.enter(mapping.key, mapping)

    def remove(self, mapping: NatMapping) -> None:
        """Forget one that is there; its port is free again."""
        del self.records[mapping.key]
        del self.by_outside[mapping.outside_key]
        del mapping.queue[mapping]
        del mapping.host_queue[mapping]
        if not len(mapping.host):
            del self.hosts[mapping.protocol, mapping.inside]
        mapping.pool.taken &= ~(1 << mapping.outside_port)
        if self.index is not None:
            self.index.leave(mapping.key, mapping)

    def crowds(self, host: InsideHost) -> None:
        """Called before a host gets no mapping because of all that it has."""

    def insert(self, key: int, record: NatMapping, values: Values) -> None:
        record.identify(key)
        if record.established:
            record.kind = ESTABLISHED_TCP
        self.add(record)
        for queue in (record.queue, record.host_queue):
            if len(queue) > 1:
                self._unsorted[id(queue)] = queue

    def settle(self) -> None:
        """Have every queue in the order of use again, once mappings of another instance are in."""
        for queue in self._unsorted.values():
            ordered = sorted(queue, key=lambda mapping: mapping.used_us)
            queue.clear()
            queue.update(dict.fromkeys(ordered))
        self._unsorted.clear()

    def discard(self, key: int) -> None:
        self.remove(self.records[key])

    def in_order(self, keys: Collection[int] | None) -> Iterator[int]:
        if keys is not None:
            yield from sorted(keys, key=lambda key: self.records[key].used_us)
            return
        for pool in list(self.pools.values()):
            for queue in (pool.transitory, pool.established):
                yield from (mapping.key for mapping in queue)

    def watched(self, declared: DeclaredTable, watch: Watch) -> WatchedMappings:
        return WatchedMappings(declared, watch)


class WatchedMappings(Watched):
    """Notes what the allocator has decided by."""

    _table: Mappings

    def take(self, protocol: int, outside: int, wanted: int, ports: int) -> int:
        port = self._table.take(protocol, outside, wanted, ports)
        if not self._watch.of_choices:
            return port
        end = ports.bit_length()
        if port < 0:
            run = [*range(end)]
        else:
            run = [*range(wanted, port)] if port >= wanted else [*range(wanted, end), *range(port)]
        for number in run:
            holder = self._table.by_outside.get(outside << 24 | number << 8 | protocol)
            if ports >> number & 1 and holder is not None:
                self.touch(holder)
        return port

    def add(self, mapping: NatMapping) -> None:
        self._watch.note(self._declared, mapping.key, None)
        self._table.add(mapping)

    def remove(self, mapping: NatMapping) -> None:
        self.touch(mapping)
        self._table.remove(mapping)

    def crowds(self, host: InsideHost) -> None:
        if not self._watch.of_choices:
            return
        for mapping in (*host.transitory, *host.established):
            self.touch(mapping)


class SessionTable(FairTable[Session]):
    """The TCP connections of all mappings (RFC 5382, REQ-5); inside addresses share the room."""

    def __init__(self, mappings: Mappings, size: int = MAX_SESSIONS) -> None:
        super().__init__(size)
        self._mappings = mappings

    def insert(self, key: bytes, record: Session, values: Values) -> None:
        super().insert(key, record, values)
        mapping = self._mappings.records[mapping_of(key)]
        record.mapping, record.remote = mapping, key[6:]
        mapping.sessions[record.remote] = record

    def discard(self, key: bytes) -> None:
        session = self.records[key]
        self.remove(session)
        forget(session)


class Sessions:
    """What segments do to the connections, and these to their mappings."""

    def __init__(self, table: SessionTable, mappings: Mappings) -> None:
        self._table = table
        self._find = table.get
        self._mappings = mappings

    def judge(
        self, mapping: NatMapping | None, packet: PacketView, port: str
    ) -> tuple[Session, int]:
        """The connection (perhaps a new one) of a segment that is not translated yet, and what its
        receiver makes of it."""
        source, destination = ends(packet)
        remote = destination if port == INSIDE else source
        session = None if mapping is None else self._find(mapping.prefix + remote)
        if session is None:
            session = Session(remote)
        if not is_intact(packet):
            return session, REFUSED
        if port == INSIDE:
            return session, accept_packet(session.inside, session.outside, packet)
        return session, accept_packet(session.outside, session.inside, packet)

    def settle(
        self, mapping: NatMapping, session: Session, verdict: int, packet: PacketView, port: str
    ) -> None:
        """Let the mapping know of a segment that was not refused."""
        if session.mapping is None:
            if verdict in (ACCEPTED, BEGINS):
                self._begin(mapping, session, port)
            return
        self._table.refresh(session)
        if not session.is_established or packet.data[packet.l4 + 13] & _FLAGS != ACK:
            established = is_established(session.inside, session.outside)
            if established != session.is_established:
                session.is_established = established
                self._table.establish(session, established)
                mapping.count_established(1 if established else -1)

    def end_of(self, mapping: NatMapping) -> None:
        """The mapping is over."""
        for session in mapping.sessions.values():
            self._table.remove(session)

    def _begin(self, mapping: NatMapping, session: Session, port: str) -> None:
        if len(mapping.sessions) >= MAX_SESSIONS_OF_MAPPING:
            for other in mapping.sessions.values():
                self._table.touch(other)
            if port == OUTSIDE:
                return  # no stranger takes the room of what inside has opened
            first = next(iter(mapping.sessions.values()))
            self._table.remove(first)
            forget(first)
        session.mapping = mapping
        mapping.sessions[session.remote] = session
        inside = mapping.prefix[:4]
        for gone in self._table.add(mapping.prefix + session.remote, session, inside):
            if gone.mapping is not None:
                self._mappings.touch(gone.mapping)
            forget(gone)


def forget(session: Session) -> None:
    """Its mapping goes on without one that is in the table no more."""
    mapping = session.mapping
    assert mapping is not None
    del mapping.sessions[session.remote]
    if session.is_established:
        mapping.count_established(-1)


def mapping_of(session_key: bytes) -> int:
    """The key of a session's mapping."""
    return int.from_bytes(session_key[:6], "big") << 8 | TCP


def fair_limit(ports: int, buckets: int = 1) -> int:
    """How many of so many ports an inside address may have (RFC 6888, REQ-4).

    A sixteenth; of small pools 64 or a half, so that one host is never all: at most three quarters of
    what its bucket has.
    """
    fair = max(ports // 16, min(64, ports // 2), 1)
    return fair if buckets == 1 else max(1, min(fair, ports // buckets * 3 // 4))


# As they are written.


def _key(values: Values) -> int:
    protocol, inside, number = cast("tuple[int, int, int]", values)
    return inside << 24 | number << 8 | protocol


def _flow(key: int, _mapping: object) -> RecordFlow:
    return RecordFlow((key >> 24).to_bytes(4, "big"), key >> 8 & 0xFFFF, protocol=key & 0xFF)


def _session_flow(key: bytes, _session: object) -> RecordFlow:
    return RecordFlow(key[:4], key[4] << 8 | key[5], protocol=TCP)


_INSIDE = ("inside", "inside_port", "protocol")
MAPPINGS = TableKind(
    "mappings",
    NatMapping,
    (
        RecordField("outside", "u32"),
        RecordField("outside_port", "u16"),
        RecordField("established", "u32"),
        RecordField("used_us", "age"),
        RecordField("remotes", "bytes", MAX_REMOTES * _REMOTE_BYTES),
    ),
    key=(
        RecordField("protocol", "u8"),
        RecordField("inside", "u32"),
        RecordField("inside_port", "u16"),
    ),
    key_values=lambda key: (key & 0xFF, key >> 24, key >> 8 & 0xFFFF),
    key_of=_key,
    flow_of=_flow,
    looks_at=_INSIDE,
    paths={"remotes": "written_remotes"},
)
SESSIONS = EntryKind(
    "sessions",
    Session,
    (*side_fields("inside"), *side_fields("outside"), RecordField("is_established", "bool")),
    flow_of=_session_flow,
    looks_at=_INSIDE,
)


def mapping_problems(
    new: Mapping[str, Any], mappings: Mappings, share: Share, *, whole: bool
) -> Iterable[str]:
    """Why mappings and sessions of another instance have no place beside those that are there."""
    arriving: dict[int, NatMapping] = new[MAPPINGS.layout.table]
    sessions: dict[bytes, Session] = new[SESSIONS.layout.table]
    outside: set[int] = set()
    counts = dict.fromkeys(arriving, 0)
    for key, session in sessions.items():
        mapping = arriving.get(mapping_of(key)) if len(key) == 12 else None
        if mapping is None:
            yield f"sessions {key.hex()}: no mapping of it comes along"
        elif problem := side_problem(session.inside) or side_problem(session.outside):
            yield f"sessions {key.hex()}: {problem}"
        else:
            counts[mapping_of(key)] += session.is_established
    for key, mapping in arriving.items():
        port = mapping.outside << 24 | mapping.outside_port << 8 | key & 0xFF
        problem = ""
        mapping.identify(key)
        if not share.holds(mapping):
            problem = "is not what its bucket has here"
        elif port in mappings.by_outside or port in outside:
            problem = "is taken"
        elif whole and counts[key] != mapping.established:
            problem = f"has {mapping.established} connections established, {counts[key]} come along"
        if problem:
            end = f"{mapping.outside:08x} port {mapping.outside_port}"
            yield f"mappings {key:016x}: outside {end} {problem}"
        outside.add(port)
