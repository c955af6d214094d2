"""Bulk writes: requests made of serialised parts, several in flight.

A switch takes one Write after another, so what is won is that the next one is encoded and travels
meanwhile. A batch follows another without waiting only if both hold nothing but inserts of table
entries, or both nothing but deletes: no order between those can matter. Inserts that were serialised
before (`Run`) are only cut into batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import grpc
from finsy.proto import p4r

from orchestrator.clients.encoding import InsertRun, RawUpdate

Writable = RawUpdate | p4r.Update | InsertRun
"""An update of a Write, or many."""

BATCH = 1000
"""Updates per Write: BMv2 takes most per second at 1,000 to 2,000, and error details must fit."""

IN_FLIGHT = 4

MOST_DETAILS = 1 << 20
"""Bytes of error details that a client of ours accepts: 1 KiB for each update of a batch."""

_TABLE_ENTRY = 0x12  # the tag that an Entity with a table entry starts with


class RefusedWrite(NamedTuple):
    """A Write that failed, in whole or in part."""

    error: grpc.RpcError
    updates: Sequence[RawUpdate]


class WriteInFlight(Protocol):
    """A Write in flight."""

    def result(self) -> p4r.WriteResponse:
        """Wait for it; grpc.RpcError when it failed."""
        ...


def write_all(
    send: Callable[[bytes | memoryview], WriteInFlight],
    updates: Iterable[Writable],
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, list[RefusedWrite]]:
    """Send all updates until one fails; (how many were taken in whole batches, what was refused).

    `send` starts a Write, given the serialised `updates` field of its request. A batch of 1 keeps the
    order of the updates, whatever they are.
    """
    flying: deque[tuple[WriteInFlight, _Batch]] = deque()
    refused: list[RefusedWrite] = []
    taken = 0
    before = 0
    most = 1 if batch == 1 else IN_FLIGHT

    def land() -> None:
        nonlocal taken
        answer, chunk = flying.popleft()
        try:
            answer.result()
        except grpc.RpcError as error:
            refused.append(
                RefusedWrite(error, chunk.updates() if isinstance(chunk, InsertRun) else chunk)
            )
            return
        taken += len(chunk)
        if progress is not None:
            progress(len(chunk))

    try:
        for chunk in _batches(updates, batch):
            kind = _only_kind(chunk)
            while flying and (kind != before or not kind or len(flying) >= most):
                land()
            if refused:
                break
            flying.append((send(_part(chunk)), chunk))
            before = kind
        while flying:
            land()
    except BaseException:
        for answer, _ in flying:  # whoever undoes this must know that nothing comes after it
            with suppress(grpc.RpcError):
                answer.result()
        raise
    return taken, refused


_Batch = list[RawUpdate] | InsertRun


def _batches(updates: Iterable[Writable], most: int) -> Iterator[_Batch]:
    """Updates of one Write each."""
    chunk: list[RawUpdate] = []
    for update in updates:
        if isinstance(update, InsertRun):
            if chunk:
                yield chunk
                chunk = []
            yield from update.split(most)
            continue
        chunk.append(update if isinstance(update, RawUpdate) else RawUpdate.of(update))
        if len(chunk) == most:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _part(chunk: _Batch) -> bytes | memoryview:
    if isinstance(chunk, InsertRun):
        return chunk.part()
    return b"".join([update.part() for update in chunk])


def _only_kind(chunk: _Batch) -> int:
    """INSERT or DELETE if there is nothing else, of table entries only; otherwise 0."""
    if isinstance(chunk, InsertRun):
        return p4r.Update.INSERT
    kind = chunk[0].kind
    if kind == p4r.Update.MODIFY:
        return 0
    alike = all(u.kind == kind and u.entity[0] == _TABLE_ENTRY for u in chunk)
    return kind if alike else 0
