"""URL filter: the requests of TCP streams to certain ports are judged by host and path.

The segment that completes a denied request is dropped and its connection blocked; with `reset` both
ends are told by an RST. What a server might read otherwise than the filter is malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from servernf.python.hidden import hides
from servernf.python.http1 import NotHttp, Request, RequestStream
from servernf.python.network_function import OTHER, Emitted, network_function
from servernf.python.packet import TCP, PacketView
from servernf.python.resets import reset_back, reset_onward
from servernf.python.streams import StreamFunction
from servernf.python.tcp_stream import Direction
from servernf.python.telling import ALERT, Alert
from servernf.wire.fields import Fields

_ACTIONS = ("permit", "deny", "alert")
_SEVERITY = ("permit", "alert", "deny")


class _NotRead:
    """The memory of a stream that is no HTTP and may go on."""

    @staticmethod
    def written() -> list[bytes]:
        """Unlike any that is read."""
        return [b""]


_NOT_READ = _NotRead()
_COUNTS = ("requests", "denied", "alerts", "malformed")


@dataclass(frozen=True, slots=True)
class _Rule:
    host: Callable[[bytes], bool]
    path: Callable[[bytes], bool]
    action: str
    name: str


@network_function("url_filter")
class UrlFilter(StreamFunction):
    """Blocks connections with denied requests."""

    def setup(self, config: Fields) -> None:
        self.declare_streams()
        self._rules = [
            _rule(item, f"rules[{index}]")
            for index, item in enumerate(config.objects("rules", required=False))
        ]
        self._default = config.choice("default", ("permit", "deny"), "permit")
        self._denies_malformed = config.choice("malformed", ("permit", "deny"), "deny") == "deny"
        self._limit = config.integer("max_header_bytes", 64, 65_536, 8192)
        self._reset = config.boolean("reset") or False
        self.watched = config.port_set("ports")
        self.strict = (
            self._denies_malformed
            or self._default == "deny"
            or any(rule.action == "deny" for rule in self._rules)
        )
        self.state.counts |= dict.fromkeys(_COUNTS, 0)

    def metrics(self) -> dict[str, int]:
        return {**super().metrics(), **{name: self.state.counts[name] for name in _COUNTS}}

    def read_memory(self, written: Sequence[bytes]) -> Any:
        return _NOT_READ if len(written) == 1 else RequestStream.of(self._limit, written)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.protocol != TCP or packet.source_port < 0:
            if self.strict and hides(packet, {TCP: self.watched}):
                return self.drop("hidden")
            return OTHER[port]
        asks = bool(self.watched[packet.destination_port])
        if not asks and not self.watched[packet.source_port]:
            return OTHER[port]
        return OTHER[port] if self.passes(packet, port, now_us, is_judged=asks) else None

    def judge(self, packet: PacketView, stream: Direction, ready: bytes) -> str:
        reader = stream.memory
        if reader is _NOT_READ:
            return ""
        if reader is None:
            reader = stream.memory = RequestStream(self._limit)
        reader.limit = self._limit
        requests: list[Request] = []
        malformed = False
        try:
            reader.add(ready, requests)
        except NotHttp:
            malformed = True
        for request in requests:
            self.count("requests")
            action, rule = self._action(request)
            if action != "permit":
                self.count("denied" if action == "deny" else "alerts")
                self._tell(packet, request, rule, blocked=action == "deny")
            if action == "deny":
                self.blocking_rule = rule
                return "url"
        if not malformed:
            return ""
        self.count("malformed")
        stream.memory = _NOT_READ
        return "malformed_http" if self._denies_malformed else ""

    def on_block(self, packet: PacketView, port: str, expected: int) -> None:
        if self._reset:
            self.emitted.append(Emitted(OTHER[port], reset_onward(packet, expected)))
            self.emitted.append(Emitted(port, reset_back(packet)))

    def _tell(self, packet: PacketView, request: Request, rule: str, *, blocked: bool) -> None:
        number = int(rule[len("rules[") : -1]) if rule != "default" else len(self._rules)
        told = Alert(number, f"url {rule}", rule, blocked, request.host, request.raw)
        self.events.tell(ALERT, packet, told)

    def _action(self, request: Request) -> tuple[str, str]:
        """The severest of what is to be done with the paths that servers may read, and whose it is."""
        actions = [self._action_of(request.host, path) for path in request.readings()]
        return max(actions, key=lambda done: _SEVERITY.index(done[0]), default=("permit", ""))

    def _action_of(self, host: bytes, path: bytes) -> tuple[str, str]:
        for rule in self._rules:
            if rule.host(host) and rule.path(path):
                return rule.action, rule.name
        return self._default, "default"


def _rule(fields: Fields, name: str) -> _Rule:
    host = fields.text("host") if fields.has("host") else None
    path = fields.text("path") if fields.has("path") else None
    action = fields.choice("action", _ACTIONS)
    fields.only_known()
    return _Rule(
        _host_test(host.lower().encode()) if host else _anything,
        _path_test(path.encode()) if path else _anything,
        action,
        name,
    )


def _anything(_text: bytes) -> bool:
    return True


def _host_test(pattern: bytes) -> Callable[[bytes], bool]:
    if not pattern.startswith(b"*."):
        return lambda host: host == pattern
    parent = pattern[1:]
    return lambda host: host.endswith(parent) and host != parent


def _path_test(pattern: bytes) -> Callable[[bytes], bool]:
    if pattern == b"*":
        return _anything
    if pattern.startswith(b"*") and pattern.endswith(b"*"):
        inner = pattern[1:-1]
        return lambda path: inner in path
    if pattern.startswith(b"*"):
        ending = pattern[1:]
        return lambda path: path.endswith(ending)
    if pattern.endswith(b"*"):
        beginning = pattern[:-1]
        return lambda path: path.startswith(beginning)
    return lambda path: path == pattern
