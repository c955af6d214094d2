"""A controller of a softswitch, on raw P4Runtime messages."""

from __future__ import annotations

import queue
from typing import Any

import grpc
from finsy.proto import p4r, p4r_grpc
from softswitch_support import PROGRAMS, p4info

Config = p4r.SetForwardingPipelineConfigRequest
TIMEOUT = 120


class Controller:
    """A P4Runtime client on raw messages."""

    def __init__(self, address: str, election_id: int, device_id: int = 1) -> None:
        self.channel = grpc.insecure_channel(address)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)
        self.election_id = election_id
        self.requests: queue.Queue[p4r.StreamMessageRequest | None] = queue.Queue()
        self.stream: Any = self.stub.StreamChannel(iter(self.requests.get, None))
        self.arbitrate(election_id, device_id)

    def arbitrate(self, election_id: int, device_id: int = 1) -> None:
        request = p4r.StreamMessageRequest()
        request.arbitration.device_id = device_id
        request.arbitration.election_id.high = election_id >> 64
        request.arbitration.election_id.low = election_id & (1 << 64) - 1
        self.election_id = election_id
        self.requests.put(request)

    def next(self) -> p4r.StreamMessageResponse:
        return next(self.stream)

    def id(self) -> p4r.Uint128:
        return p4r.Uint128(high=self.election_id >> 64, low=self.election_id & (1 << 64) - 1)

    def config(self, action: int = Config.VERIFY_AND_COMMIT, name: str = "router") -> Config:
        request = Config(device_id=1, election_id=self.id(), action=action)  # type: ignore[arg-type]
        request.config.p4info.CopyFrom(p4info(name))
        request.config.p4_device_config = (PROGRAMS / f"{name}.json").read_bytes()
        request.config.cookie.cookie = 42
        return request

    def set_config(self, action: int = Config.VERIFY_AND_COMMIT, name: str = "router") -> None:
        self.stub.SetForwardingPipelineConfig(self.config(action, name), timeout=TIMEOUT)

    def write(self, *updates: p4r.Update) -> None:
        self.stub.Write(
            p4r.WriteRequest(device_id=1, election_id=self.id(), updates=updates), timeout=TIMEOUT
        )

    def read(self, entity: p4r.Entity) -> list[p4r.ReadResponse]:
        return list(
            self.stub.Read(p4r.ReadRequest(device_id=1, entities=[entity]), timeout=TIMEOUT)
        )

    def close(self) -> None:
        self.requests.put(None)
        self.channel.close()
