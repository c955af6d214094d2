"""The fast engine with its ports, in the process of a device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from orchestrator.softswitch.fast.engine import FastEngine
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.links import link_states
from servernf.host.privileges import confine

_LOG = logging.getLogger(__name__)


class FastRunning:
    """To be made while this is root: its process opens the ports, then becomes `user`, too.

    `switch` are the arguments of `FastSwitch`. A process that ends by itself ends this one: its entries
    are lost, and who started this starts it again.
    """

    def __init__(self, interfaces: Mapping[int, str], user: int | None, **switch: Any) -> None:
        self._ended = threading.Event()
        self._failed = False
        made = FastSwitch(**switch)
        made.open(interfaces, user or 0)
        made.port_states = link_states(interfaces)
        if user is not None:
            confine()
        self.engine = FastEngine(made, self._end)

    def _end(self) -> None:
        self._failed = not self._ended.is_set()
        self._ended.set()

    def run(self) -> int:
        """Until `stop`, or the end of the process that moves packets: then 1."""
        self.engine.start()
        self._ended.wait()
        if self._failed:
            _LOG.error("the engine's process is gone: %s", self.engine.switch.child.last_words())
        return int(self._failed)

    def stop(self) -> None:
        """End `run`; a signal handler may call it."""
        self._ended.set()

    def close(self) -> None:
        self.engine.switch.close()
