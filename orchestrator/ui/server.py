"""Serving the page: on 127.0.0.1, elsewhere by TLS only, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from cryptography import x509

from orchestrator.errors import InputError, NetworkError
from orchestrator.files import read_small
from orchestrator.ui.app import make_app
from orchestrator.ui.feed import Feed
from orchestrator.ui.guard import Guard, hosts_of
from orchestrator.ui.live import LiveSource
from orchestrator.ui.saved import BundleSource

LOOPBACK = "127.0.0.1"
_LOCAL = (LOOPBACK, "localhost", "::1")
_END_S = 1
"""How long streams may take to end."""


@dataclass(frozen=True, slots=True)
class ServingPlace:
    """Where to serve: an address, a port (0: any) and, for TLS, certificate and key (PEM)."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


def place(listen: str, certificate: Path | None, key: Path | None) -> ServingPlace:
    """`HOST:PORT`, `:PORT`; InputError where TLS is missing that must be there."""
    given, colon, port = listen.rpartition(":")
    host = given.strip("[]") or LOOPBACK
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--listen '{listen}': HOST:PORT is expected, as 127.0.0.1:8423 or :8423")
    if (certificate is None) != (key is None):
        raise InputError("--certificate and --key go together")
    if certificate is None and not _is_loopback(host):
        raise InputError(
            f"--listen {listen}: beyond this machine the page is served over TLS only: "
            "say --certificate and --key (PEM files)"
        )
    return ServingPlace(host, int(port), certificate, key)


def serve(
    source: LiveSource | BundleSource,
    where: ServingPlace,
    *,
    writes: bool,
    told: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C; `told` gets the address with the token once it is listened."""
    names = _names(where)
    listener = _listener(where)
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(32)
    feed = Feed(source.live if isinstance(source, LiveSource) else None, source.files)
    app = Guard(
        make_app(source, feed, writes=writes), hosts=hosts_of((*names, *_LOCAL), port), token=token
    )
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_END_S,
        ssl_certfile=where.certificate,
        ssl_keyfile=where.key,
    )
    server = uvicorn.Server(config)
    name = f"[{names[0]}]" if ":" in names[0] else names[0]
    scheme = "https" if where.certificate else "http"
    told(f"{scheme}://{name}:{port}/#token={token}")
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        feed.stop()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(where: ServingPlace) -> tuple[str, ...]:
    """By what browsers may ask for this server: where it listens, or what its certificate is for."""
    if where.certificate is None or where.key is None:
        return (where.host,)
    told = f"--certificate {where.certificate}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(where.certificate, where.key)
        read = x509.load_pem_x509_certificate(read_small(where.certificate, told)).extensions
        alternatives = read.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = list(alternatives.get_values_for_type(x509.DNSName))
        hosts += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    except (OSError, ValueError) as error:
        raise InputError(f"{told}, --key {where.key}: {error}") from error
    except x509.ExtensionNotFound:
        raise InputError(f"{told}: it names no server (subject alternative name)") from None
    return tuple(dict.fromkeys([where.host] * (where.host in hosts) + hosts))


def _listener(where: ServingPlace) -> socket.socket:
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((where.host, where.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise NetworkError(f"--listen {where.host}:{where.port}: {error.strerror}") from error
    return listener
