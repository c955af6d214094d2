"""The data path's loop: wait, take a batch of frames, run it to completion, send the rest."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Protocol

from servernf.python.runtime.worker import Worker

IDLE_FLUSH_S = 1.0


class FrameSocket(Protocol):
    """What the loop needs of `servernf.host.packetio.PacketSocket`."""

    batch: int

    def fileno(self) -> int: ...
    def recv_batch(self) -> list[bytes]: ...
    def send_batch(self, frames: Sequence[bytes]) -> int: ...


def run(worker: Worker, frames: FrameSocket, wake: int) -> None:
    """Until the file descriptor `wake` is readable. An idle worker costs nothing."""
    poller = select.epoll()
    port = frames.fileno()
    poller.register(port, select.EPOLLIN)
    poller.register(wake, select.EPOLLIN)
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    poller.register(bell, select.EPOLLIN)
    worker.jobs.attend(lambda: os.eventfd_write(bell, 1))
    worker.load.attend()
    recorded = 0
    try:
        while True:
            wait_s = IDLE_FLUSH_S if recorded != worker.shim.recorded else -1
            held_us = worker.wait_us()
            if held_us is not None:  # epoll rounds up to its milliseconds: never too early
                wait_s = held_us / 1e6 if wait_s < 0 else min(wait_s, held_us / 1e6)
            due_us = worker.shim.due_us()
            if due_us is not None:
                wait_s = due_us / 1e6 if wait_s < 0 else min(wait_s, due_us / 1e6)
            ready = poller.poll(wait_s)
            if any(fd == wake for fd, _ in ready):
                return
            if any(fd == bell for fd, _ in ready):
                os.eventfd_read(bell)
                worker.jobs.run()
                held_us = worker.wait_us()
            if not ready and held_us is None and due_us is None:
                worker.shim.flush()
                recorded = worker.shim.recorded
                continue
            batch = frames.recv_batch() if any(fd == port for fd, _ in ready) else []
            if batch:
                worker.load.took(len(batch), frames.batch)
            if batch or held_us is not None:
                out = worker.process(batch)
                if out:
                    frames.send_batch(out)
            worker.shim.settle_if_due()
    finally:
        worker.jobs.attend(None)
        worker.load.leave()
        os.close(bell)
        poller.close()
