"""url_filter: permits or denies HTTP/1.x requests by host and path, on reassembled TCP streams."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from orchestrator.errors import quoted
from orchestrator.model.checksums import internet_checksum
from orchestrator.model.elements import (
    FLOW_FIELDS,
    CostProfile,
    ElementGraph,
    FilterProgram,
    StateKey,
)
from orchestrator.model.headers import FIN, SYN, TCP
from orchestrator.model.match import PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    Talk,
    network_function,
)
from orchestrator.nfs.http_reference import HttpReader, HttpRequest, MalformedRequest
from orchestrator.nfs.inspecting import (
    OPPOSITE,
    PASS,
    ServedPorts,
    hides,
    hiding_rules,
    inspected,
    port_rules,
    ports_left_out,
    within,
)
from orchestrator.nfs.streams import Direction, Streams

Action = Literal["permit", "deny", "alert"]
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9._~!$&'()+,;=%-]+|\[[0-9a-fA-F:.]+\]")


def _checked_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a host like 'www.example.com' or '*.example.com'")
    return text.lower().removesuffix(".")


def _checked_path(text: str) -> str:
    inner = text.removeprefix("*").removesuffix("*")
    if "*" in inner or not text.startswith(("/", "*")) or set(text) & set("?# "):
        raise ValueError(
            f"{quoted(text)} is not a path like '/login', '/admin/*', '*.exe' or '*/setup*' "
            "(without query)"
        )
    return text


class UrlRule(NfConfig):
    """What is left out is not asked for. `*.` of a host stands for one label or more."""

    host: Annotated[str, AfterValidator(_checked_host)] | None = None
    path: Annotated[str, AfterValidator(_checked_path)] | None = None
    action: Action

    def meets(self, host: bytes, path: bytes) -> bool:
        """Whether a request of a host and a path is one that the rule is about."""
        if self.host is not None and not _host_fits(self.host, host.decode("latin-1")):
            return False
        return self.path is None or _path_fits(self.path.encode(), path)


def _host_fits(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _path_fits(pattern: bytes, path: bytes) -> bool:
    parts = [re.escape(part) for part in pattern.split(b"*")]
    return re.fullmatch(b".*".join(parts), path, re.DOTALL) is not None


class UrlFilterConfig(NfConfig):
    """First rule that fits decides; `ports` are those that servers listen on."""

    rules: tuple[UrlRule, ...] = ()
    default: Literal["permit", "deny"] = "permit"
    ports: ServedPorts = (PortRange(80, 80),)
    malformed: Literal["permit", "deny"] = "deny"
    max_header_bytes: Annotated[int, Field(ge=64, le=65_536, strict=True)] = 8192
    reset: StrictBool = False

    @property
    def denies(self) -> bool:
        """Whether anything can be denied."""
        actions = [self.default, self.malformed, *(rule.action for rule in self.rules)]
        return "deny" in actions

    @model_validator(mode="after")
    def _decides_something(self) -> Self:
        if not self.rules and self.default == "permit":
            raise ValueError("a url_filter without rules permits everything: give rules")
        return self


@network_function("url_filter")
class UrlFilter(NetworkFunction[UrlFilterConfig]):
    """Elements of each port: `prefilter` (stateless: TCP from or to one of the ports), `inspect`."""

    Config = UrlFilterConfig
    state_key = StateKey(frozenset(FLOW_FIELDS))
    keeps_state_when_changed = frozenset(
        {"rules", "default", "ports", "malformed", "max_header_bytes", "reset"}
    )
    cost = CostProfile(
        6994,
        0.0,
        "Lemur (CoNEXT'20), UrlFilter, 1500 B at 1.7 GHz",
        state_entry_bytes=2230,  # 1206 measured (CPython 3.11, tracemalloc), and its part of 64 MiB
    )

    @property
    def state_entries(self) -> int:
        return 65_536  # servernf.python.streams.MAX_CONNECTIONS

    def elements(self, port: str) -> ElementGraph:
        rules = port_rules(("tcp", TCP), self.config.ports, "inspect")
        if self.config.denies:
            rules += hiding_rules("inspect")
        prefilter = "prefilter", FilterProgram(tuple(rules), PASS)
        left = (OPPOSITE[port], port) if self.config.reset else (OPPOSITE[port],)
        return inspected(prefilter, ("inspect", "reads the requests of TCP streams"), left)

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        left_out = ports_left_out(before["ports"], after["ports"])
        return super().state_lost(before, after) or left_out

    def reference(self) -> Reference:
        return UrlFilterReference(self.config)

    def talk(self, protocol: int, rng: random.Random) -> Talk | None:
        if protocol != TCP:
            return None
        port = rng.choice(self.config.ports).low
        return Talk(port, b"".join(_request(self.config, rng) for _ in range(rng.randrange(1, 4))))


def _request(config: UrlFilterConfig, rng: random.Random) -> bytes:
    """A request that a rule may be about, now and then an odd one."""
    rule = rng.choice((*config.rules, UrlRule(action="permit")))
    host = (rule.host or "other.example").replace("*", rng.choice(("www", "a.b")))
    path = (rule.path or "/index.html").replace("*", rng.choice(("", "x", "y/z")))
    path = path if path.startswith("/") else f"/{path}"
    target = rng.choice((path, path, f"http://{host}{path}", path.replace("/", "/%2e/", 1), "*"))
    method, body, extra = "GET", b"", ""
    if rng.random() < 0.3:
        method, body = "POST", rng.randbytes(rng.randrange(40))
        extra = f"Content-Length: {len(body)}\r\n"
        if rng.random() < 0.5:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            extra = "Transfer-Encoding: chunked\r\n"
    if rng.random() < 0.1:
        extra += rng.choice(("Host: a\r\n", "X : y\r\n", "Content-Length: 5\r\n", "A: b\n"))
    head = f"{method} {target} HTTP/1.1\r\nHost: {host.upper()}:8080\r\n{extra}\r\n"
    return head.encode() + body


class UrlFilterReference(Reference):
    """`alerts` counts requests that a rule with 'alert' is about. A stream's memory is its reader;
    one that has permitted something malformed is None in a tuple and reads no more."""

    def __init__(self, config: UrlFilterConfig) -> None:
        self.config = config
        self.alerts = 0
        self._streams: Streams[tuple[HttpReader | None]] = Streams(
            self._judge, self._asks, strict=config.denies
        )

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        ports = self.config.ports
        concerned = packet.is_tcp and (
            within(ports, packet.src_port) or within(ports, packet.dst_port)
        )
        if not concerned:
            hidden = self.config.denies and not packet.has_ports and hides(packet, {TCP: ports})
            return () if hidden else ((OPPOSITE[port], packet),)
        passes, blocked_at = self._streams.verdict(packet, port, env.now_us)
        if passes:
            return ((OPPOSITE[port], packet),)
        if blocked_at is None or not self.config.reset:
            return ()
        return (OPPOSITE[port], _forward_reset(packet, blocked_at)), (port, _reset_back(packet))

    def _asks(self, packet: Packet) -> bool:
        return within(self.config.ports, packet.dst_port)

    def _judge(
        self, packet: Packet, direction: Direction[tuple[HttpReader | None]], new: bytes
    ) -> bool:
        if direction.memory is None:
            direction.memory = (HttpReader(self.config.max_header_bytes),)
        (reader,) = direction.memory
        if reader is None:
            return False
        try:
            return any(self._denies(request) for request in reader.feed(new))
        except MalformedRequest:
            direction.memory = (None,)
            return self.config.malformed == "deny"

    def _denies(self, request: HttpRequest) -> bool:
        """By the severest reading."""
        actions = {self._action(request.host, path) for path in request.readings}
        self.alerts += "alert" in actions and "deny" not in actions
        return "deny" in actions

    def _action(self, host: bytes, path: bytes) -> Action:
        for rule in self.config.rules:
            if rule.meets(host, path):
                return rule.action
        return self.config.default


def _forward_reset(packet: Packet, seq: int) -> Packet:
    """To the receiver of what was denied, which waits for `seq`."""
    ends = packet.src, packet.src_port or 0, packet.dst, packet.dst_port or 0
    return _reset(packet, bytes(packet.data[:12]), ends, seq, packet.tcp_ack or 0)


def _reset_back(packet: Packet) -> Packet:
    """To the sender: acknowledges what it sent, as RFC 9293, 3.5.2 has it."""
    flags = packet.tcp_flags or 0
    sent = len(packet.payload) + bool(flags & SYN) + bool(flags & FIN)
    ends = packet.dst, packet.dst_port or 0, packet.src, packet.src_port or 0
    macs = bytes(packet.data[6:12] + packet.data[:6])
    ack = (packet.tcp_seq or 0) + sent & 0xFFFF_FFFF
    return _reset(packet, macs, ends, packet.tcp_ack or 0, ack)


def _reset(
    packet: Packet, macs: bytes, ends: tuple[int, int, int, int], seq: int, ack: int
) -> Packet:
    source, source_port, destination, destination_port = ends
    size = 4 if packet.version == 4 else 16
    addresses = source.to_bytes(size, "big") + destination.to_bytes(size, "big")
    tcp = struct.pack("!HHIIBBHHH", source_port, destination_port, seq, ack, 0x50, 0x14, 0, 0, 0)
    checksum = internet_checksum(addresses + struct.pack("!HH", TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + checksum.to_bytes(2, "big") + tcp[18:]
    if packet.version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, TCP, 0) + addresses
        ip = ip[:10] + internet_checksum(ip).to_bytes(2, "big") + ip[12:]
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), TCP, 64) + addresses
    return Packet.parse(macs + bytes(packet.data[12 : packet.layout.l3]) + ip + tcp)
