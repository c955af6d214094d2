"""IPv4 and IPv6 router: longest prefix match, TTL, next hop's MAC (RFC 1812, 5.2).

`neighbors` gives the MAC of every next hop (zeros: it is nobody's), `gateway_mac` the router's own.
Before it looks up, it drops frames that are neither for its MAC nor from it (another router of the
graph), and martian addresses (RFC 1812, 5.3; RFC 3927, 7; RFC 4291, 2.5). With `errors` it tells senders
by ICMP, from its address of their IP version and by the port entered, when a packet goes no further.
"""

from __future__ import annotations

from dataclasses import dataclass

from servernf.python.icmp_errors import (
    NO_HOST,
    NO_ROUTE,
    PACE,
    TIME_EXCEEDED,
    TOO_BIG,
    Code,
    Pace,
    error_about,
    is_told,
    may_tell,
    pace,
)
from servernf.python.network_function import (
    INSIDE,
    OUTSIDE,
    Emitted,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.python.tables import Fixed
from servernf.wire.addresses import GATEWAY_MAC
from servernf.wire.fields import Fields

MAX_CACHED = 65_536
_MOST_BYTES = 0xFFFF
_NOBODY = bytes(6)


@dataclass(frozen=True, slots=True)
class PrefixRoute:
    """Where packets of a prefix leave; `macs` (destination, source) is empty when connected."""

    port: str
    macs: bytes
    is_nobody: bool = False
    """Whether nobody has the next hop's address."""


_MARTIAN = PrefixRoute("", b"")
"""Stands for the route to where nobody is."""


@network_function("router")
class Router(NetworkFunction):
    """Routes whatever enters, by any port."""

    _pace: Fixed[int, Pace]

    @property
    def ports(self) -> tuple[str, ...]:
        return self._ports

    def setup(self, config: Fields) -> None:
        neighbors: dict[str, bytes] = {}
        for text, mac in config.mapping("neighbors").items():
            address = config.as_address(f"neighbors['{text}']", text)
            neighbors[str(address)] = config.as_mac(f"neighbors['{text}']", mac)
        gateway = config.mac("gateway_mac") if config.has("gateway_mac") else None
        self._gateway = gateway or GATEWAY_MAC.to_bytes(6, "big")
        self._mtu, self._sources = _MOST_BYTES, dict[int, int]()
        if config.has("errors"):
            self._read_errors(config.object("errors"))
        self.state.declare("_pace", PACE, pace(), shared=True)
        # By version and prefix length: network (its first bits as an integer) -> route.
        tables: dict[int, dict[int, dict[int, PrefixRoute]]] = {4: {}, 6: {}}
        ports = [INSIDE, OUTSIDE]
        for item in config.objects("routes"):
            prefix = item.prefix("prefix") if item.required("prefix") else None
            port = item.text("port", OUTSIDE)
            macs = b""
            if item.has("next_hop"):
                macs = _next_hop_macs(item, neighbors, gateway)
            item.only_known()
            if port not in ports:
                ports.append(port)
            if prefix is not None:
                length = prefix.prefixlen
                first_bits = int(prefix.network_address) >> prefix.max_prefixlen - length
                tables[prefix.version].setdefault(length, {})[first_bits] = PrefixRoute(
                    port, macs, macs.startswith(_NOBODY)
                )
        self._ports = tuple(ports)
        # Longest first, as (shift that leaves the first bits, table).
        self._tables = {
            version: [
                (bits - length, table) for length, table in sorted(routes.items(), reverse=True)
            ]
            for (version, routes), bits in zip(tables.items(), (32, 128), strict=True)
        }
        self._cache: dict[bytes, PrefixRoute | None] = {}
        """By destination."""

    @property
    def mtu(self) -> int:
        """Bytes of the largest IP packet; 65,535: any."""
        return self._mtu

    @property
    def sources(self) -> dict[int, int]:
        """From which address senders are told, by IP version."""
        return self._sources

    @property
    def pace(self) -> Pace:
        """Of errors."""
        default = self._pace.get(0)
        assert default is not None
        return default

    def _read_errors(self, errors: Fields) -> None:
        for index, text in enumerate(errors.items("addresses")):
            address = errors.as_address(f"addresses[{index}]", text)
            if address is None:
                continue
            if address.version in self._sources:
                errors.problem(f"addresses[{index}]", f"a second of IPv{address.version}")
            self._sources[address.version] = int(address)
        self._mtu = errors.integer("mtu", 1280, _MOST_BYTES, _MOST_BYTES)
        errors.only_known()

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        version, data = packet.version, packet.data
        if not version:
            return self.drop("not_ip")
        if not (data.startswith(self._gateway) or data.startswith(self._gateway, 6)):
            return self.drop("not_for_gateway")
        key = packet.destination.to_bytes(4 if version == 4 else 16, "big")
        cache = self._cache
        if key in cache:
            route = cache[key]
        else:
            route = self._look_up(version, packet.destination)
            if len(cache) >= MAX_CACHED:
                cache.clear()
            cache[key] = route
        if route is _MARTIAN or is_martian(version, packet.source):
            return self.drop("martian")
        if packet.ttl <= 1:
            self._tell(packet, TIME_EXCEEDED, port, now_us)
            return self.drop("ttl")
        if self._mtu < _MOST_BYTES and _length(packet) > self._mtu:
            # RFC 1812 would have an IPv4 packet without DF fragmented.
            if version == 6 or data[packet.l3 + 6] & 0x40:
                self._tell(packet, TOO_BIG, port, now_us)
            return self.drop("too_big")
        if route is None:
            self._tell(packet, NO_ROUTE, port, now_us)
            return self.drop("no_route")
        if route.is_nobody:
            self._tell(packet, NO_HOST, port, now_us)
            return self.drop("no_neighbor")
        packet.decrement_ttl()
        if route.macs:
            data[:12] = route.macs
        return route.port

    def _tell(self, packet: PacketView, code: Code, port: str, now_us: int) -> None:
        """Send an ICMP error back, unless it may not be or the rate does not allow it."""
        source = self._sources.get(packet.version)
        if source is None or not is_told(packet):
            return
        pace = self._pace.get(0)
        if pace is not None and may_tell(pace, now_us):
            mtu = self._mtu if code is TOO_BIG else 0
            frame = error_about(packet, code, source, self._gateway, mtu)
            self.emitted.append(Emitted(port, frame))

    def _look_up(self, version: int, destination: int) -> PrefixRoute | None:
        if is_martian(version, destination):
            return _MARTIAN
        for shift, table in self._tables[version]:
            route = table.get(destination >> shift)
            if route is not None:
                return route
        return None


def is_martian(version: int, address: int) -> bool:
    """Whether an address is loopback, link-local, multicast, reserved or unspecified."""
    if version == 4:
        if 0x0100_0000 <= address < 0x7F00_0000:
            return False
        return not 0x8000_0000 <= address < 0xE000_0000 or address >> 16 == 0xA9FE
    return address >> 120 == 0xFF or address >> 118 == 0x3FA or address >> 1 == 0


def _length(packet: PacketView) -> int:
    """Bytes of the IP packet, as its header says."""
    data, l3 = packet.data, packet.l3
    if packet.version == 4:
        return data[l3 + 2] << 8 | data[l3 + 3]
    return (data[l3 + 4] << 8 | data[l3 + 5]) + 40


def _next_hop_macs(item: Fields, neighbors: dict[str, bytes], gateway: bytes | None) -> bytes:
    address = item.address("next_hop")
    if address is None:
        return b""
    mac = neighbors.get(str(address))
    if mac is None:
        item.problem("next_hop", f"{address} has no MAC in neighbors")
    if gateway is None:
        item.problem("next_hop", "needs gateway_mac, the source MAC of what is sent to a next hop")
    return mac + gateway if mac is not None and gateway is not None else b""
