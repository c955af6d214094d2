"""What has come in at switches' ports and at workers, and frames sent out of ports.

Over asyncio, so that many devices take one thread.

Arrivals are counters that devices have anyway: nothing is written, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from finsy.proto import p4i, p4r, p4r_grpc

from orchestrator.clients.channel import TlsFiles, open_async_channel
from orchestrator.clients.encoding import canonical
from orchestrator.clients.p4info import PORTS, short
from servernf.proto import vnf_pb2, vnf_pb2_grpc

_AGAIN_S = 1.0
"""Until a stream that has ended is opened anew."""
_NOBODY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Numbers of a switch's pipeline: the table of ports, and the fields of PacketOut by name."""

    ports: int
    packet_out: Mapping[str, int]


class SwitchArrivals:
    """One switch. `speak` runs as long as frames are to be sent.

    It is primary of a role of its own, beside the controller. A switch without roles (BMv2) takes it
    for the controller that pushes nobody aside: it sends while there is no other.
    """

    def __init__(self, address: str, device_id: int, tls: TlsFiles | None) -> None:
        self._device_id = device_id
        self._channel = open_async_channel(address, tls, _OPTIONS)
        self._stub: Any = p4r_grpc.P4RuntimeStub(self._channel)  # typed for channels that block
        self._layout: _Layout | None = None
        self._stream: Any = None
        self._primary = False

    @property
    def sends(self) -> bool:
        """Whether it would send frames now."""
        return self._primary and self._layout is not None

    async def counts(self, wait_s: float) -> Mapping[int, int]:
        """Frames that have come in, by port; nothing where that is not known."""
        try:
            self._layout = self._layout or await self._learn(wait_s)
            if self._layout is None:
                return {}
            request = p4r.ReadRequest(device_id=self._device_id)
            wanted = request.entities.add().table_entry
            wanted.table_id = self._layout.ports
            wanted.counter_data.SetInParent()
            return {
                int.from_bytes(entry.match[0].exact.value): entry.counter_data.packet_count
                async for response in self._stub.Read(request, timeout=wait_s)
                for entry in (entity.table_entry for entity in response.entities)
                if entry.match
            }
        except grpc.RpcError as error:
            if error.code() not in _NOBODY:  # type: ignore[attr-defined]
                self._layout = None  # another pipeline runs, perhaps
            return {}

    async def send(self, frames: Iterable[tuple[int, bytes]]) -> None:
        """Have it send (port, frame) out; what it does not send it tells nobody.

        Waits as long as the switch takes nothing: giving a write up would end the stream.
        """
        stream, layout = self._stream, self._layout
        if stream is None or layout is None:
            return
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            for port, frame in frames:
                await stream.write(_packet_out(layout, port, frame))

    async def speak(self) -> None:
        """Be primary, if nobody else is; for ever."""
        while True:
            with suppress(grpc.RpcError, asyncio.InvalidStateError):
                await self._speak()
            self._stream, self._primary = None, False
            await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def _speak(self) -> None:
        stream = self._stub.StreamChannel()
        first = p4r.StreamMessageRequest()
        first.arbitration.device_id = self._device_id
        first.arbitration.role.name = f"watch-{secrets.token_hex(4)}"
        first.arbitration.election_id.low = 1
        await stream.write(first)
        self._stream = stream
        async for response in stream:
            if response.HasField("arbitration"):
                self._primary = response.arbitration.status.code == grpc.StatusCode.OK.value[0]

    async def _learn(self, wait_s: float) -> _Layout | None:
        """None where the switch runs no pipeline with such a table."""
        request = p4r.GetForwardingPipelineConfigRequest(
            device_id=self._device_id,
            response_type=p4r.GetForwardingPipelineConfigRequest.P4INFO_AND_COOKIE,
        )
        answer = await self._stub.GetForwardingPipelineConfig(request, timeout=wait_s)
        return _layout(answer.config.p4info)


class WorkerArrivals:
    """One worker of a server."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        channel: Any = open_async_channel(address, tls, _OPTIONS)
        self._channel = channel
        self._stub: Any = vnf_pb2_grpc.VnfStub(channel)

    async def counts(self, wait_s: float) -> Mapping[int, int]:
        """Frames that have come in, as by its port 0; nothing where that is not known."""
        try:
            status = await self._stub.getStatus(vnf_pb2.StatusRequest(), timeout=wait_s)
        except grpc.RpcError:
            return {}
        return {0: status.frames_in}

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()


def _layout(p4info: p4i.P4Info) -> _Layout | None:
    ports = next((t.preamble.id for t in p4info.tables if short(t.preamble.name) == PORTS), None)
    headers = p4info.controller_packet_metadata
    header = next((h for h in headers if h.preamble.name == "packet_out"), None)
    if ports is None or header is None:
        return None
    return _Layout(ports, {field.name: field.id for field in header.metadata})


def _packet_out(layout: _Layout, port: int, frame: bytes) -> p4r.StreamMessageRequest:
    request = p4r.StreamMessageRequest()
    request.packet.payload = frame
    for name, ident in layout.packet_out.items():
        value = port if name == "egress_port" else 0
        request.packet.metadata.add(metadata_id=ident, value=canonical(value))
    return request
