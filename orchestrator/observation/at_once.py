"""Many devices asked at once, so that Ctrl-C need not wait for those that do not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

_MOST = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results in order. After a failure, which is raised, or Ctrl-C nothing more is begun.

    Only for what reads: what has begun when Ctrl-C comes is left to itself. Unlike an executor's, these
    threads do not keep the interpreter from ending.
    """
    futures = [(Future[Result](), item) for item in items]
    left: SimpleQueue[tuple[Future[Result], Item]] = SimpleQueue()
    for pair in futures:
        left.put(pair)

    def run() -> None:
        with suppress(Empty):
            while True:
                future, item = left.get_nowait()
                if future.set_running_or_notify_cancel():
                    _fulfil(future, work, item)

    for _ in range(min(_MOST, len(items))):
        threading.Thread(target=run, daemon=True, name="at-once").start()
    try:
        return [future.result() for future, _ in futures]
    except Exception:
        wait([future for future, _ in futures if not future.cancel()])
        raise
    finally:
        for future, _ in futures:
            future.cancel()


def _fulfil(future: Future[Result], work: Callable[[Item], Result], item: Item) -> None:
    try:
        future.set_result(work(item))
    except BaseException as error:
        future.set_exception(error)
