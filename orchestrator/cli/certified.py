"""Options of TLS that several commands have."""

from __future__ import annotations

from pathlib import Path

from orchestrator.clients.channel import TlsFiles
from orchestrator.errors import InputError


def client_files(cert: Path | None, key: Path | None, ca: Path | None) -> TlsFiles | None:
    """The files that --tls-cert, --tls-key and --tls-ca name; None: none is."""
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None or ca is None:
        raise InputError("--tls-cert, --tls-key and --tls-ca belong together")
    return TlsFiles(ca, cert, key)
