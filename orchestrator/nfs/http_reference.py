"""HTTP/1.x requests in a stream (RFC 9112), as the reference semantics read them.

What a server might read otherwise is refused as malformed (RFC 9112, 11.2: request smuggling).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.[0-9]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\x09\x20-\x7e\x80-\xff]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})([ \t]*;[\x09\x20-\x7e\x80-\xff]*)?")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[\w.~!$&'()*+,;=-]*)(:\d*)?")
_CODINGS = re.compile(rb"((gzip|x-gzip|deflate|compress|x-compress)[ \t]*,[ \t]*)*chunked", re.I)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")


class MalformedRequest(ValueError):
    """What no server must read as a request."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`host` in lower case without port, empty if none is told; `path` decoded; `query` as sent.

    `target` is the path as sent, empty where it is none.
    """

    method: bytes
    host: bytes
    path: bytes
    query: bytes = b""
    target: bytes = b""

    @property
    def readings(self) -> frozenset[bytes]:
        """What servers may take the path for."""
        if not self.target:
            return frozenset({self.path})
        choices = product((False, True), repeat=5)
        return frozenset(_reading(self.target, *choice) for choice in choices)


@dataclass(slots=True)
class HttpReader:
    """Feed it a stream's bytes in order; at most `bound` bytes of a header section are kept.

    `body` counts the bytes to skip; `chunked` and `trailer` say what the next line is.
    """

    bound: int
    buffer: bytes = b""
    body: int = 0
    chunked: bool = False
    chunk_ends: bool = False
    trailer: int | None = None
    lines: list[bytes] = field(default_factory=list[bytes])
    section: int = 0

    def feed(self, data: bytes) -> Iterator[HttpRequest]:
        """The requests whose header sections are complete now; may raise behind some of them."""
        self.buffer += data
        while True:
            skipped = min(self.body, len(self.buffer))
            self.body -= skipped
            self.buffer = self.buffer[skipped:]
            if self.body:
                return
            line = self._line()
            if line is None:
                return
            if self.trailer is not None:
                if not line:
                    self.trailer = None
                elif _FIELD.fullmatch(line) is None:
                    raise MalformedRequest("no trailer field")
            elif self.chunk_ends:
                if line:
                    raise MalformedRequest("a chunk is longer than it says")
                self.chunk_ends = False
            elif self.chunked:
                self._begin_chunk(line)
            elif line:
                if not self.lines and _REQUEST.fullmatch(line) is None:
                    raise MalformedRequest("no request line")
                self.lines.append(line)
            elif self.lines:
                lines, self.lines, self.section = self.lines, [], 0
                yield self._request(lines)

    def _line(self) -> bytes | None:
        """The next line; None when it has not come. Sections of lines are bounded."""
        raw, newline, rest = self.buffer.partition(b"\n")
        in_trailer = self.trailer is not None
        before = (self.trailer or 0) if in_trailer else self.section if self.lines else 0
        size = before + len(raw) + 1
        leading = not (self.lines or in_trailer or self.chunked) and raw in (b"", b"\r")
        if size > self.bound and not leading:
            raise MalformedRequest(f"a header section of more than {self.bound} bytes")
        if not newline:
            return None
        self.buffer = rest
        if in_trailer:
            self.trailer = size
        elif not self.chunked and not leading:
            self.section = size
        if not raw.endswith(b"\r"):
            raise MalformedRequest("a line that ends with LF alone")
        line = raw[:-1]
        if b"\r" in line:
            raise MalformedRequest("a CR that ends no line")
        return line

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise MalformedRequest("no chunk size")
        self.body = int(match[1], 16)
        self.chunk_ends = self.body > 0
        if not self.body:
            self.chunked, self.trailer = False, 0

    def _request(self, lines: list[bytes]) -> HttpRequest:
        start = _REQUEST.fullmatch(lines[0])
        assert start is not None
        fields: dict[bytes, list[bytes]] = {}
        for line in lines[1:]:
            match = _FIELD.fullmatch(line)
            if match is None:
                raise MalformedRequest("no header field")
            fields.setdefault(match[1].lower(), []).append(match[2].strip(b" \t"))
        is_old = lines[0].endswith(b"HTTP/1.0")
        self._begin_body(fields, is_old)
        hosts = fields.get(b"host", [])
        if len(hosts) > 1 or not (hosts or is_old) or any(not _HOST.fullmatch(h) for h in hosts):
            raise MalformedRequest("not one host")
        return _request_of(start[1], start[2], hosts[0] if hosts else b"")

    def _begin_body(self, fields: dict[bytes, list[bytes]], is_old: bool) -> None:
        lengths = fields.get(b"content-length", [])
        codings = fields.get(b"transfer-encoding", [])
        if len(lengths) + len(codings) > 1 or (codings and is_old):
            raise MalformedRequest("a body of which nobody knows the length")
        if codings:
            if _CODINGS.fullmatch(codings[0]) is None:
                raise MalformedRequest("no transfer coding that ends with chunked, once")
            self.chunked = True
        elif lengths:
            if not _LENGTH.fullmatch(lengths[0]):
                raise MalformedRequest("no content length")
            self.body = int(lengths[0])


def _request_of(method: bytes, target: bytes, host: bytes) -> HttpRequest:
    """RFC 9112, 3.2: an absolute target's authority goes before the Host field."""
    absolute = _ABSOLUTE.fullmatch(target)
    if b"#" in target:
        raise MalformedRequest("a target with a fragment")
    if method == b"CONNECT":
        return HttpRequest(method, _host(target), b"")
    if absolute is not None:
        named = _HOST.fullmatch(absolute[1].rpartition(b"@")[2])
        if not _host(absolute[1]) or named is None or b"\\" in absolute[1]:
            raise MalformedRequest("no host in an absolute target")
        rest = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        return _with_path(method, _host(absolute[1]), rest)
    if target == b"*":
        return HttpRequest(method, _host(host), b"*")
    if target.startswith(b"/"):
        return _with_path(method, _host(host), target)
    raise MalformedRequest("a target of no known form")


def _host(authority: bytes) -> bytes:
    host = authority.rpartition(b"@")[2]
    if host.startswith(b"["):
        return (host.partition(b"]")[0] + b"]").lower()
    return host.partition(b":")[0].lower().removesuffix(b".")


def _with_path(method: bytes, host: bytes, target: bytes) -> HttpRequest:
    path, _, query = target.partition(b"?")
    if re.search(rb"%(?![0-9a-fA-F][0-9a-fA-F])", path):
        raise MalformedRequest("a percent sign that encodes nothing")
    if re.search(rb"[\x00-\x1f\x7f]", _decoded(path)):
        raise MalformedRequest("a control character in a path")
    return HttpRequest(method, host, _plain(_decoded(path)), query, path)


def _decoded(path: bytes, but: str = "") -> bytes:
    """Percent-decoded once; `but` are hexadecimal codes (lower case) that stay."""

    def decode(match: re.Match[bytes]) -> bytes:
        code = match[1].decode().lower()
        return match[0] if code in but.split() else bytes.fromhex(code)

    return re.sub(rb"%([0-9A-Fa-f]{2})", decode, path)


def _plain(path: bytes) -> bytes:
    """Without dot segments (RFC 3986, 5.2.4)."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
    if segments and segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _reading(
    path: bytes, late: bool, twice: bool, backslash: bool, parameters: bool, runs: bool
) -> bytes:
    """A path as one server resolves it; docs/functions/url_filter.md says the order."""
    path = _decoded(path, "2f 5c 25" if late else "")
    if twice:
        path = _decoded(path)
    if backslash:
        path = path.replace(b"\\", b"/")
    if parameters:
        path = b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))
    if runs:
        path = re.sub(rb"//+", b"/", path)
    path = _plain(path)
    return _decoded(path) if late else path
