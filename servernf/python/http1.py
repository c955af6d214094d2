"""Requests of an HTTP/1.x stream, read as its bytes come (RFC 9112), and nothing that is ambiguous.

A server that reads a message's bounds otherwise than a filter does could be told what the filter did
not see (request smuggling, RFC 9112, 11.2), so what can be read in two ways is no request here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from urllib.parse import unquote_to_bytes

_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CONTROL = frozenset(range(32)) - {9} | {127}
_HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SEPARATOR = re.compile(rb"(%2[Ff]|%5[Cc]|%25)")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/+")
_WRITTEN = struct.Struct("!BIQ")


class NotHttp(Exception):
    """The stream is no sequence of HTTP/1.x requests that can be read in one way only."""


@dataclass(frozen=True, slots=True)
class Request:
    """Host in lower case, without port; path percent-decoded, without dot segments; query as sent.

    `raw` is the path as sent.
    """

    method: bytes
    host: bytes
    path: bytes
    query: bytes
    raw: bytes = b""

    def readings(self) -> set[bytes]:
        """The paths that servers may take it for, `path` among them (docs/functions/url_filter.md)."""
        return {self.path} | (_readings(self.raw) if _ODD.search(self.raw) else set())


class RequestStream:
    """The requests of one direction. What has been looked at is not kept, but for an unfinished line
    and the lines of an unfinished header section, together at most `limit` bytes."""

    __slots__ = ("_lines", "_next", "_partial", "_size", "_skip", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._partial = b""
        self._lines: list[bytes] = []
        self._size = 0
        """Bytes of the section (header or trailer) that is being read, complete lines only."""
        self._skip = 0
        self._next: Callable[[bytes], Request | None] = self._header

    def written(self) -> list[bytes]:
        """What it has read, as it is written: numbers, the unfinished line, complete lines."""
        states = self._states()
        state = next(n for n, method in enumerate(states) if method == self._next)
        return [_WRITTEN.pack(state, self._size, self._skip), self._partial, *self._lines]

    @classmethod
    def of(cls, limit: int, written: Sequence[bytes]) -> RequestStream:
        """What another instance has written; ValueError when that cannot be."""
        stream = cls(limit)
        states = stream._states()
        if len(written) < 2 or len(written[0]) != _WRITTEN.size:
            raise ValueError("not the state of a request stream")
        state, stream._size, stream._skip = _WRITTEN.unpack(written[0])
        if state >= len(states):
            raise ValueError(f"state {state} of a request stream is not known")
        stream._next = states[state]
        stream._partial = written[1]
        stream._lines = list(written[2:])
        return stream

    def _states(self) -> tuple[Callable[[bytes], Request | None], ...]:
        return self._header, self._chunk_size, self._chunk_end, self._trailer

    def add(self, data: bytes, requests: list[Request]) -> None:
        """Append the requests that `data` completes to `found`. Raises NotHttp behind them."""
        at, end = 0, len(data)
        while True:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                if self._skip:
                    return
            newline = data.find(b"\n", at)
            if newline < 0:
                self._partial += data[at:]
                self._check_partial()
                return
            line = self._partial + data[at:newline]
            self._partial = b""
            at = newline + 1
            request = self._take(line)
            if request is not None:
                requests.append(request)

    def _check_partial(self) -> None:
        """A line that cannot end within the limit any more."""
        if self._partial in (b"", b"\r") and self._next == self._header and not self._lines:
            return
        if self._size + len(self._partial) >= self.limit:
            raise NotHttp

    def _take(self, raw: bytes) -> Request | None:
        if not raw.endswith(b"\r"):
            raise NotHttp  # a server may end a line at LF (RFC 9112, 2.2) or go on to CRLF
        line = raw[:-1]
        if self._next == self._header and not self._lines and not line:
            return None  # RFC 9112, 2.2: empty lines before a request are ignored
        self._size += len(raw) + 1
        if self._size > self.limit or b"\r" in line:
            raise NotHttp
        return self._next(line)

    # What a line can be.

    def _header(self, line: bytes) -> Request | None:
        if line:
            if not self._lines:
                _check_start(line)
            self._lines.append(line)
            return None
        lines, self._lines, self._size = self._lines, [], 0
        return self._message(lines)

    def _chunk_size(self, line: bytes) -> None:
        self._size = 0
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise NotHttp
        self._skip = int(size[1], 16)
        self._next = self._chunk_end if self._skip else self._trailer

    def _chunk_end(self, line: bytes) -> None:
        self._size = 0
        if line:
            raise NotHttp
        self._next = self._chunk_size

    def _trailer(self, line: bytes) -> None:
        if line:
            _field(line)
            return
        self._size = 0
        self._next = self._header

    def _message(self, lines: list[bytes]) -> Request:
        method, target, version = lines[0].split(b" ")
        host: bytes | None = None
        length: bytes | None = None
        coding: bytes | None = None
        for line in lines[1:]:
            name, value = _field(line)
            if name == b"host":
                if host is not None or not _HOST.fullmatch(value):
                    raise NotHttp
                host = value
            elif name == b"content-length":
                if length is not None:
                    raise NotHttp
                length = value
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise NotHttp
                coding = value
        old = version == b"HTTP/1.0"
        if (host is None and not old) or (coding is not None and old):
            raise NotHttp  # RFC 9112, 3.2 and 6.1
        self._body(length, coding)
        return _request(method, target, host or b"")

    def _body(self, length: bytes | None, coding: bytes | None) -> None:
        if coding is not None:
            # Only a final "chunked" tells where a request ends (RFC 9112, 6.3), and it comes once (7.1).
            *others, final = (part.strip(b" \t").lower() for part in coding.split(b","))
            if length is not None or final != b"chunked" or not _CODINGS.issuperset(others):
                raise NotHttp
            self._next = self._chunk_size
        elif length is not None:
            if not length.isdigit() or len(length) > 18:
                raise NotHttp
            self._skip = int(length)


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case and value of a field line."""
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not (colon and name and _TCHAR.issuperset(name) and _CONTROL.isdisjoint(value)):
        raise NotHttp
    return name.lower(), value


def _check_start(line: bytes) -> None:
    """A request line; looked at once it is there, so that what is no HTTP does not go on for long."""
    parts = line.split(b" ")
    if len(parts) != 3 or not _is_version(parts[2]):
        raise NotHttp
    method, target, _ = parts
    if not method or not _TCHAR.issuperset(method):
        raise NotHttp
    if not target or b"#" in target or any(byte < 32 or byte == 127 for byte in target):
        raise NotHttp


def _is_version(text: bytes) -> bool:
    return len(text) == 8 and text.startswith(b"HTTP/1.") and text[7:].isdigit()


def _request(method: bytes, target: bytes, host: bytes) -> Request:
    if method == b"CONNECT":
        return Request(method, host_of(target), b"", b"")
    lower = target[:8].lower()
    for scheme in (b"http://", b"https://"):
        if lower.startswith(scheme):
            rest = target[len(scheme) :]
            end = min((i for i in map(rest.find, (b"/", b"?")) if i >= 0), default=len(rest))
            authority = rest[:end]
            host = host_of(authority)
            name = authority[authority.rfind(b"@") + 1 :]
            if not host or b"\\" in authority or not _HOST.fullmatch(name):
                raise NotHttp
            rest = rest[end:]
            return _with_path(method, host, rest if rest.startswith(b"/") else b"/" + rest)
    if target == b"*":
        return Request(method, host_of(host), target, b"")
    if not target.startswith(b"/"):
        raise NotHttp
    return _with_path(method, host_of(host), target)


def host_of(authority: bytes) -> bytes:
    """The host of `user@Host.:80`, in lower case."""
    host = authority[authority.rfind(b"@") + 1 :].lower()
    if host.startswith(b"["):
        closing = host.find(b"]")
        return host[: closing + 1] if closing >= 0 else host + b"]"
    colon = host.find(b":")
    if colon >= 0:
        host = host[:colon]
    return host[:-1] if host.endswith(b".") else host


def _with_path(method: bytes, host: bytes, target: bytes) -> Request:
    """A request with a target in origin-form."""
    raw, _, query = target.partition(b"?")
    decoded = unquote_to_bytes(raw)
    # A NUL ends a path for some servers; what is no escape is anything.
    if _NO_ESCAPE.search(raw) or any(byte < 32 or byte == 127 for byte in decoded):
        raise NotHttp
    return Request(method, host, _without_dots(decoded), query, raw)


_ODD = re.compile(rb"%|\\|;|//")


def _readings(raw: bytes) -> set[bytes]:
    """All that a path may become; each of the choices is some server's."""
    readings: set[bytes] = set()
    for late, twice, folds, cuts, merges in product((False, True), repeat=5):
        path = unquote_to_bytes(b"".join(_except_separators(raw)) if late else raw)
        if twice:
            path = unquote_to_bytes(path)
        if folds:
            path = path.replace(b"\\", b"/")
        if cuts:
            path = _PARAMETERS.sub(b"", path)
        if merges:
            path = _SLASHES.sub(b"/", path)
        path = _without_dots(path)
        readings.add(unquote_to_bytes(path) if late else path)
    return readings


def _except_separators(raw: bytes) -> list[bytes]:
    """So encoded that decoding leaves %2f, %5c and %25 as they are."""
    parts = _SEPARATOR.split(raw)
    return [b"%25" + part[1:] if index % 2 else part for index, part in enumerate(parts)]


def _without_dots(path: bytes) -> bytes:
    """Without dot segments (RFC 3986, 5.2.4)."""
    parts = path.split(b"/")
    kept: list[bytes] = []
    for part in parts[1:]:
        if part == b"..":
            del kept[-1:]
        elif part != b".":
            kept.append(part)
    if parts[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
