"""Other workers that a chain goes on to: which they may be, and calling them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import PurePath
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from servernf.host.authority import DEFAULT_WITNESSES, DEFAULT_WRITERS, Authority
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.runtime.chain import Chained, ChainScope, Hop
from servernf.python.runtime.errors import (
    ChainExists,
    Gone,
    NotFound,
    NotPermitted,
    NotSupported,
    Unreachable,
)
from servernf.python.runtime.messages import hop_message
from servernf.wire.errors import InputError

ELECTION_ID = "election-id-bin"
"""gRPC metadata of a changing call: 16 bytes, big-endian."""
CHAIN_FROM = "chain-from"
"""gRPC metadata of a chaining call that a worker passes on: that worker's name."""
ELECTION_BYTES = 16
CALL_TIMEOUT_S = 5.0
_GONE_S = 1.0
UNIX = "unix:"
MAX_MESSAGE_BYTES = 256 << 20
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (ChainExists, grpc.StatusCode.ALREADY_EXISTS),
    (NotSupported, grpc.StatusCode.UNIMPLEMENTED),
    (NotPermitted, grpc.StatusCode.PERMISSION_DENIED),
    (Unreachable, grpc.StatusCode.UNAVAILABLE),
)
"""What is told of a worker's errors."""
_Call = TypeVar("_Call", bound=Callable[..., Any])
_MOST_TOLD = 2_000


def _short(text: str) -> str:
    """What fits into the metadata of an answer, of which gRPC takes 8 KiB."""
    return (
        text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]} ... ({len(text):,} characters)"
    )


def answers_errors(call: _Call) -> _Call:
    """Turn a worker's exceptions into gRPC status codes."""

    @wraps(call)
    def wrapped(self: object, request: object, context: grpc.ServicerContext) -> object:
        try:
            return call(self, request, context)
        except Exception as error:
            for kind, code in CODES:
                if isinstance(error, kind):
                    context.abort(code, _short(str(error)))
            raise

    return wrapped  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class PeerTls:
    """PEM contents. With `ca`, the other side must show a certificate that it signed.

    Then `witnesses` are the common names of those that say what is told to witnesses, `writers` those
    of those that may change all else, `peer_names` those of other workers, which may only pass chains
    on; everybody else only reads.
    """

    cert: bytes
    key: bytes
    ca: bytes | None = None
    writers: tuple[str, ...] = DEFAULT_WRITERS
    peer_names: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = DEFAULT_WITNESSES

    def authority(self) -> Authority:
        """Who may change the worker."""
        return Authority.of(self.writers, certified=self.ca is not None)

    def server(self) -> grpc.ServerCredentials:
        """Credentials to listen with."""
        return grpc.ssl_server_credentials(
            [(self.key, self.cert)], self.ca, require_client_auth=self.ca is not None
        )

    def client(self) -> grpc.ChannelCredentials:
        """Credentials to call other workers with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    @property
    def name(self) -> str:
        """Whom the certificate is made out to: its subject's common name, empty without one."""
        subject = x509.load_pem_x509_certificate(self.cert).subject
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""


@dataclass(frozen=True, slots=True)
class Peers:
    """The workers that a chain may go on to: those named at start, not whom a message names.

    The sockets beside a worker's own are of the same network: who may make one there is trusted.
    """

    addresses: frozenset[str]
    folder: PurePath | None

    @classmethod
    def of(cls, own: str, addresses: Collection[str]) -> Peers:
        """The peers of the worker that listens at `own`."""
        return cls(frozenset(addresses), _socket(own).parent if own.startswith(UNIX) else None)

    def check(self, address: str, where: str = "next.worker") -> None:
        """InputError when a worker is none of them."""
        if address in self.addresses:
            return
        if self.folder is not None and address.startswith(UNIX):
            path = _socket(address)
            if path.parent == self.folder and path.name != "..":
                return
        addresses = sorted(self.addresses)
        if self.folder is not None:
            addresses.append(f"sockets in {self.folder}/")
        raise InputError(
            f"{where}: '{address}' is no peer of this worker (known: {', '.join(addresses) or 'none'})"
        )


def _socket(address: str) -> PurePath:
    return PurePath(address.removeprefix(UNIX))


class RemoteWorker:
    """Another worker, called over gRPC (a `ChainPeer`)."""

    def __init__(
        self,
        address: str,
        tls: PeerTls | None,
        caller: str,
        election: int,
        certified: str = "",
        seconds: float = CALL_TIMEOUT_S,
    ) -> None:
        """`certified`: whom its certificate is made out to, where that is not its address; `seconds`:
        for an answer to a part of state."""
        self._address = address
        self._seconds = seconds
        self._tls = tls
        self._metadata = (
            (CHAIN_FROM, caller),
            (ELECTION_ID, election.to_bytes(ELECTION_BYTES)),
        )
        # gRPC would compare a certificate with the path of a Unix socket.
        name = certified or ("localhost" if address.startswith(UNIX) else "")
        self._channel: grpc.Channel | None = None
        self._named = [("grpc.ssl_target_name_override", name)] if name else []

    def service_chain(
        self, nf: str, scope: ChainScope, hops: Sequence[Hop], *, update: bool = False
    ) -> Chained:
        """serviceChain, or serviceChainUpdate, at an NF there."""
        request = vnf.ServiceChainRequest(nf=nf)
        request.scope.spi, request.scope.si = scope.spi, scope.si
        request.scope.in_port, request.scope.out_port = scope.in_port, scope.out_port
        request.next.extend(hop_message(hop) for hop in hops)
        channel = self._opened()
        try:
            stub = vnf_pb2_grpc.VnfStub(channel)
            call = stub.serviceChainUpdate if update else stub.serviceChain
            answer = call(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None
        finally:
            channel.close()
        return Chained(answer.mac, tuple(answer.nfs))

    def push_state(self, request: vnf.PushStateRequest) -> vnf.PushStateResponse:
        """pushState there; the channel stays open for the next part."""
        if self._channel is None:
            self._channel = self._opened()
        stub = vnf_pb2_grpc.VnfStub(self._channel)
        try:
            return stub.pushState(request, timeout=self._seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _opened(self) -> grpc.Channel:
        if self._tls is None:
            return grpc.insecure_channel(self._address, OPTIONS)
        return grpc.secure_channel(self._address, self._tls.client(), [*OPTIONS, *self._named])

    def _translated(self, error: grpc.RpcError) -> Exception:
        code: object = error.code() if isinstance(error, grpc.Call) else None
        text = str(error.details()) if isinstance(error, grpc.Call) else str(error)
        for kind, code_kind in CODES:
            if code is code_kind and kind is not Unreachable:
                return kind("\n".join(f"{self._address}: {line}" for line in text.splitlines()))
        kind = Gone if _is_gone(self._address) else Unreachable
        return kind(f"worker {self._address} does not answer: {text}")


def _is_gone(address: str) -> bool:
    """Whether nothing listens there, as the machine itself says; no answer is none."""
    try:
        if address.startswith(UNIX):
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(_GONE_S)
                plain.connect(str(_socket(address)))
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _GONE_S).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except (OSError, ValueError):
        return False
    return False
