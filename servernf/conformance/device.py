"""The worker under test: its API, and the wire that its frames come and go by."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import grpc

from servernf.host.framepipe import FramePipe
from servernf.host.packetio import PacketSocket
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.wire import nsh
from servernf.wire.addresses import mac_text
from servernf.wire.errors import EnvironmentMissing, ReportedError

GRAPH = "conformance"
NEXT = 0x0200_0002_0000
"""The MAC that chains leave to."""
MARKER_IN, MARKER_OUT = 1, 2
"""SPIs of a path that lets everything pass: behind it nothing that was sent before is under way."""
WAIT_S = 60.0
"""How long a frame that must come may take: an end to waiting, not a measure."""


class NotConforming(ReportedError):
    """What a runtime did, and what it should have done."""


class FrameWire(Protocol):
    """Where frames to and from the worker pass."""

    def fileno(self) -> int: ...
    def recv_batch(self) -> list[bytes]: ...
    def send_batch(self, frames: Sequence[bytes]) -> int: ...
    def close(self) -> None: ...


def listen(path: Path) -> socket.socket:
    """A Unix socket for a worker with `--frames PATH`."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        door.bind(str(path))
    except OSError as error:
        door.close()
        raise EnvironmentMissing(f"--frames {path}: {error.strerror}") from None
    door.listen(1)
    return door


def accept(door: socket.socket) -> FrameWire:
    """The worker that connects; the socket is closed."""
    with door:
        door.settimeout(WAIT_S)
        try:
            connected, _ = door.accept()
        except TimeoutError:
            raise EnvironmentMissing(f"--frames: no worker connects within {WAIT_S:g} s") from None
    return FramePipe(connected)


def interface(name: str) -> FrameWire:
    """The other end of a worker's interface."""
    try:
        return PacketSocket(name)
    except OSError as error:
        raise EnvironmentMissing(f"--interface {name}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Left:
    """A frame that came from the worker: what its tag says, and the frame without it."""

    tag: nsh.Tag
    frame: bytes


class WorkerUnderTest:
    """A worker; calls are made by an election id above all before."""

    def __init__(self, api: str, wire: FrameWire) -> None:
        self.wire = wire
        self.election = time.time_ns()
        self._channel = grpc.insecure_channel(api)
        self.stub = vnf_pb2_grpc.VnfStub(self._channel)
        try:
            status = self.stub.getStatus(vnf.StatusRequest(), timeout=WAIT_S, wait_for_ready=True)
        except grpc.RpcError as error:
            self._channel.close()
            raise EnvironmentMissing(f"--api {api}: {details(error)}") from None
        self.mac: int = status.mac
        self.nf_types = tuple(status.nf_types)
        self._came: list[bytes] = []
        self._markers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.change(self.stub.removeGraph, vnf.RemoveGraphRequest(graph=GRAPH))
        self._channel.close()
        self.wire.close()

    def change(self, method: Any, request: Any, election: bytes | None = None) -> Any:
        """A call that changes the worker."""
        said = self.election.to_bytes(16) if election is None else election
        return method(request, timeout=WAIT_S, metadata=[("election-id-bin", said)])

    def begin(self) -> None:
        """Nothing is there but the marker's path."""
        self.change(self.stub.removeGraph, vnf.RemoveGraphRequest(graph=GRAPH))
        through = vnf.NfConfig(
            name=f"{GRAPH}/marker", type="acl", config_json='{"rules": [], "default": "permit"}'
        )
        self.change(self.stub.configure, vnf.ConfigureRequest(graph=GRAPH, nfs=[through]))
        self.chain("marker", MARKER_IN, "inside", "outside", MARKER_OUT)

    def chain(self, nf: str, spi: int, entered: str, left: str, spi_out: int) -> None:
        """Frames of `spi` enter an NF by a port; those that leave by another one get `spi_out`."""
        request = vnf.ServiceChainRequest(
            nf=f"{GRAPH}/{nf}",
            scope=vnf.Scope(spi=spi, si=255, in_port=entered, out_port=left),
            next=[vnf.Hop(exit=vnf.ExitHop(dst_mac=NEXT, spi=spi_out, si=254))],
        )
        self.change(self.stub.serviceChain, request)

    def send(self, frame: bytes, spi: int, **tag: int) -> None:
        """Send a frame of a path to the worker."""
        self.raw(nsh.encode(nsh.Tag(self.mac, NEXT, spi, 255, **tag), frame))

    def raw(self, frame: bytes) -> None:
        """Send bytes to the worker."""
        if self.wire.send_batch([frame]) != 1:
            raise EnvironmentMissing("a frame could not be sent to the worker")

    def receive(self, count: int) -> list[Left]:
        """Frames from the worker: so many, and those that come before a marker sent behind them."""
        received = [self._next() for _ in range(count)]
        self._markers += 1
        marker = self._markers.to_bytes(64)
        self.send(marker, MARKER_IN)
        while (left := self._next()).frame != marker:
            received.append(left)
        return received

    def _next(self) -> Left:
        end = time.monotonic() + WAIT_S
        while True:
            while not self._came:
                if not select.select([self.wire], [], [], max(0.0, end - time.monotonic()))[0]:
                    raise NotConforming(f"no frame comes within {WAIT_S:g} s")
                self._came += self.wire.recv_batch()
            decoded = nsh.decode(self._came.pop(0))
            if decoded is None or decoded[0].dst_mac != NEXT:
                continue  # an interface says things of its own
            tag, frame = decoded
            if tag.src_mac != self.mac:
                raise NotConforming(
                    f"a frame's source is {mac_text(tag.src_mac)}, not the worker's MAC"
                )
            return Left(tag, frame)

    def metrics(self) -> dict[str, int]:
        """Counters by name."""
        return dict(self.stub.queryMetrics(vnf.MetricsRequest(), timeout=WAIT_S).metrics)

    def status(self) -> vnf.Status:
        """What the worker says that it runs."""
        return self.stub.getStatus(vnf.StatusRequest(), timeout=WAIT_S)


def is_unimplemented(error: Exception) -> bool:
    """Whether a call was refused because the worker says that it has no such thing."""
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNIMPLEMENTED


def details(error: Exception) -> str:
    """The code and the text of a call's error."""
    if not isinstance(error, grpc.Call):
        return str(error)
    return f"{error.code().name}: {error.details()}"
