"""The fast engine in the process of a device: with its ports, and a process that compiles programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from orchestrator.softswitch.fast.building import runtime
from orchestrator.softswitch.fast.engine import FastEngine
from orchestrator.softswitch.fast.plain import reader
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.links import link_states
from orchestrator.softswitch.verifier import Verifier
from servernf.host.cache import make_folder_for
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
        if user is not None:
            make_folder_for(user)
        runtime()
        reader(sanitized=False)
        made = FastSwitch(**switch)
        self._verifier = Verifier(made.verify_config, user)
        try:
            made.open(interfaces, user or 0)
            made.port_states = link_states(interfaces)
            if user is not None:
                confine()
        except BaseException:
            self._verifier.close()
            raise
        self.engine = FastEngine(made, self._verifier, self._end)

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
        self._verifier.close()
        self.engine.switch.close()
