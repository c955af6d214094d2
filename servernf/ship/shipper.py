"""From rings to the CLE: a record is freed once the CLE has it sealed on its disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc

from servernf.proto import cle_pb2, cle_pb2_grpc
from servernf.wire import records
from servernf.wire.errors import InputError
from servernf.wire.records import HEADER
from servernf.wire.ring import Ring

BATCH_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_IDLE_S = 0.02
_BACK_OFF_S = (0.1, 5.0)
_MOST_ROUND = 16


@dataclass(slots=True)
class ShippingCounts:
    """What became of records: batches acknowledged, tries that failed, batches that the CLE refused for
    good, and rings whose content was no records and was given up."""

    acknowledged: int = 0
    failed: int = 0
    refused: int = 0
    damaged: int = 0
    last_error: str = ""
    receipts: Callable[[cle_pb2.Receipt], None] = field(default=lambda receipt: None, repr=False)
    """Called with every receipt."""


class Shipper:
    """Ships the rings of points, by their names, over a channel, until it is stopped."""

    def __init__(self, rings: Mapping[str, Ring], channel: grpc.Channel) -> None:
        self.rings = dict(rings)
        self._stub = cle_pb2_grpc.CleStub(channel)
        self.counts = ShippingCounts()
        self._stop = threading.Event()

    def add(self, name: str, ring: Ring) -> None:
        """Ship another point's ring, too; any thread may ask for it."""
        self.rings = {**self.rings, name: ring}

    def stop(self) -> None:
        """Let `run` end; what was not acknowledged stays in the rings."""
        self._stop.set()

    def run(self) -> None:
        """Ship what comes; where the CLE is not there, or full, again later."""
        pause = _BACK_OFF_S[0]
        while not self._stop.is_set():
            try:
                busy = [self.ship(name) for name in self.rings]
            except grpc.RpcError as error:
                self.counts.failed += 1
                self.counts.last_error = f"{_code(error).name}: {error.details()}"  # type: ignore[attr-defined]
                self._stop.wait(pause)
                pause = min(2 * pause, _BACK_OFF_S[1])
                continue
            pause = _BACK_OFF_S[0]
            if not any(busy):
                self._stop.wait(_IDLE_S)

    def ship(self, name: str) -> bool:
        """Ship what a ring has now, at most some MiB; whether there was something.

        A batch that is none of the point's, or comes too late, is dropped and counted; RpcError for what
        may be tried again.
        """
        ring = self.rings[name]
        try:
            data = ring.peek(_MOST_ROUND * BATCH_BYTES)
            batches = list(_batches(data))
            if data and not batches:
                raise InputError(f"{len(data)} bytes are no whole record")
        except InputError as error:
            self.counts.damaged += 1
            self.counts.last_error = f"{name}: {error}"
            ring.skip()
            return True
        if not batches:
            return False
        done = 0
        try:
            messages = (cle_pb2.Batch(records=batch) for batch in batches)
            for receipt in self._stub.ship(messages, timeout=_TIMEOUT_S):
                ring.free(len(batches[done]))
                done += 1
                self.counts.acknowledged += 1
                self.counts.receipts(receipt)
        except grpc.RpcError as error:
            if _code(error) is not grpc.StatusCode.INVALID_ARGUMENT or done >= len(batches):
                raise
            self.counts.refused += 1
            self.counts.last_error = f"{name}: {error.details()}"  # type: ignore[attr-defined]
            ring.free(len(batches[done]))
        return True


def _batches(data: bytes) -> Iterator[bytes]:
    """Records of one boot of one point each, and not too many; what is cut short at the end stays."""
    batch: list[bytes] = []
    size, who = 0, b""
    for record in _whole(data):
        # Point and boot are the header's bytes 8 to 23.
        if batch and (record[8:24] != who or size + len(record) > BATCH_BYTES):
            yield b"".join(batch)
            batch, size = [], 0
        who = record[8:24]
        batch.append(record)
        size += len(record)
    if batch:
        yield b"".join(batch)


def _whole(data: bytes) -> Iterator[bytes]:
    at = 0
    while len(data) - at >= HEADER.size:
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if HEADER.size <= length <= records.MOST_RECORD and len(data) - at < length:
            return
        (record,) = records.split(data[at : at + length] if length else data[at:])
        yield record
        at += length


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code()  # type: ignore[attr-defined]
