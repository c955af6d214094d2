"""gRPC channels to devices: plain, TLS, or mTLS; what is wrong when one does not come up."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from orchestrator.errors import InputError, ServerError, ServerGone
from orchestrator.files import read_small

_PROBE_SECONDS = 3.0
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the client's TLS material; certificate and key for mTLS.

    `name` is what the server's certificate is for, where that is not its address.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    name: str = ""

    def check(self) -> None:
        """InputError that names every file that is missing or holds no PEM of its kind."""
        problems = [
            problem
            for path in (self.ca, self.certificate, self.key)
            if path is not None and (problem := _unreadable(path))
        ]
        if not problems:
            problems = self._unusable()
        if problems:
            raise InputError(problems)

    def _unusable(self) -> list[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        problems: list[str] = []
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError:
            problems.append(f"TLS file {self.ca}: holds no CA certificate (PEM)")
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, lambda: "")
            except ssl.SSLError:
                problems.append(
                    f"TLS files {self.certificate} and {self.key}: "
                    "no certificate and its unencrypted private key (PEM)"
                )
        return problems


def common_name(certificate: Path) -> str:
    """The subject's CN of a PEM certificate."""
    try:
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    except OSError as error:
        raise InputError(f"TLS file {certificate}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"TLS file {certificate}: holds no certificate (PEM)") from None
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise InputError(f"TLS file {certificate}: its subject has no CN, so it names no owner")
    return str(names[0].value)


class OnChannel:
    """A client whose channel is open as long as its context is."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self._channel.close()


def open_channel(
    address: str, tls: TlsFiles | None, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.Channel:
    """A channel to `address`, over TLS when its files are given; InputError when one is no good."""
    if tls is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, _credentials(tls), [*options, _named(address, tls)])


def open_async_channel(
    address: str, tls: TlsFiles | None, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.aio.Channel:
    """As `open_channel`, for the event loop that runs."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, _credentials(tls), [*options, _named(address, tls)])


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    tls.check()
    return grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )


def _named(address: str, tls: TlsFiles) -> tuple[str, str]:
    """gRPC would compare a certificate with the path of a Unix socket."""
    return "grpc.ssl_target_name_override", tls.name or _host(address)


def connection_problem(address: str, tls: TlsFiles | None) -> str:
    """Why no channel to `address` comes up, in words; empty when nothing is amiss (any more).

    gRPC tells a refused certificate, plain text on a TLS port and a missing certificate apart only in
    texts of its TLS library, if at all: so the handshake is done once more, to look at it.
    """
    try:
        plain = _connect(address)
    except OSError as error:
        return f"no answer from {address} ({error.strerror or error}); is it running?"
    with plain:
        if tls is None:
            wants_tls = _greets(plain)
            return (
                f"{address} speaks TLS only: give `tls` in the topology, or with --address "
                "--tls-ca (and --tls-certificate, --tls-key)"
                if wants_tls
                else ""
            )
        return _handshake_problem(plain, address, tls)


def call_error(name: str, address: str, tls: TlsFiles | None, error: grpc.RpcError) -> ServerError:
    """What a failed call to something on a server says, in its own words; ServerGone when nothing
    listens there."""
    code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
    told = error.details()  # type: ignore[attr-defined]
    if code is grpc.StatusCode.UNAVAILABLE:
        told = connection_problem(address, tls) or told
        if is_gone(address):
            return ServerGone(f"{name}: {code.name}: {told}")
    return ServerError(f"{name}: {code.name}: {told}")


def is_gone(address: str) -> bool:
    """Whether nothing listens there, as the other machine itself says; no answer is none."""
    try:
        _connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


def _handshake_problem(plain: socket.socket, address: str, tls: TlsFiles) -> str:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.set_alpn_protocols(["h2"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    try:
        with context.wrap_socket(plain, server_hostname=tls.name or _host(address)) as secured:
            # With TLS 1.3 a refused client hears of it only when it reads. A server sends first.
            return _refused(tls, address) if not secured.recv(1) else ""
    except ssl.SSLCertVerificationError as error:
        return f"{address}: its certificate is not valid for {tls.ca}: {error.verify_message}"
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _refused(tls, address)
        return f"{address} speaks no TLS, but TLS is asked for ({error.reason})"
    except TimeoutError:
        return f"{address} speaks no TLS, but TLS is asked for (no answer to the handshake)"
    except OSError:
        return _refused(tls, address)


def _refused(tls: TlsFiles, address: str) -> str:
    if tls.certificate is None:
        return f"{address} asks for a client certificate: give `certificate` and `key`"
    return f"{address} refuses the client certificate {tls.certificate}"


def _greets(plain: socket.socket) -> bool:
    """Whether the other side answers a TLS greeting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        context.wrap_socket(plain).close()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


def _connect(address: str) -> socket.socket:
    if address.startswith(_UNIX):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(_PROBE_SECONDS)
        try:
            plain.connect(address.removeprefix(_UNIX))
        except OSError:
            plain.close()
            raise
        return plain
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS)


def _host(address: str) -> str:
    """What the certificate must be for, if nothing else is said."""
    if address.startswith(_UNIX):
        return "localhost"
    return address.rpartition(":")[0].strip("[]")


def _unreadable(path: Path) -> str:
    try:
        read_small(path, f"TLS file {path}")
    except InputError as error:
        return str(error)
    return ""
