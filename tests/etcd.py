"""A real etcd process for tests, on ports of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from support import eventually

NEEDS_ETCD = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd: not installed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def etcd_process(folder: Path, authority: Authority | None = None) -> Iterator[str]:
    """`127.0.0.1:PORT` of a cluster of one; with an authority it asks for client certificates."""
    folder.mkdir(parents=True, exist_ok=True)
    client, peer = _free_port(), _free_port()
    scheme = "https" if authority else "http"
    options = {
        "name": "one",
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": f"{scheme}://127.0.0.1:{client}",
        "advertise-client-urls": f"{scheme}://127.0.0.1:{client}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"one=http://127.0.0.1:{peer}",
    }
    if authority is not None:
        certificate, key = authority.issue("etcd")
        options |= {
            "cert-file": str(certificate),
            "key-file": str(key),
            "trusted-ca-file": str(authority.ca),
            "client-cert-auth": "true",
        }
    log = folder / "etcd.log"
    with log.open("wb") as out:
        argv = ["etcd", *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
    try:
        # It listens before it has elected itself.
        eventually(lambda: b"ready to serve client requests" in log.read_bytes(), what="etcd")
        yield f"127.0.0.1:{client}"
    finally:
        process.terminate()
        process.wait()
