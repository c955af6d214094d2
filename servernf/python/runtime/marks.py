"""Markers that a worker sends to another one behind its last packets for it (markLastInTransit).

What a worker has sent comes to another one in its order, by each tree of the fabric that it used: one
path each. So once its chains lead elsewhere, a marker is behind the last of them.
"""

from __future__ import annotations

from collections import OrderedDict

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.errors import NotFound
from servernf.python.runtime.jobs import Jobs
from servernf.python.runtime.tables import Out, WorkerTables, path_text
from servernf.wire.addresses import mac_text, parse_mac
from servernf.wire.errors import InputError
from servernf.wire.nsh import marker

_MOST = 1_024
"""MACs that are remembered: where exits lead now or have led."""
_TREE = 0xFF << 32
"""The octet of a MAC that is its tree (`servernf.wire.addresses`)."""


class Marks:
    """Those of one worker."""

    def __init__(self, core_mac: int, jobs: Jobs) -> None:
        self._mac = core_mac
        self._jobs = jobs
        self._led: OrderedDict[int, None] = OrderedDict()
        self.waiting: list[bytes] = []
        """Markers that leave with the next batch, behind its frames."""

    def settle(self, tables: WorkerTables) -> None:
        """Job: remember where exits lead."""
        for step in tables.classifiers.values():
            if isinstance(step, Out):
                self._led[step.dst_mac] = None
                self._led.move_to_end(step.dst_mac)
        while len(self._led) > _MOST:
            self._led.popitem(last=False)

    def taken(self) -> list[bytes]:
        """Job: what leaves now."""
        frames, self.waiting = self.waiting, []
        return frames

    def mark(
        self, request: vnf.MarkLastInTransitRequest, tables: WorkerTables
    ) -> vnf.MarkLastInTransitResponse:
        """markLastInTransit: a marker on each path that packets took to a worker."""
        try:
            core = parse_mac(request.source) & ~_TREE
        except ValueError as error:
            raise InputError(f"source: {error}") from None
        scope = request.scope
        asked = scope.spi << 8 | scope.si
        for (_, path, _), out in tables.classifiers.items():
            if not isinstance(out, Out) or out.dst_mac & ~_TREE != core:
                continue
            if asked in (0, out.spi << 8 | out.si):
                raise InputError(
                    f"scope: packets of {path_text(path)} still leave for {request.source}: change"
                    " their chain first (serviceChainUpdate)"
                )
        return self._jobs.do(lambda: self._send(request, core))

    def _send(
        self, request: vnf.MarkLastInTransitRequest, core: int
    ) -> vnf.MarkLastInTransitResponse:
        macs = [mac for mac in self._led if mac & ~_TREE == core]
        if not macs:
            raise NotFound(
                f"source: this worker has sent nothing to {mac_text(core)}; for switches that do their"
                " controller sends markers"
            )
        for path, mac in enumerate(macs, request.first_path):
            self.waiting.append(marker(mac, self._mac, request.marker, path & 0xFFFFFFFF))
        return vnf.MarkLastInTransitResponse(paths=len(macs))
