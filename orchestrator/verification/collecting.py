"""Runs a collector: frames of an interface in, batches of records out, until it is told to end."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from orchestrator.errors import InputError, ReportedError
from orchestrator.verification.collector import Collector
from servernf.host.packetio import PACKET_ADD_MEMBERSHIP, SOL_PACKET, overflowed

_MOST_FRAME = 1 << 16
_MOST_BATCH = 1 << 20
_MOST_WAITING = 64 << 20
"""Bytes of records that wait for the CLE; more are forgotten, which shows as missing numbers."""
_LOOK_S = 0.02
_BACK_OFF_S = 1.0
_FRAMES = 256
"""That are taken before records are told."""
_MEMBERSHIP_UNICAST = 3
_POINT_AND_BOOT = slice(8, 24)


class Outbox:
    """Records that wait for the CLE: `take` is the collector's sink, `ship` what a client gives."""

    def __init__(self, ship: Callable[[Sequence[bytes]], None]) -> None:
        self._ship = ship
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._next = 0.0
        self.shipped = self.refused = self.forgotten = 0
        self.last_error = ""

    def take(self, record: bytes) -> None:
        """A record, behind those that wait."""
        if self._bytes + len(record) > _MOST_WAITING:
            self.forgotten += 1
            return
        self._waiting.append(record)
        self._bytes += len(record)

    def send(self) -> None:
        """Give the CLE what waits; where it is not there, or full, again a second later."""
        while self._waiting and time.monotonic() >= self._next:
            batch = self._batch()
            try:
                self._ship(batch)
                self.shipped += len(batch)
            except InputError as error:
                self.refused += len(batch)
                self.last_error = str(error)
            except ReportedError as error:
                self.last_error = str(error)
                self._next = time.monotonic() + _BACK_OFF_S
                return
            for record in batch:
                self._waiting.popleft()
                self._bytes -= len(record)

    def _batch(self) -> list[bytes]:
        """The first records, as far as they are of one boot of one point."""
        who = self._waiting[0][_POINT_AND_BOOT]
        size, batch = 0, list[bytes]()
        for record in self._waiting:
            size += len(record)
            if record[_POINT_AND_BOOT] != who or size > _MOST_BATCH:
                break
            batch.append(record)
        return batch or [self._waiting[0]]


def hear(port: socket.socket, interface: str, mac: int) -> None:
    """Have an interface take frames for a MAC that is not its own."""
    address = mac.to_bytes(6, "big")
    index = socket.if_nametoindex(interface).to_bytes(4, "little")
    request = index + _MEMBERSHIP_UNICAST.to_bytes(2, "little") + b"\6\0" + address + bytes(2)
    port.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)


def collect(
    port: socket.socket,
    mac: int,
    collector: Collector,
    outbox: Outbox,
    ended: Callable[[], bool],
) -> None:
    """Take what comes for a MAC until `ended`; what the socket's queue or the outbox had no room for is
    told as lost."""
    wanted = mac.to_bytes(6, "big")
    port.setblocking(False)
    overflowed(port)
    while not ended():
        select.select([port], [], [], _LOOK_S)
        for _ in range(_FRAMES):
            try:
                frame = port.recv(_MOST_FRAME)
            except BlockingIOError:
                break
            if frame[:6] == wanted:
                collector.take(frame)
        _count(port, collector, outbox)
        collector.settle()
        outbox.send()
    _count(port, collector, outbox)
    collector.settle(ended=True)
    outbox.send()


def _count(port: socket.socket, collector: Collector, outbox: Outbox) -> None:
    collector.lost["socket"] += overflowed(port)
    collector.lost["outbox"] = outbox.forgotten
