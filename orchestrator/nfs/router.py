"""router: IPv4 and IPv6 longest-prefix match (RFC 1812, 5.2.4); decrements the TTL.

With `errors` senders are told by ICMP when a packet goes no further. A switch that routes hands such
packets to a server core, which answers for it (docs/decisions/0097).
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    TypeAdapter,
    field_serializer,
    model_validator,
)

from orchestrator.errors import InputError
from orchestrator.model.elements import (
    TOLD,
    CostProfile,
    Element,
    ElementGraph,
    Leave,
    RouteProgram,
    StatefulProgram,
)
from orchestrator.model.headers import word
from orchestrator.model.packet import Packet
from orchestrator.model.routes import Route, RouteRow, Routes
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.files import Files, item_lines, parse_lines, parse_list, raise_problems
from orchestrator.nfs.icmp_errors_reference import ErrorPace, Reason, icmp_error, may_be_told
from orchestrator.nfs.matching import contains
from orchestrator.nfs.values import (
    Address,
    AddressField,
    PrefixField,
    address_text,
    parse_address,
    parse_prefix,
)
from servernf.wire.addresses import GATEWAY_MAC

NO_MTU = 0xFFFF
PORT_NAME = r"^[a-z][a-z0-9_-]*$"


class RouteFields(NfConfig):
    """One route; without `next_hop` the prefix is connected: the MACs stay as they are."""

    prefix: PrefixField
    next_hop: AddressField | None = None
    port: Annotated[str, Field(pattern=PORT_NAME)] = "outside"

    @model_validator(mode="after")
    def _same_version(self) -> Self:
        if self.next_hop is not None and self.next_hop[0] != self.prefix.version:
            raise ValueError(
                f"prefix {self.prefix} and next hop {address_text(self.next_hop)} "
                "are of different IP versions"
            )
        return self


def _restored(document: Any) -> Routes:
    """What `_written` made of routes; a list of routes is what earlier versions wrote."""
    if isinstance(document, Routes):
        return document
    if isinstance(document, str):
        return Routes.from_bytes(zlib.decompress(b64decode(document)))
    return Routes.of(_ROUTES.validate_python(document))


def _written(routes: Routes) -> str:
    return b64encode(zlib.compress(routes.to_bytes(), 1)).decode()


_ROUTES = TypeAdapter(tuple[Route, ...])


class RouterErrors(NfConfig):
    """ICMP errors: from which address (one of each IP version), and the MTU of IP packets in bytes."""

    addresses: Annotated[tuple[AddressField, ...], Field(min_length=1, max_length=2)]
    mtu: Annotated[int, Field(ge=1280, le=NO_MTU, strict=True)] = NO_MTU

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        versions = [version for version, _ in self.addresses]
        if len(set(versions)) < len(versions):
            raise ValueError(
                f"two IPv{versions[0]} addresses; a router sends from one of each version"
            )
        for address in self.addresses:
            if is_martian(*address):
                raise ValueError(f"{address_text(address)} is no router's address")
        return self

    @field_serializer("addresses")
    def _as_text(self, addresses: tuple[Address, ...]) -> list[str]:
        return [address_text(address) for address in addresses]


class RouterConfig(NfConfig):
    """Inline routes and those of the file; a prefix may be given once."""

    routes: tuple[RouteFields, ...] = ()
    routes_file: str | None = None
    errors: RouterErrors | None = None
    _from_file: Annotated[
        Routes, PlainValidator(_restored), PlainSerializer(_written, when_used="json")
    ] = PrivateAttr(default=Routes())

    def with_files(self, files: Files) -> Self:
        result = self.model_copy()
        if self.routes_file is not None:
            name = self.routes_file
            result._from_file = files.stored(name, Routes, partial(_read_routes, name))
        routes = result.all_routes
        doubles = [f"{r.rule}: {r.prefix} is also in {first.rule}" for r, first in routes.doubles()]
        raise_problems(doubles, self.routes_file or "routes")
        if not routes:
            raise InputError("a router without routes drops everything: give routes or routes_file")
        return result

    @property
    def all_routes(self) -> Routes:
        """Inline routes, then the file's, with their origin."""
        if not self.routes:
            return Routes.of(self._from_file)
        inline = (_row(route, ("routes[", "]"), i) for i, route in enumerate(self.routes))
        return Routes(chain(inline, Routes.of(self._from_file).rows()))


def _row(route: RouteFields, place: tuple[str, str], number: int) -> RouteRow:
    prefix = route.prefix
    return RouteRow(
        *(prefix.version, prefix.value, prefix.length, route.port, route.next_hop, place, number)
    )


def _read_routes(name: str, text: str) -> Routes:
    place = (f"{name}:", "")
    if name.endswith(".json"):
        routes = parse_list(text, name, RouteFields)
        return Routes(_row(r, place, n) for r, n in zip(routes, item_lines(text), strict=True))
    hops: dict[str, Address | None] = {"-": None}

    def one(line: str, number: int) -> RouteRow | None:
        route = _route(line, hops)
        return None if route is None else RouteRow(*route, place, number)

    return Routes(parse_lines(text, name, one))


_Fields = tuple[int, int, int, str, Address | None]
"""Prefix, output and next hop of a route."""


def _route(line: str, hops: dict[str, Address | None]) -> _Fields | None:
    """`prefix next_hop [port]`; `hops` remembers next hops: there are few, and many lines."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    if len(words) not in (2, 3):
        raise ValueError("a route is 'prefix next_hop [port]', the next hop '-' when connected")
    prefix = parse_prefix(words[0])
    if words[1] not in hops:
        hops[words[1]] = parse_address(words[1])
    hop = hops[words[1]]
    if hop is not None and hop[0] != prefix.version:
        raise ValueError(f"prefix {prefix} and next hop {words[1]} are of different IP versions")
    output = words[2] if len(words) == 3 else "outside"
    return prefix.version, prefix.value, prefix.length, output, hop


@network_function("router")
class Router(NetworkFunction[RouterConfig]):
    """One element `routes`, with an output for each port that a route names; with `errors` another
    one, `errors`, which leaves by the port entered."""

    Config = RouterConfig
    cost = CostProfile(
        600,
        0.0,
        "our estimate: 60 for UpdateTTL (Lemur) and one longest-prefix lookup of up to "
        "nine cache misses of 60 cycles; Lemur runs IPv4Forward on switches only",
    )

    def __init__(self, name: str, config: RouterConfig) -> None:
        super().__init__(name, config)
        self._routes = config.all_routes
        errors = config.errors
        self._program = (
            RouteProgram(self._routes)
            if errors is None
            else RouteProgram(self._routes, tells=True, mtu=errors.mtu)
        )

    @property
    def ports(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("inside", "outside", *self._routes.outputs)))

    def elements(self, port: str) -> ElementGraph:
        outputs = self._routes.outputs
        edges: dict[tuple[str, str], str | Leave] = {
            ("routes", output): Leave(output) for output in outputs
        }
        if not self._program.tells:
            routes = Element("routes", self._program, outputs)
            return ElementGraph("routes", {"routes": routes}, edges)
        elements = {
            "routes": Element("routes", self._program, (*outputs, TOLD)),
            "errors": Element("errors", StatefulProgram("sends ICMP errors, at a rate"), (port,)),
        }
        edges |= {("routes", TOLD): "errors", ("errors", port): Leave(port)}
        return ElementGraph("routes", elements, edges)

    def reference(self) -> Reference:
        return _RouterReference(self._routes, self.config.errors)

    def runtime_config(self) -> Mapping[str, Any]:
        hops = {hop: address_text(hop) for hop in self._routes.next_hops}
        routes: list[dict[str, Any]] = []
        for route in self._routes:
            item = {"prefix": str(route.prefix), "port": route.output}
            if route.next_hop is not None:
                item["next_hop"] = hops[route.next_hop]
            routes.append(item)
        errors = self.config.errors
        told = {} if errors is None else {"errors": errors.model_dump(mode="json")}
        return {"routes": routes, **told}


class _Level(NamedTuple):
    """The routes of one prefix length, by their masked address."""

    shift: int
    routes: dict[int, Route]


def is_martian(version: int, address: int) -> bool:
    """Whether nobody may be reached, or send, by an address (RFC 1812, 5.3.7; RFC 6890)."""
    return any(contains(prefix, version, address) for prefix in _MARTIANS)


_MARTIANS = tuple(
    parse_prefix(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
    )
)


class _RouterReference(Reference):
    def __init__(self, routes: Routes, errors: RouterErrors | None = None) -> None:
        self._addresses = {} if errors is None else dict(errors.addresses)
        self._mtu = NO_MTU if errors is None else errors.mtu
        self._pace = ErrorPace()
        self._levels: dict[int, list[_Level]] = {4: [], 6: []}
        by_length: dict[tuple[int, int], _Level] = {}
        for route in routes:
            prefix = route.prefix
            shift = prefix.bits - prefix.length
            level = by_length.setdefault((prefix.version, prefix.length), _Level(shift, {}))
            level.routes.setdefault(prefix.value >> shift, route)
        for version, length in sorted(by_length, reverse=True):
            self._levels[version].append(by_length[version, length])

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        version = packet.version
        if version == 0 or GATEWAY_MAC not in (packet.eth_dst, packet.eth_src):
            return ()
        if is_martian(version, packet.src) or is_martian(version, packet.dst):
            return ()
        if packet.ttl <= 1:
            return self._told(packet, "time exceeded", port, env)
        at = packet.layout.l3
        if version == 4:
            length = word(packet.data, at + 2)
            may_divide = not packet.data[at + 6] & 0x40
        else:
            length, may_divide = word(packet.data, at + 4) + 40, False
        if length > self._mtu:
            return () if may_divide else self._told(packet, "too big", port, env)
        route = self._lookup(version, packet.dst)
        if route is None:
            return self._told(packet, "no route", port, env)
        if route.next_hop is not None:
            mac = env.neighbor_mac(*route.next_hop)
            if mac is None:
                return self._told(packet, "no host", port, env)
            packet.eth_dst = mac
            packet.eth_src = GATEWAY_MAC
        packet.rewrite(ttl=packet.ttl - 1)
        return ((route.output, packet),)

    def _told(
        self, packet: Packet, reason: Reason, port: str, env: Environment
    ) -> Sequence[Output]:
        """The error that goes back by the port entered, if there is to be one."""
        router = self._addresses.get(packet.version)
        if router is None or not may_be_told(packet) or not self._pace.allows(env.now_us):
            return ()
        return ((port, icmp_error(packet, reason, router, self._mtu)),)

    def _lookup(self, version: int, address: int) -> Route | None:
        for level in self._levels[version]:
            route = level.routes.get(address >> level.shift)
            if route is not None:
                return route
        return None
