"""Requests of an HTTP/1.x stream, read as its bytes come (RFC 9112), and nothing that is ambiguous.

A server that reads a message's bounds otherwise than a filter does could be told what the filter did
not see (request smuggling, RFC 9112, 11.2), so what can be read in two ways is no request here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CONTROL = frozenset(range(32)) - {9} | {127}


class NotHttp(Exception):
    """The stream is no sequence of HTTP/1.x requests that can be read in one way only."""


@dataclass(frozen=True, slots=True)
class Request:
    """Host in lower case, without port; path percent-decoded, without dot segments; query as sent."""

    method: bytes
    host: bytes
    path: bytes
    query: bytes


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

    def add(self, data: bytes, found: list[Request]) -> None:
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
                found.append(request)

    def _check_partial(self) -> None:
        """A line that cannot end within the limit any more."""
        if self._partial in (b"", b"\r") and self._next == self._header and not self._lines:
            return
        if self._size + len(self._partial) >= self.limit:
            raise NotHttp

    def _take(self, raw: bytes) -> Request | None:
        line = raw[:-1] if raw.endswith(b"\r") else raw
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
        digits, semicolon, extension = line.partition(b";")
        digits = digits.rstrip(b" \t")
        if not 0 < len(digits) <= 8 or not _HEX.issuperset(digits):
            raise NotHttp
        if semicolon and not _CONTROL.isdisjoint(extension):
            raise NotHttp
        self._skip = int(digits, 16)
        self._next = self._chunk_end if self._skip else self._trailer

    def _chunk_end(self, line: bytes) -> None:
        self._size = 0
        if line:
            raise NotHttp
        self._next = self._chunk_size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self._size = 0
            self._next = self._header

    def _message(self, lines: list[bytes]) -> Request:
        method, target, _ = lines[0].split(b" ")
        host: bytes | None = None
        length: bytes | None = None
        coding: bytes | None = None
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not (colon and name and _TCHAR.issuperset(name) and _CONTROL.isdisjoint(value)):
                raise NotHttp
            name = name.lower()
            if name == b"host":
                if host is not None or b" " in value or b"\t" in value:
                    raise NotHttp
                host = value
            elif name == b"content-length":
                if length not in (None, value):
                    raise NotHttp
                length = value
            elif name == b"transfer-encoding":
                coding = value
        self._body(length, coding)
        return _request(method, target, host or b"")

    def _body(self, length: bytes | None, coding: bytes | None) -> None:
        if coding is not None:
            # Only a final "chunked" tells where a request ends (RFC 9112, 6.3).
            final = coding[coding.rfind(b",") + 1 :].strip(b" \t").lower()
            if length is not None or final != b"chunked":
                raise NotHttp
            self._next = self._chunk_size
        elif length is not None:
            if not length.isdigit() or len(length) > 18:
                raise NotHttp
            self._skip = int(length)


def _check_start(line: bytes) -> None:
    """A request line; looked at once it is there, so that what is no HTTP does not go on for long."""
    parts = line.split(b" ")
    if len(parts) != 3 or not _is_version(parts[2]):
        raise NotHttp
    method, target, _ = parts
    if not method or not _TCHAR.issuperset(method):
        raise NotHttp
    if not target or any(byte < 32 or byte == 127 for byte in target):
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
            end = min((i for i in map(rest.find, (b"/", b"?", b"#")) if i >= 0), default=len(rest))
            host = host_of(rest[:end])
            if not host:
                raise NotHttp
            rest = rest[end:]
            path, query = split_target(rest if rest.startswith(b"/") else b"/" + rest)
            return Request(method, host, path, query)
    if target == b"*":
        return Request(method, host_of(host), target, b"")
    if not target.startswith(b"/"):
        raise NotHttp
    return Request(method, host_of(host), *split_target(target))


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


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The path of an origin-form target, as a server would resolve it, and its query."""
    fragment = target.find(b"#")
    if fragment >= 0:
        target = target[:fragment]
    path, _, query = target.partition(b"?")
    parts = unquote_to_bytes(path).split(b"/")
    kept: list[bytes] = []
    for part in parts[1:]:
        if part == b"..":
            del kept[-1:]
        elif part != b".":
            kept.append(part)
    if parts[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept), query
