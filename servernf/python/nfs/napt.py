"""Network address and port translation (RFC 4787, 5382, 5508): endpoint-independent mapping.

An inside (protocol, address, port or ICMP id) has one mapping to an outside (address, port),
whoever it talks to (RFC 4787, REQ-1); an inside address always has the same pool address (REQ-2).
Each bucket of inside addresses (`servernf.wire.buckets`) has ports of its own on every pool address, so
return traffic finds the worker that owns the bucket without any state in the switches.

A mapping may serve several TCP connections. Each is followed by the segments that its receiver accepts
(`servernf.python.tcp_acceptance`); what it would ignore passes and changes nothing. While one of them is
established, so is the mapping.

An inside address may have a share of the ports only (RFC 6888, REQ-4). Mappings expire lazily: a mapping
is checked when it is looked up, and those longest unused when their pool needs a port. Packets of either
direction refresh a mapping, ICMP errors do not (RFC 5508, REQ-6). Only an echo reply is translated from
outside: nobody inside could answer a request.

Another configuration goes on with the mappings whose ports are their bucket's; of the others it takes
the ports back as it meets them. Timeouts count from the last packet, whichever configuration it met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from servernf.python.checksum import delta16, patch
from servernf.python.datagrams import (
    MAX_REMEMBERED,
    MAX_WAITING,
    WAITING,
    Datagrams,
    First,
    Waiting,
    firsts,
    inside_source,
)
from servernf.python.fair_table import FairTable
from servernf.python.flow_keys import flow_of_fragment, fragment_key
from servernf.python.mappings import (
    ESTABLISHED_TCP,
    MAPPINGS,
    MAX_REMOTES,
    SESSIONS,
    InsideHost,
    Mappings,
    NatMapping,
    PortPool,
    Sessions,
    SessionTable,
    Share,
    fair_limit,
    mapping_problems,
)
from servernf.python.network_function import (
    DROP,
    INSIDE,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import (
    ICMP,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_ERRORS,
    TCP,
    UDP,
    PacketView,
    quotes_l4,
)
from servernf.python.quotes import Quote, quote_of, translate
from servernf.python.tables import RecordFlow
from servernf.python.tcp_acceptance import ACCEPTED, BEGINS, REFUSED
from servernf.python.telling import BIB_CREATE, BIB_DELETE, PORTS_EXHAUSTED, QUOTA_EXCEEDED
from servernf.wire.buckets import MOST_BUCKETS
from servernf.wire.fields import Fields

MAX_EXPIRED_AT_ONCE = 8
_TRANSLATED = frozenset((TCP, UDP, ICMP))


def _flow_of_first(key: bytes, first: First) -> RecordFlow:
    flow = flow_of_fragment(key)
    inside = flow.inside if key[0] else first.address.to_bytes(4, "big")
    return RecordFlow(inside, protocol=flow.protocol)


_FIRSTS = firsts(_flow_of_first)


def _key(protocol: int, address: int, port: int) -> int:
    return address << 24 | port << 8 | protocol


@network_function("napt")
class Napt(NetworkFunction):
    """NAPT44; IPv6 passes or is dropped."""

    _mappings: Mappings
    _session_table: SessionTable
    _fragments: FairTable[First]
    _waiting: FairTable[Waiting]

    def setup(self, config: Fields) -> None:
        addresses = self._addresses(config, "addresses")
        ports = config.items("ports", required=False) or [1024, 65535]
        low, high = (ports[0], ports[1]) if len(ports) == 2 else (None, None)
        if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high <= 0xFFFF):
            config.problem("ports", f"must be [low, high], 1 to 65535, not {ports!r}")
            low, high = 1, 1
        buckets = config.integer("buckets", 1, MOST_BUCKETS, 1)
        if buckets & buckets - 1:
            config.problem("buckets", f"must be a power of two, not {buckets}")
            buckets = 1
        if buckets > high - low + 1:
            config.problem("buckets", f"{buckets} are more than there are ports, {high - low + 1}")
            buckets = 1
        self.filtering = config.choice(
            "filtering",
            ("endpoint_independent", "address_dependent", "address_and_port_dependent"),
            "endpoint_independent",
        )
        self._filters = self.filtering != "endpoint_independent"
        self.limit = config.integer(
            "max_mappings_per_address", 1, 0xFFFF, fair_limit(high - low + 1, buckets)
        )
        self.ipv6_passes = config.choice("ipv6", ("pass", "drop"), "pass") == "pass"
        timeouts = config.object("timeouts_s")
        self.timeouts_us = {
            UDP: timeouts.seconds("udp", 300),
            TCP: timeouts.seconds("tcp_transitory", 240),
            ICMP: timeouts.seconds("icmp", 60),
            ESTABLISHED_TCP: timeouts.seconds("tcp_established", 7440),
        }
        timeouts.only_known()
        self.share = Share.of(addresses, low, high, buckets)
        self._owned = frozenset(addresses)
        mappings = Mappings()
        self.state.declare("_mappings", MAPPINGS, mappings)
        self.state.declare("_session_table", SESSIONS, SessionTable(mappings))
        self.state.declare("_fragments", _FIRSTS, FairTable[First](MAX_REMEMBERED))
        self.state.declare("_waiting", WAITING, FairTable[Waiting](MAX_WAITING))

    def bound(self) -> None:
        self._find_inside = self._mappings.get
        self._find_outside = self._mappings.by_outside.get
        self._sessions = Sessions(self._session_table, self._mappings)
        self._datagrams = Datagrams(self, self._fragments, self._waiting, inside_source)

    def continue_from(self, before: Any) -> bool:
        if self.share == before.share:
            self.share = before.share  # what the one holds needs no look by the other
        return super().continue_from(before)

    def goes_on(self, table: str, key: Any, record: Any) -> bool:
        mapping = self._mapping_of(table, key, record)
        return mapping is None or self.share.holds(mapping)

    def _mapping_of(self, table: str, key: Any, record: Any) -> NatMapping | None:
        if isinstance(record, NatMapping):
            return record
        return record.mapping if table == SESSIONS.layout.table else None

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        return mapping_problems(new, self._mappings, self.share, whole=whole)

    def has_entered(self) -> None:
        self._mappings.settle()

    def tidy(self, now_us: int) -> None:
        for pool in list(self._mappings.pools.values()):
            self._expire(pool, now_us)
        self._datagrams.tidy(now_us)

    def _addresses(self, config: Fields, key: str) -> list[int]:
        addresses: list[int] = []
        for index, item in enumerate(config.items(key)):
            address = config.as_address(f"{key}[{index}]", item)
            if isinstance(address, IPv4Address):
                addresses.append(int(address))
            elif address is not None:
                config.problem(f"{key}[{index}]", f"must be IPv4, not {address}")
        if config.has(key) and not addresses:
            config.problem(key, "needs at least one IPv4 address")
        if len(set(addresses)) < len(addresses):
            config.problem(key, "an address is given twice")
        return addresses

    def hash_of_answer(self, packet: PacketView, port: str) -> int | None:
        destination, number = packet.destination, packet.destination_port
        if port != OUTSIDE or packet.version != 4 or destination not in self._owned:
            return None
        if number < 0:
            if packet.protocol != ICMP or not packet.l4:
                return None
            data, l4 = packet.data, packet.l4
            if data[l4] not in ICMP_ERRORS:
                number = data[l4 + 4] << 8 | data[l4 + 5]
            elif quotes_l4(data, l4 + 8):
                port_at = l4 + 28 + (4 if data[l4 + 17] == ICMP else 0)
                number = data[port_at] << 8 | data[port_at + 1]
        return self.share.hash_of_port(number)

    def metrics(self) -> dict[str, int]:
        return {
            "mappings": len(self._mappings),
            "sessions": len(self._session_table),
            **self._datagrams.metrics(),
        }

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.version != 4:
            if packet.version == 6 and self.ipv6_passes:
                return OUTSIDE if port == INSIDE else INSIDE
            return self.drop("ipv6" if packet.version == 6 else "not_ip")
        if port == INSIDE:
            return self._from_inside(packet, now_us)
        return self._from_outside(packet, now_us)

    # From inside to outside.

    def _from_inside(self, packet: PacketView, now_us: int) -> str | None:
        protocol = packet.protocol
        number = packet.source_port
        if number < 0:
            if packet.later_fragment and protocol in _TRANSLATED:
                return self._datagrams.follow(packet, INSIDE, now_us)
            if protocol != ICMP:
                return self.drop("protocol")
            data, l4 = packet.data, packet.l4
            if data[l4] in ICMP_ERRORS:
                return self._error_from_inside(packet, now_us)
            if data[l4] != ICMP_ECHO_REQUEST:
                return self.drop("protocol")
            number = data[l4 + 4] << 8 | data[l4 + 5]
        follows = protocol == TCP and not packet.first_fragment
        source = packet.source
        mapping = self._find_inside(source << 24 | number << 8 | protocol)
        if (
            mapping is None
            or mapping.share is not self.share
            or mapping.used_us + self.timeouts_us[mapping.kind] <= now_us
        ):
            mapping = self._live(mapping, now_us)
        session, verdict = None, ACCEPTED
        if follows:
            session, verdict = self._sessions.judge(mapping, packet, INSIDE)
            if verdict == REFUSED:
                if mapping is None:
                    return self.drop("unacceptable")
                packet.set_source(mapping.outside, mapping.outside_port)
                return OUTSIDE
        if mapping is None:
            mapping = self._create(protocol, source, number, now_us)
            if mapping is None:
                return DROP
        if session is not None:
            self._sessions.settle(mapping, session, verdict, packet, INSIDE)
        if self._filters:
            self._remember_remote(mapping, packet)
        if packet.first_fragment:
            self._lead(packet, mapping, INSIDE, now_us)
        if protocol == ICMP:
            packet.set_source(mapping.outside)
            self._set_icmp_id(packet, number, mapping.outside_port)
        else:
            packet.set_source(mapping.outside, mapping.outside_port)
        mapping.used_us = now_us
        mapping.refresh()
        return OUTSIDE

    def _live(self, mapping: NatMapping | None, now_us: int) -> NatMapping | None:
        """A mapping that was looked up, unless it is over or has no place in this share: it goes."""
        if mapping is None:
            return None
        if mapping.used_us + self.timeouts_us[mapping.kind] <= now_us or not self.share.holds(
            mapping
        ):
            self._remove(mapping)
            return None
        mapping.share = self.share
        return mapping

    def _create(self, protocol: int, inside: int, number: int, now_us: int) -> NatMapping | None:
        """A new mapping; None (and counted) when the address has too many or no port is free."""
        share, mappings = self.share, self._mappings
        host = mappings.hosts.get((protocol, inside))
        if host is not None:
            self._expire(host, now_us)
            if len(host) >= self.limit:
                mappings.crowds(host)
                self.events.nat(QUOTA_EXCEEDED, protocol, inside, number)
                return self.drop("too_many_mappings")
        outside = share.addresses[inside % len(share.addresses)]
        # A port whose mapping has run out is free ("checked when looked up").
        holder = self._find_outside(_key(protocol, outside, number))
        if holder is not None and holder.used_us + self.timeouts_us[holder.kind] <= now_us:
            self._remove(holder)
        pool = mappings.pools.get((protocol, outside))
        if pool is not None:
            self._expire(pool, now_us)
        port = mappings.take(protocol, outside, number, share.ports_of(inside))
        if port < 0:
            self.events.nat(PORTS_EXHAUSTED, protocol, inside, number, outside)
            return self.drop("no_port")
        mapping = NatMapping(_key(protocol, inside, number), outside, port, share)
        mappings.add(mapping)
        self.events.nat(BIB_CREATE, protocol, inside, number, outside, port)
        return mapping

    def _expire(self, of: PortPool | InsideHost, now_us: int) -> None:
        """Remove what has expired; few at a time, so that no packet pays for all the others."""
        for queue in (of.transitory, of.established):
            for _ in range(MAX_EXPIRED_AT_ONCE):
                mapping = next(iter(queue), None)
                if mapping is None or mapping.used_us + self.timeouts_us[mapping.kind] > now_us:
                    break
                self._remove(mapping)

    def _remove(self, mapping: NatMapping) -> None:
        self._mappings.remove(mapping)
        self._sessions.end_of(mapping)
        was = mapping.protocol, mapping.inside, mapping.inside_port
        self.events.nat(BIB_DELETE, *was, mapping.outside, mapping.outside_port)

    # From outside to inside.

    def _from_outside(self, packet: PacketView, now_us: int) -> str | None:
        destination = packet.destination
        if destination not in self._owned:
            return self.drop("not_in_pool")
        protocol = packet.protocol
        number = packet.destination_port
        if number < 0:
            if packet.later_fragment and protocol in _TRANSLATED:
                return self._datagrams.follow(packet, OUTSIDE, now_us)
            if protocol != ICMP:
                return self.drop("protocol")
            data, l4 = packet.data, packet.l4
            if data[l4] in ICMP_ERRORS:
                return self._error_from_outside(packet, now_us)
            if data[l4] != ICMP_ECHO_REPLY:
                return self.drop("protocol")
            number = data[l4 + 4] << 8 | data[l4 + 5]
        mapping = self._find_outside(destination << 24 | number << 8 | protocol)
        if (
            mapping is None
            or mapping.share is not self.share
            or mapping.used_us + self.timeouts_us[mapping.kind] <= now_us
        ):
            mapping = self._live(mapping, now_us)
            if mapping is None:
                return self.drop("unmapped")
        if self._filters and not self._permits(mapping, packet.source, packet.source_port):
            return self.drop("filtered")
        refreshes = True
        if protocol == TCP:
            refreshes = not packet.first_fragment
            if refreshes:
                session, verdict = self._sessions.judge(mapping, packet, OUTSIDE)
                if verdict != REFUSED:
                    self._sessions.settle(mapping, session, verdict, packet, OUTSIDE)
                refreshes = verdict in (ACCEPTED, BEGINS)
        if packet.first_fragment:
            self._lead(packet, mapping, OUTSIDE, now_us)
        if protocol == ICMP:
            packet.set_destination(mapping.inside)
            self._set_icmp_id(packet, number, mapping.inside_port)
        else:
            packet.set_destination(mapping.inside, mapping.inside_port)
        if refreshes:
            mapping.used_us = now_us
            mapping.refresh()
        return INSIDE

    # Filtering (RFC 4787, section 5).

    def _remote(self, protocol: int, address: int, port: int) -> int:
        if self.filtering == "address_dependent" or protocol == ICMP:
            return address
        # Not to be taken for an address: another configuration may filter otherwise.
        return 1 << 48 | address << 16 | port

    def _remember_remote(self, mapping: NatMapping, packet: PacketView) -> None:
        remotes = mapping.remotes
        remotes[self._remote(mapping.protocol, packet.destination, packet.destination_port)] = None
        if len(remotes) > MAX_REMOTES:
            del remotes[next(iter(remotes))]

    def _permits(self, mapping: NatMapping, address: int, port: int) -> bool:
        return self._remote(mapping.protocol, address, port) in mapping.remotes

    def _lead(self, packet: PacketView, mapping: NatMapping, port: str, now_us: int) -> None:
        """A first fragment goes on, and the others after it."""
        address = mapping.outside if port == INSIDE else mapping.inside
        source = mapping.inside.to_bytes(4, "big")
        self._datagrams.lead(fragment_key(packet, port), port, address, source, now_us)

    # ICMP (RFC 5508, REQ-4 and REQ-5: an error follows the packet that it quotes).

    def _set_icmp_id(self, packet: PacketView, old: int, new: int) -> None:
        data, l4 = packet.data, packet.l4
        data[l4 + 4 : l4 + 6] = new.to_bytes(2, "big")
        patch(data, l4 + 2, delta16(old, new))

    def _error_from_inside(self, packet: PacketView, now_us: int) -> str | None:
        """The quoted packet went to an inside host: its destination is the mapping's inside."""
        quote = quote_of(packet)
        assert quote is not None
        quoted = self._quoted(
            self._find_inside, quote, quote.destination, quote.destination_port, now_us
        )
        if quoted is None:
            return DROP
        translate(packet, quote, quoted.outside, quoted.outside_port, source=False)
        packet.set_source(quoted.outside)
        return OUTSIDE

    def _error_from_outside(self, packet: PacketView, now_us: int) -> str | None:
        """The quoted packet came from an inside host: its source is the mapping's outside."""
        quote = quote_of(packet)
        assert quote is not None
        quoted = self._quoted(self._find_outside, quote, quote.source, quote.source_port, now_us)
        if quoted is None:
            return DROP
        if quoted.outside != packet.destination:
            return self.drop("unmapped")
        if self._filters and not self._permits(quoted, quote.destination, quote.destination_port):
            return self.drop("filtered")
        translate(packet, quote, quoted.inside, quoted.inside_port, source=True)
        packet.set_destination(quoted.inside)
        return INSIDE

    def _quoted(
        self,
        find: Callable[[int], NatMapping | None],
        quote: Quote,
        address: int,
        port: int,
        now_us: int,
    ) -> NatMapping | None:
        """The mapping of the quoted packet; None (and counted) when there is none."""
        number = quote.echo if quote.protocol == ICMP else port
        if number < 0:
            return self.drop("quote")
        mapping = self._live(find(_key(quote.protocol, address, number)), now_us)
        return self.drop("unmapped") if mapping is None else mapping
