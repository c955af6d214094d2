"""gRPC channels to devices: plain, TLS, or mTLS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the client's TLS material; certificate and key for mTLS."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


def open_channel(
    address: str, tls: TlsFiles | None, options: Sequence[tuple[str, int]] = ()
) -> grpc.Channel:
    """A channel to `address`, over TLS when its files are given."""
    if tls is None:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )
    return grpc.secure_channel(address, credentials, options)
