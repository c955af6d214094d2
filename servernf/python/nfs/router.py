"""IPv4 and IPv6 router: longest prefix match, TTL, next hop's MAC (RFC 1812, 5.2; no ICMP errors).

`neighbors` gives the MAC of every next hop, `gateway_mac` the router's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

MAX_CACHED = 65_536


@dataclass(frozen=True, slots=True)
class Route:
    """Where packets of a prefix leave; `macs` (destination, source) is empty when connected."""

    port: str
    macs: bytes


@network_function("router")
class Router(NetworkFunction):
    """Routes whatever enters, by any port."""

    @property
    def ports(self) -> tuple[str, ...]:
        return self._ports

    def setup(self, config: Fields) -> None:
        neighbors: dict[str, bytes] = {}
        for text, mac in config.mapping("neighbors").items():
            address = config.as_address(f"neighbors['{text}']", text)
            neighbors[str(address)] = config.as_mac(f"neighbors['{text}']", mac)
        gateway = config.mac("gateway_mac") if config.has("gateway_mac") else None
        # By version and prefix length: network (its first bits as an integer) -> route.
        tables: dict[int, dict[int, dict[int, Route]]] = {4: {}, 6: {}}
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
                tables[prefix.version].setdefault(length, {})[first_bits] = Route(port, macs)
        self._ports = tuple(ports)
        # Longest first, as (shift that leaves the first bits, table).
        self._tables = {
            version: [
                (bits - length, table) for length, table in sorted(found.items(), reverse=True)
            ]
            for (version, found), bits in zip(tables.items(), (32, 128), strict=True)
        }
        self._cache: dict[bytes, Route | None] = {}
        """By destination."""

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        version = packet.version
        if not version:
            return self.drop("not_ip")
        key = packet.destination.to_bytes(4 if version == 4 else 16, "big")
        cache = self._cache
        if key in cache:
            route = cache[key]
        else:
            route = self._look_up(version, packet.destination)
            if len(cache) >= MAX_CACHED:
                cache.clear()
            cache[key] = route
        if route is None:
            return self.drop("no_route")
        if packet.ttl <= 1:
            return self.drop("ttl")
        packet.decrement_ttl()
        if route.macs:
            packet.data[:12] = route.macs
        return route.port

    def _look_up(self, version: int, destination: int) -> Route | None:
        for shift, table in self._tables[version]:
            route = table.get(destination >> shift)
            if route is not None:
                return route
        return None


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
