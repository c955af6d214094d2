"""The Python engine in the process of a device: with its ports, and a process that verifies programs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from orchestrator.softswitch.links import link_states
from orchestrator.softswitch.ports import PortLoop, open_ports
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.softswitch.verifier import Verifier
from servernf.host.privileges import confine


class PythonRunning:
    """To be made before there are threads; who becomes `user` later does that itself.

    `switch` are the arguments of `SoftSwitch`.
    """

    def __init__(self, interfaces: Mapping[int, str], user: int | None, **switch: Any) -> None:
        limits = {name: switch[name] for name in ("drop_port", "queues")}
        self._verifier = Verifier(SoftSwitch(**limits).prepare, user)
        try:
            if user is not None:
                confine()
            ports = open_ports(interfaces)
            made = SoftSwitch(clock=time.monotonic_ns, **switch)
            self._loop = PortLoop(made, ports)
        except BaseException:
            self._verifier.close()
            raise
        made.port_states = link_states(interfaces)
        self.engine = PythonEngine(made, self._verifier, self._loop.drops)

    def run(self) -> int:
        """Move packets until `stop`."""
        self._loop.run()
        return 0

    def stop(self) -> None:
        """End `run`; a signal handler may call it."""
        self._loop.stop()

    def close(self) -> None:
        self._verifier.close()
        self._loop.close()
