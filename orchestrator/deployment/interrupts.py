"""Ctrl-C that never tears a change of the network in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Generator[Callable[[], None]]:
    """Hold SIGINT back; the function given raises KeyboardInterrupt, in any thread, once it came.

    Undoing is thus never interrupted itself. One that nobody asked for came too late to matter.
    """
    came = threading.Event()

    def hold(number: int, frame: FrameType | None) -> None:
        del number, frame
        came.set()

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, hold) if main else None
    try:
        yield check
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
