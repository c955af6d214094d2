"""The calls of `vnf.proto` where the dpdk runtime does more than its worker's Python part."""

from __future__ import annotations

from typing import cast

import grpc

from servernf.dpdk.worker import DpdkWorker
from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.service import VnfService


class DpdkService(VnfService):
    """Markers leave at once: no thread of this process sends a next batch."""

    def markLastInTransit(
        self, request: vnf.MarkLastInTransitRequest, context: grpc.ServicerContext
    ) -> vnf.MarkLastInTransitResponse:
        answer = super().markLastInTransit(request, context)
        worker = cast("DpdkWorker", self._worker)
        worker.jobs.do(worker.send_markers)
        return answer
