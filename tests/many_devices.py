"""Many P4Runtime devices in few processes: the real server, over engines that only keep entries.

`python tests/many_devices.py FIRST COUNT FOLDER` serves devices FIRST, FIRST + 1, ... each on a port of
its own, reads who is wired to whom as a JSON line, and prints their addresses as another one. They check
no entry against P4Info and share what is equal of their pipelines, so that a thousand of them fit beside
the controller. They process no packet: one that the controller sends out of a port goes to the
controller of the device that is wired to it, as from a switch that is told to sample all.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4i, p4r, p4r_grpc, rpc_code

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from orchestrator.clients.identity import identify  # noqa: E402
from orchestrator.softswitch.engine import EngineEvents  # noqa: E402
from orchestrator.softswitch.entity_errors import EntityError, WriteError  # noqa: E402
from orchestrator.softswitch.service import P4RuntimeService  # noqa: E402

A_PROCESS = 250
"""Devices of one process: each stream takes two of its threads."""
_KINDS = ("multicast_group_entry", "clone_session_entry", "")
_CALLS = (
    *("Write", "Read", "SetForwardingPipelineConfig", "GetForwardingPipelineConfig"),
    "StreamChannel",
)
_ARRIVES = struct.Struct("!QH")
"""In front of a frame between processes: the device and the port where it arrives."""
_FRAME_BYTES = 1 << 14

End = tuple[int, int]
"""(device id, port)."""


class KeepingEngine:
    """Entities by place (a table, or the kind of another entity) and identity, serialised.

    `send` carries a frame that leaves by a port.
    """

    def __init__(self, device_id: int, send: Callable[[End, bytes], None]) -> None:
        self.device_id = device_id
        self.target = "softswitch"
        self.configured = False
        self.entities: defaultdict[int | str, dict[bytes, bytes]] = defaultdict(dict)
        self._send = send
        self._events: EngineEvents | None = None
        self._egress = self._ingress = 0
        """Ids of the ports in packets' metadata."""

    def connect(self, events: EngineEvents) -> None:
        self._events = events

    def verify(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Any will do."""

    def save(self, config: p4r.ForwardingPipelineConfig) -> None:
        """The service keeps it."""
        self._egress = _metadata_id(config.p4info, "packet_out", "egress_port")
        self._ingress = _metadata_id(config.p4info, "packet_in", "ingress_port")

    def commit(self) -> None:
        self.entities.clear()
        self.configured = True

    def reconcile(self) -> None:
        self.configured = True

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        admit()
        errors = [self._apply(update.type, update.entity) for update in updates]
        if any(errors):
            raise WriteError(errors)

    def _apply(self, kind: Any, entity: p4r.Entity) -> EntityError | None:
        kept = self.entities[_place(entity)]
        identity, data = identify(entity)
        there = identity in kept
        if there == (kind == p4r.Update.INSERT):
            code = rpc_code.ALREADY_EXISTS if there else rpc_code.NOT_FOUND
            return EntityError(code, "it is there" if there else "it is not there")
        if kind == p4r.Update.DELETE:
            del kept[identity]
        else:
            kept[identity] = data
        return None

    def read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        for asked in entities:
            if asked.table_entry.is_default_action:
                continue
            places = (
                [place]
                if (place := _place(asked))
                else [p for p in self.entities if p not in _KINDS]
            )
            for kept in [kept for p in places for kept in list(self.entities[p].values())]:
                copy = p4r.Entity.FromString(kept)
                if asked.table_entry.HasField("counter_data"):
                    copy.table_entry.counter_data.SetInParent()
                yield copy

    def packet_out(self, packet: p4r.PacketOut) -> None:
        for item in packet.metadata:
            if item.metadata_id == self._egress:
                port = int.from_bytes(item.value, "big")
                self._send((self.device_id, port), packet.payload)

    def arrives(self, port: int, frame: bytes) -> None:
        """A frame comes in by a port."""
        if self._events is not None and self.configured:
            packet = p4r.PacketIn(payload=frame)
            packet.metadata.add(metadata_id=self._ingress, value=port.to_bytes(2, "big"))
            self._events.packet_in(packet)

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        """There are none."""

    def tick(self) -> None:
        """Nothing is ever due."""

    def drops(self) -> Mapping[str, int]:
        return {}


def _place(entity: p4r.Entity) -> int | str:
    """Table (0: all of them) or kind."""
    if entity.HasField("table_entry"):
        return entity.table_entry.table_id
    return entity.packet_replication_engine_entry.WhichOneof("type") or ""


def _metadata_id(p4info: p4i.P4Info, header: str, name: str) -> int:
    return next(
        field.id
        for header_info in p4info.controller_packet_metadata
        if header_info.preamble.name == header
        for field in header_info.metadata
        if field.name == name
    )


class Wiring:
    """Wires between devices, also of other processes: each has a socket in one folder."""

    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / str(first)))
        self.ends: dict[End, tuple[int, End]] = {}
        """Where a frame arrives: (the first device of that process, device and port)."""

    def send(self, end: End, frame: bytes) -> None:
        """Carry a frame; what is wired to nothing loses it."""
        if end in self.ends:
            process, there = self.ends[end]
            self._socket.sendto(_ARRIVES.pack(*there) + frame, str(self._folder / str(process)))

    def receive(self, services: Mapping[int, P4RuntimeService]) -> None:
        """Hand on what arrives, for ever."""
        while True:
            data = self._socket.recv(_FRAME_BYTES)
            device, port = _ARRIVES.unpack_from(data)
            engine = services[device].engine
            assert isinstance(engine, KeepingEngine)
            engine.arrives(port, data[_ARRIVES.size :])


class ManyDevices(p4r_grpc.P4RuntimeServicer):
    """The services of many devices behind one, told apart by the device id of a request."""

    def __init__(self, ids: Iterable[int], send: Callable[[End, bytes], None]) -> None:
        self.services = {n: P4RuntimeService(KeepingEngine(n, send)) for n in ids}
        self._configs: dict[bytes, p4r.ForwardingPipelineConfig] = {}
        for service in self.services.values():
            service.remember = partial(self._remember, service)
        for call in _CALLS[:-1]:
            setattr(self, call, partial(self._unary, call))

    def _remember(self, service: P4RuntimeService, config: p4r.ForwardingPipelineConfig) -> None:
        key = config.cookie.SerializeToString()
        service.config = self._configs.setdefault(key, config)

    def _unary(self, call: str, request: Any, context: grpc.ServicerContext) -> Any:
        return getattr(self._service(request.device_id, context), call)(request, context)

    def _service(self, number: int, context: grpc.ServicerContext) -> P4RuntimeService:
        if number not in self.services:
            context.abort(grpc.StatusCode.NOT_FOUND, f"device {number} is not here")
        return self.services[number]

    def Capabilities(
        self, request: p4r.CapabilitiesRequest, context: grpc.ServicerContext
    ) -> p4r.CapabilitiesResponse:
        return p4r.CapabilitiesResponse(p4runtime_api_version="1.4.0")

    def StreamChannel(
        self, request_iterator: Iterator[p4r.StreamMessageRequest], context: grpc.ServicerContext
    ) -> Iterator[p4r.StreamMessageResponse]:
        first = next(request_iterator, None)
        if first is None:
            return
        service = self._service(first.arbitration.device_id, context)

        def all_of_them() -> Iterator[p4r.StreamMessageRequest]:
            yield first
            yield from request_iterator

        yield from service.StreamChannel(all_of_them(), context)


def serve(first: int, count: int, folder: Path) -> None:
    """Serve until SIGTERM, or until whoever started it has gone (standard input ends)."""
    ids = range(first, first + count)
    wiring = Wiring(folder, first)
    wired: list[tuple[End, int, End]] = json.loads(sys.stdin.readline())
    wiring.ends = {tuple(end): (process, tuple(there)) for end, process, there in wired}
    devices = ManyDevices(ids, wiring.send)
    threading.Thread(target=wiring.receive, args=(devices.services,), daemon=True).start()
    server = grpc.server(
        ThreadPoolExecutor(2 * count + 64), options=(("grpc.max_receive_message_length", 32 << 20),)
    )
    p4r_grpc.add_P4RuntimeServicer_to_server(devices, server)
    addresses = {number: f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}" for number in ids}
    server.start()
    print(json.dumps(addresses), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdin.read()
    server.stop(0)


@contextmanager
def many_devices(ids: range, wires: Mapping[End, End] | None = None) -> Generator[dict[int, str]]:
    """The addresses of so many devices by id, in as few processes as serve them."""
    firsts = range(ids.start, ids.stop, A_PROCESS)
    wired = [
        (end, firsts[(there[0] - ids.start) // A_PROCESS], there)
        for end, there in (wires or {}).items()
    ]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wires-"))
        started: list[subprocess.Popen[str]] = []
        for first in firsts:
            count = min(A_PROCESS, ids.stop - first)
            words = [sys.executable, __file__, str(first), str(count), folder]
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdin is not None
            mine = [wire for wire in wired if wire[0][0] in range(first, first + count)]
            process.stdin.write(json.dumps(mine) + "\n")
            process.stdin.flush()
            started.append(process)
        addresses: dict[int, str] = {}
        for process in started:
            assert process.stdout is not None
            told: dict[str, str] = json.loads(process.stdout.readline())
            addresses |= {int(number): address for number, address in told.items()}
        yield addresses


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
