"""Work for many items in processes of this machine, which end at once when it is interrupted.

concurrent.futures would finish what is queued before it lets the interpreter end, and may wait for ever
for processes that were killed (python/cpython#94777); here an item is handed out only to who is free.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from orchestrator.errors import ReportedError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Generator[Result]:
    """Results as they come; closing the generator, Ctrl-C or an error kills what is still running.

    An exception of `work` is raised here. ReportedError when a process dies, as by lack of memory.
    """
    workers: dict[Connection, BaseProcess] = {}
    left = list(reversed(items))
    try:
        for _ in range(min(processes, len(items))):
            connection, process = _start(work)
            workers[connection] = process
            connection.send(left.pop())
        busy = set(workers)
        while busy:
            for ready in cast("list[Connection]", wait(list(busy))):
                result = _received(ready, workers[ready])
                if left:
                    ready.send(left.pop())
                else:
                    busy.discard(ready)
                yield result
    finally:
        for connection, process in workers.items():
            connection.close()
            process.kill()
            process.join()


def _start(work: Callable[[Any], object]) -> tuple[Connection, BaseProcess]:
    context = get_context()
    ours, theirs = context.Pipe()
    # The child keeps Ctrl-C blocked from its first instruction on: this process decides what it means.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        process.start()
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ours, process


def _serve(work: Callable[[Any], object], connection: Connection) -> None:
    """A process: results of the items that come, until its parent closes the pipe or ends."""
    parent = parent_process()
    sentinels = [] if parent is None else [parent.sentinel]
    while True:
        if connection not in wait([connection, *sentinels]):
            return
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            answer = True, work(item)
        except Exception as error:
            answer = False, error
        connection.send(answer)


def _received(connection: Connection, process: BaseProcess) -> Any:
    try:
        done, value = connection.recv()
    except (EOFError, ConnectionError):
        process.join()
        how = process.exitcode or 0
        text = f"signal {-how} ({signal.Signals(-how).name})" if how < 0 else f"exit code {how}"
        raise ReportedError(f"a process that computes scenarios ended by {text}") from None
    if not done:
        raise value
    return value
