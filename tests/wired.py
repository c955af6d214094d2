"""Softswitches of this process, joined port to port: somebody else's network, without root."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue

from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer, ServerTls
from orchestrator.softswitch.switch import Frame, SoftSwitch

End = tuple[str, int]
"""A switch and one of its ports."""
OFFICE = {
    "name": "office",
    "endpoints": {"left": {"hosts": ["h1"]}, "right": {"hosts": ["h2"]}},
    "nfs": {"nat": {"type": "napt", "config": {"addresses": ["203.0.113.1"]}}},
    "edges": [
        {"from": "left", "to": "nat.inside"},
        {"from": "nat.outside", "to": "right"},
        {"from": "right", "to": "nat.outside"},
        {"from": "nat.inside", "to": "left"},
    ],
    "traffic": [
        {"name": "up", "from": "left", "to": "right", "rate": "1Mbit/s", "packet_size": 500}
    ],
}
"""A graph for such a network, between its hosts h1 and h2, with an NF that needs a server."""


class Wired:
    """The switches by name (their device ids are 1, 2, ... in order) and their P4Runtime servers.

    `wires` joins ends both ways; a frame longer than a wire's limit (bytes) is lost.
    """

    def __init__(
        self, names: tuple[str, ...], wires: Mapping[End, End], tls: Mapping[str, ServerTls]
    ) -> None:
        self.wires = {**wires, **{b: a for a, b in wires.items()}}
        self.limits: dict[End, int] = {}
        self.sinks: dict[End, Callable[[bytes], None]] = {}
        """What is behind ports that lead to no switch."""
        self.switches = {n: SoftSwitch(i, name=n) for i, n in enumerate(names, 1)}
        self.servers = {
            name: P4RuntimeServer(PythonEngine(switch), "127.0.0.1:0", tls.get(name))
            for name, switch in self.switches.items()
        }
        self._frames: SimpleQueue[tuple[str, Frame] | None] = SimpleQueue()
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        for name, switch in self.switches.items():
            switch.transmit = lambda frames, name=name: [
                self._frames.put((name, frame)) for frame in frames
            ]

    def _carry(self) -> None:
        """Sending never waits for the receiver's lock, so that two switches may send at once."""
        while (sent := self._frames.get()) is not None:
            name, (port, data) = sent
            if sink := self.sinks.get((name, port)):
                sink(data)
            there = self.wires.get((name, port))
            if there is None or len(data) > self.limits.get((name, port), len(data)):
                continue
            switch = self.switches[there[0]]
            with switch.locked():
                onwards = switch.process(there[1], data)
                if switch.transmit is not None:
                    switch.transmit(onwards)

    def address(self, name: str) -> str:
        return self.servers[name].address

    def start(self) -> None:
        self._carrier.start()
        for server in self.servers.values():
            server.start()

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop(0)
        self._frames.put(None)
        self._carrier.join()


@contextmanager
def wired(
    names: tuple[str, ...],
    wires: Mapping[End, End],
    tls: Mapping[str, ServerTls] | None = None,
) -> Generator[Wired]:
    """Such switches, while the context is open."""
    made = Wired(names, wires, tls or {})
    made.start()
    try:
        yield made
    finally:
        made.stop()
