"""Who may ask: whoever names this server by its own name and has its token; and what a browser may do.

The token comes behind the `#` of the address, which no browser sends; the page hands it over as a
header with every question, so neither another page, nor another server of this machine, nor a log gets
it. The files of the page tell nothing of any network and need none.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOLD = "/api/"
"""The paths that tell something, and ask for the token."""
_CYTOSCAPE = "'sha256-pgvDUBa4IjFA2yuSJ2cqcyxmNYJMborsd0ORcRv9vw8='"
"""The one style sheet that Cytoscape.js writes into a page (the position of its container)."""
_CONTENT = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_CYTOSCAPE}; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CONTENT,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_MOST_BYTES = 1 << 20
"""Of a question."""


class Guard:
    """In front of everything: the Host that was asked for (DNS rebinding), the token, the headers."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["cache-control"] = "no-store"
            await send(message)

        headers = Headers(scope=scope)
        if refusal := self._refusal(scope, headers):
            await _refuse(told, *refusal)
            return
        await self._app(scope, _bounded(receive), told)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if headers.get("host", "").lower() not in self._hosts:
            return 421, "this server has another name: ask for the address that it told"
        if not scope["path"].startswith(TOLD):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            return (
                401,
                "the token is missing or wrong: open the address that `orchestrator ui` told",
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _MOST_BYTES:
            return 413, f"a question has at most {_MOST_BYTES} bytes"
        return None


def hosts_of(names: Iterable[str], port: int) -> frozenset[str]:
    """The `Host` headers by which a server on this port may be asked for."""
    written = {f"[{name}]" if ":" in name else name.lower() for name in names}
    default = {name for name in written if port in (80, 443)}
    return frozenset({f"{name}:{port}" for name in written} | default)


def _bounded(receive: Receive) -> Receive:
    """Whoever does not say how long a question is, is believed as little."""
    left = _MOST_BYTES

    async def some() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return some


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
