"""The CLE's gRPC face: who ships for which points, and receipts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import grpc

from orchestrator.errors import InputError
from orchestrator.files import read_small
from orchestrator.verification.cle.intake import Intake, TooMuch
from orchestrator.verification.cle.seals import Head
from servernf.host.authority import caller
from servernf.proto import cle_pb2, cle_pb2_grpc
from servernf.wire.records import HEADER, point_id

Credentials = grpc.ServerCredentials
_THREADS = 64
_UNDER_WAY = 32
"""Batches of a shipper that are not acknowledged yet, at most."""
_MESSAGE = [("grpc.max_receive_message_length", 5 << 20)]


class _Stranger(Exception):
    """Who speaks for a point of others."""


class CleService(cle_pb2_grpc.CleServicer):
    """`shippers` are the points that the holder of a certificate speaks for, by its common name; None:
    no certificates are shown."""

    def __init__(self, intake: Intake, shippers: Mapping[str, tuple[str, ...]] | None) -> None:
        self._intake = intake
        self._points = (
            None
            if shippers is None
            else {name: {point_id(p) for p in points} for name, points in shippers.items()}
        )

    def ship(
        self, request_iterator: Iterator[cle_pb2.Batch], context: grpc.ServicerContext
    ) -> Iterator[cle_pb2.Receipt]:
        points = None if self._points is None else self._points.get(caller(context), set())
        answers: Queue[Future[Head] | Exception | None] = Queue()
        room = threading.Semaphore(_UNDER_WAY)

        def take() -> None:
            """Receipts go out while batches come in, so both are waited for."""
            try:
                for batch in request_iterator:
                    room.acquire()
                    self._check(batch.records, points, context)
                    answers.put(self._intake.put(batch.records))
            except Exception as error:
                answers.put(error)
            answers.put(None)

        threading.Thread(target=take, name="cle-ship", daemon=True).start()
        try:
            while (answer := answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield receipt(answer.result())
                room.release()
        except InputError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TooMuch as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except _Stranger as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        finally:
            room.release()  # who waits for it finds that the call is over

    def head(self, request: cle_pb2.HeadRequest, context: grpc.ServicerContext) -> cle_pb2.Receipt:
        return receipt(self._intake.head)

    def _check(
        self, payload: bytes, points: set[int] | None, context: grpc.ServicerContext
    ) -> None:
        if points is None or len(payload) < HEADER.size:
            return
        point = HEADER.unpack_from(payload)[4]
        if point not in points:
            who = caller(context)
            raise _Stranger(f"the certificate of '{who}' does not speak for point {point:016x}")


def receipt(head: Head) -> cle_pb2.Receipt:
    """A head as a message."""
    return cle_pb2.Receipt(
        index=head.index, wall_us=head.wall_us, hash=head.hash, signature=head.signature
    )


def head_of(told: cle_pb2.Receipt) -> Head:
    """The head of a message."""
    return Head(told.index, told.hash, told.wall_us, told.signature)


def credentials(cert: Path, key: Path, ca: Path) -> grpc.ServerCredentials:
    """Mutual TLS by PEM files."""
    pair = read_small(key, f"--tls-key {key}"), read_small(cert, f"--tls-cert {cert}")
    return grpc.ssl_server_credentials(
        [pair], read_small(ca, f"--tls-ca {ca}"), require_client_auth=True
    )


def serve(
    intake: Intake,
    address: str,
    credentials: grpc.ServerCredentials | None = None,
    shippers: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[grpc.Server, str]:
    """Start serving; the server and the address with the port that was bound."""
    server = grpc.server(ThreadPoolExecutor(max_workers=_THREADS), options=_MESSAGE)
    cle_pb2_grpc.add_CleServicer_to_server(CleService(intake, shippers), server)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise InputError(f"--listen {address}: {error}") from None
    server.start()
    bound = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    return server, bound
