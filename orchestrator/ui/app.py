"""The page's questions over HTTP: JSON in, what commands print out; long work as server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from orchestrator.errors import InputError, ReportedError
from orchestrator.ui.feed import Feed, Subscription
from orchestrator.ui.questions import (
    EntriesQuestion,
    PacketQuestion,
    Planned,
    Q,
    SamplesQuestion,
    Supposed,
    TraceQuestion,
    question,
)
from orchestrator.ui.source import PageSource, Tell, Told

_ALIVE_S = 15.0
"""How often a stream says something, so that whoever left is noticed."""
_JOBS = 2
"""Long work at once."""
STATIC = Path(str(resources.files("orchestrator.ui") / "static"))


class Cancelled(Exception):
    """Nobody waits for the work any more."""


def make_app(source: PageSource, feed: Feed, *, writes: bool) -> Starlette:
    """The application; `writes`: whether it may deploy and send packets."""
    api = _Api(source, feed, writes)
    routes = [
        Route("/", _page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/about", api.about),
        Route("/api/network", api.asked(source.network)),
        Route("/api/graphs", api.asked(source.graphs)),
        Route("/api/rules", api.asked(source.rules)),
        Route("/api/events", api.asked(source.events)),
        Route("/api/entries", api.answered(EntriesQuestion, source.entries), methods=["POST"]),
        Route("/api/explain", api.answered(PacketQuestion, source.explain), methods=["POST"]),
        Route("/api/samples", api.answered(SamplesQuestion, source.samples), methods=["POST"]),
        Route("/api/synthesis/{graph}", api.synthesis),
        Route("/api/plan", api.worked(Planned, source.plan), methods=["POST"]),
        Route("/api/whatif", api.worked(Supposed, source.whatif), methods=["POST"]),
        Route("/api/stream", api.stream),
    ]
    if writes:
        routes += [
            Route("/api/trace", api.answered(TraceQuestion, source.trace), methods=["POST"]),
            Route(
                "/api/deploy",
                api.worked(Planned, source.deploy, to_its_end=True),
                methods=["POST"],
            ),
        ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        feed.start()
        yield
        feed.stop()
        api.ending.set()

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={ReportedError: _refused})
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    return app


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ReportedError)
    status = 400 if isinstance(error, InputError) else 502
    return JSONResponse(_problem(error), status_code=status)


def _problem(error: ReportedError) -> Told:
    return {"error": str(error), "exit_code": error.exit_code}


def _response(told: Told) -> Response:
    return Response(_document(told), media_type="application/json")


def _document(told: Told) -> str:
    return json.dumps(told, default=str)


def _event(what: str, document: str) -> str:
    return f"event: {what}\ndata: {document}\n\n"  # json.dumps writes no line ends


class _Api:
    def __init__(self, source: PageSource, feed: Feed, writes: bool) -> None:
        self._source, self._feed, self._writes = source, feed, writes
        self._jobs = asyncio.Semaphore(_JOBS)
        self.ending = asyncio.Event()

    async def about(self, _: Request) -> Response:
        """What this page is of, and what may be done."""
        return _response(
            {
                "kind": self._source.kind,
                "name": self._source.name,
                "writes": self._writes,
                "files": [str(file) for file in self._source.files],
            }
        )

    def asked(self, answer: Callable[[], Told]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that asks nothing more."""

        async def endpoint(_: Request) -> Response:
            return await asyncio.to_thread(lambda: _response(answer()))

        return endpoint

    def answered(
        self, kind: type[Q], answer: Callable[[Q], Told]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint with a question."""

        async def endpoint(request: Request) -> Response:
            asked = question(kind, await request.body())
            return await asyncio.to_thread(lambda: _response(answer(asked)))

        return endpoint

    async def synthesis(self, request: Request) -> Response:
        """Of a graph that is there."""
        graph = str(request.path_params["graph"])
        return await asyncio.to_thread(lambda: _response(self._source.synthesis(graph)))

    def worked(
        self, kind: type[Q], work: Callable[[Q, Tell], Told], *, to_its_end: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint whose work tells how far it is, and ends with whoever asked.

        `to_its_end`: it does not, since half of it would be worse than none.
        """

        async def endpoint(request: Request) -> Response:
            asked = question(kind, await request.body())
            events = self._work(lambda tell: work(asked, tell), to_its_end)
            return StreamingResponse(events, media_type="text/event-stream")

        return endpoint

    async def _work(self, work: Callable[[Tell], Told], to_its_end: bool) -> AsyncIterator[str]:
        loop, left = asyncio.get_running_loop(), threading.Event()
        events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def tell(what: str, done: int, of: int) -> None:
            if left.is_set() and not to_its_end:
                raise Cancelled
            document = _document({"what": what, "done": done, "of": of})
            loop.call_soon_threadsafe(events.put_nowait, ("progress", document))

        def run() -> tuple[str, str]:
            try:
                return "result", _document(work(tell))
            except ReportedError as error:
                return "error", _document(_problem(error))

        async def job() -> None:
            try:
                async with self._jobs:
                    end = await asyncio.to_thread(run)
            except Cancelled:
                return
            except Exception:
                await events.put(("error", _document({"error": "the work failed: see the server"})))
                raise
            await events.put(end)

        task = asyncio.create_task(job())
        try:
            what = ""
            while what not in ("result", "error"):
                try:
                    what, document = await asyncio.wait_for(events.get(), _ALIVE_S)
                except TimeoutError:
                    yield ": at it\n\n"
                    continue
                yield _event(what, document)
        finally:
            left.set()
            if not to_its_end:
                task.add_done_callback(_forgotten)

    async def stream(self, _: Request) -> Response:
        """Conditions, counters and news as they come."""
        subscription = Subscription(asyncio.get_running_loop())

        async def events() -> AsyncIterator[str]:
            self._feed.subscribe(subscription)
            try:
                yield ": welcome\n\n"
                while not self.ending.is_set():
                    for what, document in await subscription.next(_ALIVE_S):
                        yield _event(what, document)
                    yield ":\n\n"
            finally:
                self._feed.unsubscribe(subscription)

        return StreamingResponse(events(), media_type="text/event-stream")


def _forgotten(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
