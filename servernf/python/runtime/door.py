"""Where other workers bring state: pushState, and nothing else of the API.

A worker that has become another user reaches no socket that only root may open. So there is a second
one, in a folder that root owns and workers may only pass through: who comes there can push state that a
controller has announced, and cannot configure anything. Workers name these sockets relative to their
working directory, which is that folder: what lies above it is none of theirs.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from servernf.host.authority import caller
from servernf.host.privileges import group
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.runtime.peers import OPTIONS, UNIX, PeerTls, answers_errors
from servernf.python.runtime.worker import Worker
from servernf.wire.errors import InputError

_THREADS = 4
_MODE = 0o660
"""Root's and, once it is no longer root, the workers' user's, which is a group of its own."""


class StateService(vnf_pb2_grpc.VnfServicer):
    """What other workers call. `tls` says whether they show certificates."""

    def __init__(self, worker: Worker, tls: PeerTls | None) -> None:
        self._worker = worker
        self._certified = tls is not None and tls.ca is not None

    @answers_errors
    def pushState(
        self, request: vnf.PushStateRequest, context: grpc.ServicerContext
    ) -> vnf.PushStateResponse:
        by = caller(context) if self._certified else ""
        return self._worker.replicas.pushed(request, by)


def open_door(worker: Worker, path: Path, tls: PeerTls | None, user: int | None) -> grpc.Server:
    """Listen at a Unix socket, which `user` may use, too; its folder becomes the working directory."""
    server = grpc.server(ThreadPoolExecutor(max_workers=_THREADS), options=OPTIONS)
    vnf_pb2_grpc.add_VnfServicer_to_server(StateService(worker, tls), server)
    try:
        os.chdir(path.parent)
        with group(user):
            if tls is None:
                server.add_insecure_port(f"{UNIX}{path.name}")
            else:
                server.add_secure_port(f"{UNIX}{path.name}", tls.server())
        if user is not None:
            os.chmod(path.name, _MODE)
    except OSError as error:
        raise InputError(f"--door {path}: {error.strerror}") from None
    except RuntimeError as error:
        raise InputError(f"--door {path}: {error}") from None
    server.start()
    return server
