"""Whether two systems delivered the same, modulo what the graph's NFs may choose themselves.

NAPT may choose the external port (and which address of its pool): a bijection between the reference's
choices and the actual ones is learned from what comes out, and must hold as long as the mappings do. A
load balancer may choose any backend of the service for a connection, and must keep to it. All else is
equality of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.graph.functions import functions_of
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.headers import ICMP, SYN, TCP, UDP
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Topology
from orchestrator.nfs.editing import set_dscp
from orchestrator.nfs.l4_load_balancer import L4LoadBalancer
from orchestrator.nfs.napt import Napt
from orchestrator.nfs.policer import Policer
from orchestrator.nfs.values import PROTOCOLS, address_text
from orchestrator.oracle.network import Delivery

METER_TOLERANCE = 0.05
"""The share of frames for which a policer may have decided otherwise."""
External = tuple[int, int, int]
"""(protocol, address, port or ICMP id) of a mapping, as the outside sees it."""
Socket = tuple[int, int, int]
"""(IP version, address, port)."""


class Differs(Exception):
    """Why two deliveries are not equivalent."""


@dataclass(frozen=True, slots=True)
class _Pool:
    addresses: frozenset[int]
    low: int
    high: int
    timeout_us: dict[int, int]
    """By protocol: a mapping that is not used for less time than that is still there."""


class Comparator:
    """Compares deliveries of the reference with those of another system, packet after packet.

    `clock` tells the time of both in microseconds.
    """

    def __init__(
        self, graph: ServiceGraph, topology: Topology, clock: Callable[[], int] = lambda: 0
    ) -> None:
        self._clock = clock
        self._macs = {name: host.mac for name, host in topology.hosts.items()}
        functions = functions_of(graph).values()
        self._pools = [_pool(f) for f in functions if isinstance(f, Napt)]
        self._backends: dict[tuple[int, Socket], frozenset[Socket]] = {}
        """By protocol and backend: all backends of the services that it belongs to."""
        self._fellows: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}
        """By a backend's address: the addresses of all backends of its services."""
        for function in functions:
            if isinstance(function, L4LoadBalancer):
                self._learn_services(function)
        self._opening = [f for f in functions if f.relation.kind == "equal_decrypted"]
        self._actual_of: dict[External, External] = {}
        self._expected_of: dict[External, External] = {}
        self._seen_us: dict[External, int] = {}
        """When a mapping of the reference was last seen in use."""
        self._fragments: dict[tuple[int, int, int, int], int] = {}
        self._sent_fragments: dict[tuple[int, int, int, int], int] = {}
        self._choices: dict[tuple[int, Socket, Socket], Socket] = {}
        self._unlike: set[tuple[int, Socket, Socket]] = set()
        """(protocol, client, backend): in one of the two, but not in the other, they are connected."""
        self._has_policer = any(isinstance(function, Policer) for function in functions)
        self._compared = self._off = 0

    def _learn_services(self, function: L4LoadBalancer) -> None:
        for service in function.config.virtual:
            protocol = PROTOCOLS[service.protocol]
            sockets = frozenset((*b.address, b.port) for b in service.backends)
            for socket in sockets:
                backends = self._backends.get((protocol, socket), frozenset())
                self._backends[protocol, socket] = backends | sockets
            addresses = frozenset(b.address for b in service.backends)
            for address in addresses:
                self._fellows[address] = self._fellows.get(address, frozenset()) | addresses

    def equivalent(self, expected: Sequence[Delivery], actual: Sequence[Delivery]) -> bool:
        """Whether `difference` finds none."""
        return self.difference(expected, actual) is None

    def difference(self, expected: Sequence[Delivery], actual: Sequence[Delivery]) -> str | None:
        """What differs, in words; None when the deliveries are equivalent."""
        self._compared += 1
        if len(expected) != len(actual):
            return f"expected {_receivers(expected)}, got {_receivers(actual)}"
        if len(expected) > 1:
            expected, actual = sorted(expected), sorted(actual)
        try:
            for wanted, got in zip(expected, actual, strict=True):
                self._compare(wanted, got)
        except Differs as error:
            return str(error)
        return None

    def tolerates(self, expected: Sequence[Delivery], actual: Sequence[Delivery]) -> bool:
        """Whether a policer explains a difference, and is still within tolerance.

        A frame more or less, or another DSCP, of at most METER_TOLERANCE of all frames compared: a meter
        in a switch counts the tag, too, where it is not the first device on the way.
        """
        if not self._has_policer or self._off > 5 + METER_TOLERANCE * self._compared:
            return False
        frames = [{_without_dscp(frame) for frame in side} for side in (expected, actual)]
        explained = frames[0] <= frames[1] or frames[1] <= frames[0]
        self._off += explained
        return explained

    def translated(self, frame: bytes) -> bytes | None:
        """A frame that hosts send alike in both systems, as it must be sent in the actual one.

        What comes from outside to a NAPT's address means the mapping that the reference has there;
        the actual system may have it elsewhere. None: no mapping is known there, so the two outcomes
        cannot be compared (a packet may have made a mapping and been dropped behind the NAPT). Nor can
        they when a backend sends that only one of the two has chosen for a client.
        """
        packet = Packet.parse(frame)
        if packet.malformed is None and packet.has_ports:
            client = (packet.version, packet.dst, packet.dst_port or 0)
            backend = (packet.version, packet.src, packet.src_port or 0)
            if (packet.protocol or 0, client, backend) in self._unlike:
                return None
        addressed = (
            packet.malformed is None
            and packet.version == 4
            and packet.protocol in (ICMP, TCP, UDP)
            and any(packet.dst in pool.addresses for pool in self._pools)
        )
        if not addressed:
            return frame
        if packet.later_fragment:
            address = self._sent_fragments.get(_fragment_key(packet))
            if address is not None:
                packet.rewrite(dst=address)
            return None if address is None else packet.to_bytes()
        if packet.quotes_l4:
            quoted = (packet.quoted_protocol, packet.quoted_src, packet.quoted_ports[0])
            actual = self._mapping_of(quoted)
            if actual is None or packet.dst != packet.quoted_src:
                return None
            packet.rewrite_quoted(src=actual[1], port=actual[2])
            packet.rewrite(dst=actual[1])
            return packet.to_bytes()
        port = packet.icmp_id if packet.protocol == ICMP else packet.dst_port
        if port is None:
            return frame
        actual = self._mapping_of((packet.protocol or 0, packet.dst, port))
        if actual is None:
            return None
        if packet.more_fragments:
            self._sent_fragments[_fragment_key(packet)] = actual[1]
        if packet.protocol == ICMP:
            packet.rewrite(dst=actual[1], icmp_id=actual[2])
        else:
            packet.rewrite(dst=actual[1], dst_port=actual[2])
        return packet.to_bytes()

    def _compare(self, expected: Delivery, actual: Delivery) -> None:
        wanted, got = Packet.parse(expected[1]), Packet.parse(actual[1])
        for function in self._opening:
            wanted, got = function.canonical(wanted), function.canonical(got)
        host = expected[0]
        same_kind = (
            wanted.malformed is None
            and got.malformed is None
            and (wanted.version, wanted.protocol) == (got.version, got.protocol)
            and wanted.layout == got.layout
        )
        if same_kind and wanted.version:
            self._follow_mapping(wanted, got)
            self._follow_backend(wanted, got)
            if self._pools and wanted.quotes_l4 and wanted.quoted_protocol in (ICMP, TCP):
                wanted.take_quoted_checksum(got)
            host = self._follow_choice(wanted, got, host, actual[0])
        if host != actual[0]:
            raise Differs(f"expected at {host}, got at {actual[0]}")
        if wanted.data != got.data:
            raise Differs(_byte_difference(host, wanted.to_bytes(), got.to_bytes()))

    # NAPT

    def _follow_mapping(self, wanted: Packet, got: Packet) -> None:
        """Rewrite `wanted` to the actual mapping, once that is found consistent."""
        self._follow_returned(wanted, got)
        pool = next((p for p in self._pools if wanted.src in p.addresses), None)
        if pool is None or wanted.version != 4:
            return
        if got.src not in pool.addresses:
            raise Differs(f"source {address_text((4, got.src))} is not of the pool")
        if wanted.later_fragment:
            fragment = self._fragments.get(_fragment_key(wanted))
            if fragment is not None and fragment != got.src:
                raise Differs("a later fragment has another address than its first one")
            wanted.rewrite(src=got.src)
            return
        if wanted.quotes_l4:
            new = self._paired(_quoted_external(wanted), _quoted_external(got), pool)
            wanted.rewrite_quoted(dst=new[1], port=new[2])
            wanted.rewrite(src=got.src)
            return
        if wanted.more_fragments:
            self._fragments[_fragment_key(wanted)] = got.src
        old, new = _source_external(wanted), _source_external(got)
        if old is None or new is None:
            return
        new = self._paired(old, new, pool)
        if new[0] == ICMP:
            wanted.rewrite(src=new[1], icmp_id=new[2])
        else:
            wanted.rewrite(src=new[1], src_port=new[2])

    def _follow_returned(self, wanted: Packet, got: Packet) -> None:
        """What a router quotes to a sender outside was sent to the actual mapping (`translated`)."""
        quoted = wanted.layout.quoted
        if wanted.version != 4 or not quoted or any(wanted.src in p.addresses for p in self._pools):
            return
        if not wanted.quotes_l4:  # it has options: behind them stand ports that are not looked at
            if any(wanted.quoted_dst in p.addresses for p in self._pools):
                wanted.take_quoted_rest(got)
            return
        actual = self._mapping_of(_quoted_external(wanted))
        if actual is not None:
            wanted.rewrite_quoted(dst=actual[1], port=actual[2])

    def _paired(self, expected: External, actual: External, pool: _Pool) -> External:
        """The actual mapping, if it has only ever stood for this expected one."""
        if actual[1] not in pool.addresses or not pool.low <= actual[2] <= pool.high:
            raise Differs(f"{_external_text(actual)} is not of the pool")
        paired, before = self._actual_of.get(expected), self._expected_of.get(actual)
        if paired is not None and paired != actual and self._is_over(expected):
            paired = self._forget(expected)
        if before is not None and before != expected and self._is_over(before):
            before = self._forget(before)
        if paired not in (None, actual):
            raise Differs(
                f"mapping {_external_text(expected)} of the reference was "
                f"{_external_text(paired or actual)}, now {_external_text(actual)}"
            )
        if before not in (None, expected):
            raise Differs(
                f"{_external_text(actual)} stands for two mappings of the reference: "
                f"{_external_text(before or expected)} and {_external_text(expected)}"
            )
        self._actual_of[expected] = actual
        self._expected_of[actual] = expected
        self._seen_us[expected] = self._clock()
        return actual

    def _mapping_of(self, expected: External) -> External | None:
        """The actual mapping, unless both may have been given to others since."""
        return None if self._is_over(expected) else self._actual_of.get(expected)

    def _is_over(self, expected: External) -> bool:
        """Whether a mapping of the reference may have expired since it was seen."""
        protocol, address, _ = expected
        pool = next((p for p in self._pools if address in p.addresses), None)
        seen = self._seen_us.get(expected)
        if pool is None or seen is None:
            return False
        return self._clock() - seen >= pool.timeout_us.get(protocol, 0)

    def _forget(self, expected: External) -> None:
        actual = self._actual_of.pop(expected)
        del self._expected_of[actual], self._seen_us[expected]

    # Load balancer

    def _follow_backend(self, wanted: Packet, got: Packet) -> None:
        """What a backend sends under its own address (an ICMP error, a later fragment) comes from the
        chosen one: rewrite `wanted` to it."""
        mine, its = (wanted.version, wanted.src), (got.version, got.src)
        if mine == its or its not in self._fellows.get(mine, ()):
            return
        if wanted.quotes_l4 and wanted.quoted_dst == wanted.src:
            wanted.rewrite_quoted(dst=got.src, port=wanted.quoted_ports[1])
        wanted.rewrite(src=got.src)

    def _follow_choice(self, wanted: Packet, got: Packet, host: str, actual_host: str) -> str:
        """Rewrite `wanted` to the actual backend; the host that is then expected."""
        if not (wanted.has_ports and got.has_ports):
            return host
        protocol = wanted.protocol or 0
        client = (wanted.version, wanted.src, wanted.src_port or 0)
        backend = (wanted.version, wanted.dst, wanted.dst_port or 0)
        chosen = (got.version, got.dst, got.dst_port or 0)
        choices = self._backends.get((protocol, backend))
        if choices is None:
            return host
        if chosen not in choices:
            raise Differs(
                f"{address_text(chosen[:2])} port {chosen[2]} is no backend of the service"
            )
        key = (protocol, client, backend)
        new_connection = wanted.tcp_flags is not None and wanted.tcp_flags & SYN
        if not new_connection and self._choices.get(key, chosen) != chosen:
            raise Differs(f"the connection has moved to {address_text(chosen[:2])}")
        self._choices[key] = chosen
        if chosen != backend:
            self._unlike |= {(protocol, client, backend), (protocol, client, chosen)}
        wanted.rewrite(dst=chosen[1], dst_port=chosen[2])
        if wanted.eth_dst == self._macs[host]:
            wanted.eth_dst = self._macs[actual_host]
            return actual_host
        return host


def _pool(napt: Napt) -> _Pool:
    config = napt.config
    seconds = {
        UDP: config.timeouts_s.udp,
        TCP: min(config.timeouts_s.tcp_transitory, config.timeouts_s.tcp_established),
        ICMP: config.timeouts_s.icmp,
    }
    timeouts = {protocol: number * 1_000_000 for protocol, number in seconds.items()}
    return _Pool(frozenset(config.addresses), *config.ports, timeouts)


def _without_dscp(delivery: Delivery) -> Delivery:
    """A delivery with DSCP 0, checksum updated."""
    packet = Packet.parse(delivery[1])
    if packet.version:
        set_dscp(packet, 0)
    return delivery[0], packet.to_bytes()


def _source_external(packet: Packet) -> External | None:
    if packet.protocol == ICMP:
        return None if packet.icmp_id is None else (ICMP, packet.src, packet.icmp_id)
    return (packet.protocol or 0, packet.src, packet.src_port or 0) if packet.has_ports else None


def _quoted_external(packet: Packet) -> External:
    return packet.quoted_protocol, packet.quoted_dst, packet.quoted_ports[1]


def _fragment_key(packet: Packet) -> tuple[int, int, int, int]:
    return packet.src, packet.dst, packet.identification or 0, packet.protocol or 0


def _external_text(external: External) -> str:
    protocol, address, port = external
    return f"{address_text((4, address))} protocol {protocol} port {port}"


def _receivers(deliveries: Sequence[Delivery]) -> str:
    if not deliveries:
        return "no delivery"
    return "delivery to " + ", ".join(f"{host} ({len(frame)} bytes)" for host, frame in deliveries)


def _byte_difference(host: str, wanted: bytes, got: bytes) -> str:
    if len(wanted) != len(got):
        return f"at {host}: expected {len(wanted)} bytes, got {len(got)}"
    offsets = [i for i, (a, b) in enumerate(zip(wanted, got, strict=True)) if a != b]
    shown = ", ".join(f"[{i}] {wanted[i]:02x} -> {got[i]:02x}" for i in offsets[:8])
    more = f" and {len(offsets) - 8} more" if len(offsets) > 8 else ""
    return f"at {host}: bytes differ: {shown}{more} (expected -> got)"
