"""How hosts of a network in memory send from another process: a Unix socket, one JSON document a line.

    {"send": [host, frame in hex]}    {"deliveries": [[host, frame, at us], ...], "now_us": N}
    {"advance": us}                   the same
    {"restart": device or worker}     {"now_us": N}

A request that cannot be met is answered by {"error": text}, and changes nothing.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any, cast

from orchestrator.errors import NetworkError, ReportedError
from orchestrator.simulation.network import Delivery

_LONGEST = 1 << 20
"""Bytes of a request."""

Answer = dict[str, object]


class HostServer(ThreadingUnixStreamServer):
    """Listens at a path and answers by `answer`, which raises ReportedError or ValueError."""

    daemon_threads = True

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        super().__init__(str(path), _Requests)


class _Requests(StreamRequestHandler):
    def handle(self) -> None:
        server = cast("HostServer", self.server)
        while line := self.rfile.readline(_LONGEST):
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError("an object is expected")
                answer = server.answer(cast("dict[str, Any]", request))
            except (ReportedError, ValueError, TypeError) as error:
                answer = {"error": str(error)}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Hosts:
    """The hosts of a network in memory, from another process; NetworkError when it has ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NetworkError(
                f"{path}: the network in memory has ended ({error.strerror}): `orchestrator net down` "
                "forgets it"
            ) from error
        self._answers = self._socket.makefile("rb")

    @property
    def pid(self) -> int:
        """The process that the network is."""
        size = struct.calcsize("3i")
        told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack("3i", told)[0])

    def send(self, host: str, frame: bytes) -> list[Delivery]:
        """Send a frame and run the network until nothing moves; what hosts received."""
        return self._deliveries({"send": [host, frame.hex()]})

    def advance(self, us: int) -> list[Delivery]:
        """Let time pass; what hosts received meanwhile."""
        return self._deliveries({"advance": us})

    def restart(self, device: str) -> None:
        """Start a switch or worker again, empty."""
        self._ask({"restart": device})

    def ended(self) -> None:
        """Wait until the network has ended."""
        while self._answers.readline():
            pass

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def _deliveries(self, request: Answer) -> list[Delivery]:
        told = self._ask(request)["deliveries"]
        return [Delivery(host, bytes.fromhex(frame), at_us) for host, frame, at_us in told]

    def _ask(self, request: Answer) -> dict[str, Any]:
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except OSError as error:
            raise NetworkError(f"{self._path}: {error.strerror}") from error
        if not line:
            raise NetworkError(f"{self._path}: the network in memory has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NetworkError(str(answer["error"]))
        return answer
