"""A gRPC proxy that fails, delays or cuts calls, by a seed: real TCP on both sides.

What happens to the n-th call of a device depends on seed, device and n only. Streams count as calls, and
are cut with everything else that is under way on the device.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from signed import ELECTION_ID

_CODES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)
_KINDS = ("refused", "lost", "delayed", "cut", "down")
_WEIGHTS = (4, 4, 4, 2, 1)
_STREAM = "/StreamChannel"
_SERVER_STREAM = "/Read"


@dataclass
class Faults:
    """What shall go wrong: of each call by `share`, from 0 to 1; `happened` counts it."""

    seed: int = 0
    share: float = 0.0
    happened: Counter[str] = field(default_factory=Counter[str])

    def of(self, device: str, call: int) -> tuple[str, random.Random]:
        """What happens to a call; "": nothing."""
        chance = random.Random(f"{self.seed}/{device}/{call}")
        if chance.random() >= self.share:
            return "", chance
        kind = chance.choices(_KINDS, _WEIGHTS)[0]
        self.happened[kind] += 1
        return kind, chance


class Proxy(grpc.GenericRpcHandler):
    """Between a controller and one device."""

    def __init__(self, device: str, upstream: str, faults: Faults) -> None:
        self._device, self._faults = device, faults
        self._lock = threading.Lock()
        self._calls = 0
        self._down = False
        self._running: set[grpc.ServicerContext] = set()
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(upstream, options)
        self._server = grpc.server(ThreadPoolExecutor(64), options=options)
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def renew(self) -> None:
        """The device is well again, and its calls are counted anew."""
        with self._lock:
            self._calls, self._down = 0, False

    def close(self) -> None:
        """End the proxy, not the device."""
        self._server.stop(0).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """A handler that passes bytes on."""
        method = handler_call_details.method
        if method.endswith(_STREAM):
            return grpc.stream_stream_rpc_method_handler(self._stream(method))
        if method.endswith(_SERVER_STREAM):
            return grpc.unary_stream_rpc_method_handler(self._answers(method))
        return grpc.unary_unary_rpc_method_handler(self._answer(method))

    # -- the three kinds of call ---------------------------------------------------------------

    def _answer(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        upstream = self._channel.unary_unary(method)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            kind, chance = self._fate(context)
            try:
                answer = upstream(
                    request, timeout=context.time_remaining(), metadata=_election(context)
                )
            except grpc.RpcError as error:
                self._pass_on(error, context)
            if kind == "lost":
                context.abort(chance.choice(_CODES), "the answer is lost")
            return answer

        return self._tracked(call)

    def _answers(self, method: str) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        upstream = self._channel.unary_stream(method)

        def call(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            kind, chance = self._fate(context)
            try:
                yield from upstream(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                self._pass_on(error, context)
            if kind == "lost":
                context.abort(chance.choice(_CODES), "the end is lost")

        return call

    def _stream(
        self, method: str
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        upstream = self._channel.stream_stream(method)

        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            self._fate(context)
            with self._lock:
                self._running.add(context)
            answers = upstream(requests)
            context.add_callback(answers.cancel)
            try:
                yield from answers
            except grpc.RpcError as error:
                self._pass_on(error, context)
            finally:
                with self._lock:
                    self._running.discard(context)

        return call

    def _tracked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def tracked(request: bytes, context: grpc.ServicerContext) -> Any:
            with self._lock:
                self._running.add(context)
            try:
                return call(request, context)
            finally:
                with self._lock:
                    self._running.discard(context)

        return tracked

    # -- faults --------------------------------------------------------------------------------

    def _fate(self, context: grpc.ServicerContext) -> tuple[str, random.Random]:
        with self._lock:
            self._calls += 1
            number = self._calls
        kind, chance = self._faults.of(self._device, number)
        self._down = self._down or kind == "down"
        if self._down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the device is down")
        if kind == "refused":
            context.abort(chance.choice(_CODES), "the call is refused")
        if kind == "cut":
            self._cut(context)
        if kind == "delayed":
            time.sleep(chance.uniform(0.005, 0.1))
        return kind, chance

    def _cut(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            running = list(self._running)
        for each in running:
            if each is not context:
                with suppress(Exception):
                    each.cancel()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is cut")

    def _pass_on(self, error: grpc.RpcError, context: grpc.ServicerContext) -> None:
        assert isinstance(error, grpc.Call)
        context.set_trailing_metadata(error.trailing_metadata() or ())
        context.abort(error.code(), error.details())


def _election(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    """The election id that a changing call to a worker says."""
    return [(key, value) for key, value in context.invocation_metadata() if key == ELECTION_ID]
