"""Sessions with the devices of a transaction, of which only so many are open at once.

A session holds a stream, and that takes three threads which wake several times a second: a thousand of
them would do little else. So the one that was not used for longest is closed when there are too many,
and opened again when its device's turn comes. Whoever is primary by an earlier term, or by the clock,
cannot come in between for good: a session that is opened again has a higher election id, and that of a
later term a higher one still.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from orchestrator.deployment.drivers import NetworkDriver, PipelineDriver

MOST = 64


class DeviceSessions:
    """Of one thread a device at a time; close them with `with`."""

    def __init__(self, network: NetworkDriver, most: int = MOST) -> None:
        self._network, self._most = network, most
        self._idle: dict[str, tuple[PipelineDriver, ExitStack]] = {}
        """Open and not in use, the one that was used last at the end."""
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def __enter__(self) -> DeviceSessions:
        return self

    def __exit__(self, *_: object) -> None:
        self._shrink(0)

    @contextmanager
    def use(self, device: str) -> Generator[PipelineDriver]:
        """The session with a device; SwitchError when it cannot be opened."""
        with self._lock:
            session = self._idle.pop(device, None)
        if session is None:
            stack = ExitStack()
            session = stack.enter_context(self._network.device(device)), stack
        try:
            yield session[0]
        finally:
            with self._lock:
                self._idle[device] = session
            self._shrink(self._most)

    @contextmanager
    def alone(self, device: str) -> Generator[PipelineDriver]:
        """As `use`, one after the other, for what belongs to no device's steps."""
        with self._turn, self.use(device) as driver:
            yield driver

    def _shrink(self, most: int) -> None:
        while True:
            with self._lock:
                if len(self._idle) <= most:
                    return
                _, stack = self._idle.pop(next(iter(self._idle)))
            stack.close()
