"""router: IPv4 and IPv6 longest-prefix match (RFC 1812, 5.2.4); decrements the TTL."""

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
    model_validator,
)

from orchestrator.errors import InputError
from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    Leave,
    RouteProgram,
)
from orchestrator.model.packet import Packet
from orchestrator.model.routes import Route, Routes, Row
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.files import Files, item_lines, parse_lines, parse_list, raise_problems
from orchestrator.nfs.values import (
    Address,
    AddressField,
    PrefixField,
    address_text,
    parse_address,
    parse_prefix,
)
from servernf.wire.addresses import GATEWAY_MAC

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


class RouterConfig(NfConfig):
    """Inline routes and those of the file; a prefix may be given once."""

    routes: tuple[RouteFields, ...] = ()
    routes_file: str | None = None
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


def _row(route: RouteFields, place: tuple[str, str], number: int) -> Row:
    prefix = route.prefix
    return Row(
        *(prefix.version, prefix.value, prefix.length, route.port, route.next_hop, place, number)
    )


def _read_routes(name: str, text: str) -> Routes:
    place = (f"{name}:", "")
    if name.endswith(".json"):
        routes = parse_list(text, name, RouteFields)
        return Routes(_row(r, place, n) for r, n in zip(routes, item_lines(text), strict=True))
    hops: dict[str, Address | None] = {"-": None}

    def one(line: str, number: int) -> Row | None:
        found = _route(line, hops)
        return None if found is None else Row(*found, place, number)

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
    """Stateless: one element `routes`, with an output for each port that a route names."""

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
        self._program = RouteProgram(self._routes)

    @property
    def ports(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("inside", "outside", *self._routes.outputs)))

    def elements(self, port: str) -> ElementGraph:
        routes = Element("routes", self._program, self._routes.outputs)
        edges: dict[tuple[str, str], str | Leave] = {
            ("routes", output): Leave(output) for output in self._routes.outputs
        }
        return ElementGraph("routes", {"routes": routes}, edges)

    def reference(self) -> Reference:
        return _RouterReference(self._routes)

    def runtime_config(self) -> Mapping[str, Any]:
        hops = {hop: address_text(hop) for hop in self._routes.next_hops}
        routes: list[dict[str, Any]] = []
        for route in self._routes:
            item = {"prefix": str(route.prefix), "port": route.output}
            if route.next_hop is not None:
                item["next_hop"] = hops[route.next_hop]
            routes.append(item)
        return {"routes": routes}


class _Level(NamedTuple):
    """The routes of one prefix length, by their masked address."""

    shift: int
    routes: dict[int, Route]


class _RouterReference(Reference):
    def __init__(self, routes: Routes) -> None:
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
        if packet.version == 0 or packet.ttl <= 1:
            return ()
        route = self._lookup(packet.version, packet.dst)
        if route is None:
            return ()
        if route.next_hop is not None:
            mac = env.neighbor_mac(*route.next_hop)
            if mac is None:
                return ()
            packet.eth_dst = mac
            packet.eth_src = GATEWAY_MAC
        packet.rewrite(ttl=packet.ttl - 1)
        return ((route.output, packet),)

    def _lookup(self, version: int, address: int) -> Route | None:
        for level in self._levels[version]:
            route = level.routes.get(address >> level.shift)
            if route is not None:
                return route
        return None
