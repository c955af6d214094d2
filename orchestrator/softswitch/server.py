"""A P4Runtime server on an address, plain or over TLS; what it serves is `service`'s matter."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from finsy.proto import p4i, p4r, p4r_grpc

from orchestrator.errors import SwitchError
from orchestrator.softswitch.arbitration import MAX_CONNECTIONS, MAX_LISTENERS, MAX_UNDECIDED
from orchestrator.softswitch.engine import Engine
from orchestrator.softswitch.service import P4RuntimeService
from servernf.host.authority import DEFAULT_WRITERS, Authority

CALL_THREADS = 16
"""Threads beside those that streams may take."""
TICK_S = 0.1
"""How often digests and idle timeouts are looked at; their timeouts are no finer."""
REQUEST_LIMIT = 32 << 20
"""Bytes of a request: a program and its P4Info; writes come in batches far smaller."""
RESPONSE_LIMIT = 256 << 20


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of the server; with `ca`, clients must show a certificate of it.

    `writers` are the common names of those that may change the device then, `listeners` of those that
    may hear its packets besides; all others only read.
    """

    cert: Path
    key: Path
    ca: Path | None = None
    writers: tuple[str, ...] = DEFAULT_WRITERS
    listeners: tuple[str, ...] = ()


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            return probe.connect_ex(path) == 0
        except OSError:  # the path is too long
            return False


class P4RuntimeServer:
    """A listening gRPC server on HOST:PORT or unix:PATH (`address`, with the real port for port 0)."""

    def __init__(self, engine: Engine, address: str, tls: ServerTls | None = None) -> None:
        certified = tls is not None and tls.ca is not None
        authority = (
            Authority.of(tls.writers, certified=certified, listeners=tls.listeners)
            if tls
            else Authority()
        )
        self.service = P4RuntimeService(engine, authority)
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="p4runtime-tick", daemon=True)
        self.server = grpc.server(
            ThreadPoolExecutor(
                max_workers=MAX_CONNECTIONS + MAX_LISTENERS + MAX_UNDECIDED + CALL_THREADS,
                thread_name_prefix="p4runtime",
            ),
            options=(
                ("grpc.max_receive_message_length", REQUEST_LIMIT),
                ("grpc.max_send_message_length", RESPONSE_LIMIT),
                # Two switches on one address is a mistake to report, not to share.
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", 1 << 20),
            ),
        )
        p4r_grpc.add_P4RuntimeServicer_to_server(self.service, self.server)
        self.address = self._listen(address, tls)

    def _listen(self, address: str, tls: ServerTls | None) -> str:
        unix = address.startswith("unix:")
        host, _, rest = address.partition(":") if unix else address.rpartition(":")
        if not host or not rest:
            raise SwitchError(f"cannot listen on '{address}': HOST:PORT or unix:PATH is expected")
        if unix and _is_served(rest):
            # gRPC would unlink the socket of a running server.
            raise SwitchError(f"cannot listen on {address}: in use")
        try:
            if tls is None:
                bound = self.server.add_insecure_port(address)
            else:
                bound = self.server.add_secure_port(address, self._credentials(tls))
        except RuntimeError as e:
            why = "no folder for it, or longer than 107 bytes" if unix else "in use or not local"
            raise SwitchError(f"cannot listen on {address}: {why}") from e
        if not bound:
            raise SwitchError(f"cannot listen on '{address}': HOST:PORT or unix:PATH is expected")
        return address if unix else f"{host}:{bound}"

    @staticmethod
    def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
        def read(path: Path) -> bytes:
            try:
                return path.read_bytes()
            except OSError as e:
                raise SwitchError(f"TLS file {path}: {e.strerror}") from e

        pair = (read(tls.key), read(tls.cert))
        ca = None if tls.ca is None else read(tls.ca)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=ca, require_client_auth=ca is not None
        )

    def start(self) -> None:
        self.server.start()
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stopped.wait(TICK_S):
            self.service.engine.tick()
            self.service.arbiter.end_idle()

    def stop(self, grace: float = 0.5) -> None:
        """Stop listening; open streams end after `grace` seconds at most."""
        self._stopped.set()
        self.server.stop(grace).wait()
        if self._ticker.is_alive():
            self._ticker.join()

    def preload(self, program: bytes, p4info: p4i.P4Info) -> None:
        """Install a pipeline at start, as if a controller had committed it."""
        config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=program)
        self.service.engine.save(config)
        self.service.commit(config)
