"""HTTP/1.x requests in a stream (RFC 9112), as the reference semantics read them.

What a server might read otherwise is refused as malformed (RFC 9112, 11.2: request smuggling).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.[0-9]")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\x09\x20-\x7e\x80-\xff]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[\x09\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")


class MalformedRequest(ValueError):
    """What no server must read as a request."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`host` in lower case without port, empty if none is told; `path` decoded; `query` as sent."""

    method: bytes
    host: bytes
    path: bytes
    query: bytes = b""


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
        line = raw[:-1] if raw.endswith(b"\r") else raw
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
        self._begin_body(fields)
        hosts = fields.get(b"host", [])
        if len(hosts) > 1 or any(b" " in h or b"\t" in h for h in hosts):
            raise MalformedRequest("not one host")
        return _request_of(start[1], start[2], hosts[0] if hosts else b"")

    def _begin_body(self, fields: dict[bytes, list[bytes]]) -> None:
        lengths, codings = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        if codings is not None:
            last = b",".join(codings).split(b",")[-1].strip(b" \t").lower()
            if lengths is not None or last != b"chunked":
                raise MalformedRequest("a body of which nobody knows the length")
            self.chunked = True
        elif lengths is not None:
            if len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0]):
                raise MalformedRequest("no content length")
            self.body = int(lengths[0])


def _request_of(method: bytes, target: bytes, host: bytes) -> HttpRequest:
    """RFC 9112, 3.2: an absolute target's authority goes before the Host field."""
    absolute = _ABSOLUTE.fullmatch(target)
    if method == b"CONNECT":
        return HttpRequest(method, _host(target), b"")
    if absolute is not None:
        if not _host(absolute[1]):
            raise MalformedRequest("no host in an absolute target")
        rest = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        return HttpRequest(method, _host(absolute[1]), *_path(rest))
    if target == b"*":
        return HttpRequest(method, _host(host), b"*")
    if target.startswith(b"/"):
        return HttpRequest(method, _host(host), *_path(target))
    raise MalformedRequest("a target of no known form")


def _host(authority: bytes) -> bytes:
    host = authority.rpartition(b"@")[2]
    if host.startswith(b"["):
        return (host.partition(b"]")[0] + b"]").lower()
    return host.partition(b":")[0].lower().removesuffix(b".")


def _path(target: bytes) -> tuple[bytes, bytes]:
    """The path percent-decoded once, dot segments removed (RFC 3986, 5.2.4); the query as it is."""
    path, _, query = target.partition(b"#")[0].partition(b"?")
    path = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), path)
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept), query
