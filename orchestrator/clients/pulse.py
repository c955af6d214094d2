"""A device asked again and again whether it answers, without waiting for the answer.

Each pulse has a channel of its own that tries to reconnect soon: one that is back is heard at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import grpc
from finsy.proto import p4r, p4r_grpc

from orchestrator.clients.channel import TlsFiles, open_channel
from servernf.proto import agent_pb2, agent_pb2_grpc, vnf_pb2, vnf_pb2_grpc

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_NOBODY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Told = Callable[[str], None]
"""Hears once what came of a question: nothing (it answered), or why there is no answer."""
_Method = Callable[[grpc.Channel], Any]


class Pulse:
    """The questions to one device. `check` says what is wrong with an answer, nothing if all is well."""

    def __init__(
        self,
        address: str,
        tls: TlsFiles | None,
        method: _Method,
        request: object,
        check: Callable[[Any], str] = lambda _: "",
    ) -> None:
        self._address, self._tls = address, tls
        self._method, self._request, self._check = method, request, check
        self._stale = False
        self._open()

    @classmethod
    def of_pipeline(cls, address: str, tls: TlsFiles | None) -> Self:
        """A device that speaks P4Runtime is asked for its capabilities: any answer will do."""
        method: _Method = lambda channel: p4r_grpc.P4RuntimeStub(channel).Capabilities  # noqa: E731
        return cls(address, tls, method, p4r.CapabilitiesRequest())

    @classmethod
    def of_worker(cls, address: str, tls: TlsFiles | None, name: str) -> Self:
        """A worker is asked for its status (getStatus): another one in its place is no answer."""
        method: _Method = lambda channel: vnf_pb2_grpc.VnfStub(channel).getStatus  # noqa: E731
        return cls(address, tls, method, vnf_pb2.StatusRequest(), _is(name))

    @classmethod
    def of_agent(cls, address: str, tls: TlsFiles | None, name: str) -> Self:
        """A server's agent is asked to describe itself: another one in its place is no answer."""
        method: _Method = lambda channel: agent_pb2_grpc.AgentStub(channel).describe  # noqa: E731
        return cls(address, tls, method, agent_pb2.DescribeRequest(), _is(name))

    def ask(self, wait_s: float, told: Told) -> None:
        """Ask; `told` is called from another thread, `wait_s` later at the latest."""
        if self._stale:
            self.close()
            self._open()
        future = self._call.future(self._request, timeout=wait_s)
        future.add_done_callback(lambda done: told(self._outcome(done)))

    def close(self) -> None:
        """End the channel: open questions are answered by that."""
        self._channel.close()

    def _open(self) -> None:
        self._stale = False
        self._channel = open_channel(self._address, self._tls, _OPTIONS)
        self._call = self._method(self._channel)

    def _outcome(self, done: Any) -> str:
        try:
            return self._check(done.result())
        except grpc.FutureCancelledError:
            return "it is asked no longer"
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._stale = True  # its connection may lead nowhere
                return f"no answer from {self._address}"
            return f"nothing listens at {self._address}" if code in _NOBODY else ""


def _is(name: str) -> Callable[[vnf_pb2.Status | agent_pb2.Description], str]:
    """Whether it is the one of this name that answers; who else it is."""
    return lambda status: (
        "" if status.name == name else f"{status.name or 'something else'} answers there"
    )
