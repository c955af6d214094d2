"""The calls of `vnf.proto` that the dpdk runtime refuses by name; the others are `servernf.python`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """State does not move yet, and nothing is told of single packets."""

    transfer = _refused("transfer")
    expectState = _refused("expectState")
    replicate = _refused("replicate")
    pushState = _refused("pushState")
    markLastInTransit = _refused("markLastInTransit")
    getVariants = _refused("getVariants")

    def watchEvents(
        self, request: vnf.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf.EventBatch]:
        return _refused("watchEvents")(self, request, context)
