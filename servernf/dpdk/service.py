"""The calls of `vnf.proto` that the dpdk runtime refuses by name; the others are `servernf.python`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.service import VnfService


def _refused(what: str) -> Callable[..., Any]:
    def call(self: VnfService, request: object, context: grpc.ServicerContext) -> NoReturn:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{what}: the dpdk runtime does not do that yet; runtime python does",
        )

    return call


class DpdkService(VnfService):
    """State is not doubled elsewhere yet."""

    markLastInTransit = _refused("markLastInTransit")

    def replicate(
        self, request: vnf.ReplicateRequest, context: grpc.ServicerContext
    ) -> vnf.ReplicateResponse:
        if request.phase == vnf.ReplicateRequest.START:
            return _refused("replicate")(self, request, context)
        return super().replicate(request, context)

    def getVariants(
        self, request: vnf.VariantsRequest, context: grpc.ServicerContext
    ) -> vnf.VariantsResponse:
        if request.operation == "replicate":
            return vnf.VariantsResponse()
        return super().getVariants(request, context)
