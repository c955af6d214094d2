"""gRPC calls under way that another thread can end, because it knows that nobody will answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import grpc

from orchestrator.errors import ReportedError

_Result = TypeVar("_Result")


class Pending(Generic[_Result]):
    """A call whose answer is waited for later."""

    def __init__(self, calls: Calls, future: Any) -> None:
        self._calls, self._future = calls, future

    def result(self) -> _Result:
        """Wait for it; grpc.RpcError when it failed, the error of its device when that has died."""
        with self._calls.watched(self._future):
            return self._future.result()


class Calls:
    """The calls to one device; `error` makes what is raised in those that were ended."""

    def __init__(self, error: Callable[[str], ReportedError]) -> None:
        self._error = error
        self._open: set[Any] = set()
        self.ended = ""
        """Why no call is waited for any more; empty: they are."""

    def end(self, why: str) -> None:
        """End what is under way and what is to come; from any thread."""
        self.ended = why
        for call in list(self._open):
            call.cancel()

    def answer(self, future: Any) -> Any:
        """Wait for the answer to a call (`method.future`), as `Pending.result`."""
        return Pending[Any](self, future).result()

    def stream(self, call: Any) -> Iterator[Any]:
        """The messages of an answer, as they come; raises as `Pending.result`."""
        with self.watched(call):
            yield from call

    @contextmanager
    def watched(self, call: Any) -> Generator[None]:
        """Errors of a call in the block are those of the device, if it was ended."""
        self._open.add(call)
        if self.ended:  # it has come in between
            call.cancel()
        try:
            yield
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if self.ended:
                raise self._error(self.ended) from error
            raise
        finally:
            self._open.discard(call)
