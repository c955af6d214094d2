"""Raw gRPC stubs whose calls say an election id, as a controller's do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

ELECTION_ID = "election-id-bin"


class _Signing(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, election_id: int) -> None:
        self._metadata = (ELECTION_ID, election_id.to_bytes(16))

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: Any,
        request: Any,
    ) -> Any:
        metadata = [*(client_call_details.metadata or ()), self._metadata]
        return continuation(client_call_details._replace(metadata=metadata), request)


def signed(channel: grpc.Channel, election_id: int = 1) -> grpc.Channel:
    """A channel whose unary calls say an election id."""
    return grpc.intercept_channel(channel, _Signing(election_id))
