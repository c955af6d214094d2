"""Gives records to a CLE over gRPC, and waits until it has them sealed."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from orchestrator.clients.channel import OnChannel, TlsFiles, open_channel
from orchestrator.errors import InputError, ServerError
from servernf.proto import cle_pb2, cle_pb2_grpc

_SECONDS = 30.0


class CleClient(OnChannel):
    """A session with a CLE while the context is open."""

    def __init__(self, address: str, *, tls: TlsFiles | None = None) -> None:
        self.address = address
        super().__init__(open_channel(address, tls))
        self._stub = cle_pb2_grpc.CleStub(self._channel)

    def ship(self, batch: Iterable[bytes]) -> None:
        """Give records of one boot of one point; they are sealed when this returns.

        InputError for what the CLE refuses for good, ServerError for what may be tried again.
        """
        message = cle_pb2.Batch(records=b"".join(batch))
        try:
            for _ in self._stub.ship(iter((message,)), timeout=_SECONDS):
                pass
        except grpc.RpcError as error:
            code, why = error.code(), error.details()  # type: ignore[attr-defined]
            said = f"CLE {self.address}: {code.name}: {why}"
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                raise InputError(said) from error
            raise ServerError(said) from error
