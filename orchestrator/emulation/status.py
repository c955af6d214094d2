"""Whether a network's processes live: `net_status`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.emulation.processes import namespace_of
from orchestrator.emulation.state import NetworkState, load_state
from orchestrator.model.topology import Link
from orchestrator.network.folders import list_networks

Kind = Literal["supervisor", "switch", "agent", "worker", "server", "host"]


@dataclass(frozen=True, slots=True)
class Component:
    """One process of a network (a server's or host's keeps its namespace)."""

    kind: Kind
    name: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """A recorded network and which of its processes are alive."""

    state: NetworkState
    components: tuple[Component, ...]
    links_down: tuple[str, ...] = ()
    """In words."""

    @property
    def health(self) -> Literal["starting", "running", "degraded", "crashed"]:
        """`degraded`: a switch, worker or namespace has ended, or a link is down; `crashed`: the
        supervisor has ended."""
        if not all(c.alive for c in self.components if c.kind == "supervisor"):
            return "crashed"
        if self.state.phase == "starting":
            return "starting"
        return "degraded" if self.dead or self.links_down else "running"

    @property
    def dead(self) -> tuple[Component, ...]:
        """Those that ended though they should not have; nothing is restarted."""
        return tuple(c for c in self.components if not c.alive)


def net_status(name: str | None = None) -> list[NetworkStatus]:
    """The status of one network, or of all that are recorded."""
    return [_status(load_state(each)) for each in ([name] if name else list_networks())]


def _status(state: NetworkState) -> NetworkStatus:
    def component(kind: Kind, name: str, pid: int) -> Component:
        return Component(kind, name, pid, state.process(pid).is_alive)

    return NetworkStatus(
        state,
        (
            component("supervisor", state.name, state.supervisor),
            *(component("switch", s.name, s.pid) for s in state.switches.values()),
            *(component("server", s.name, s.pid) for s in state.servers.values()),
            *(component("agent", a.name, a.pid) for a in state.agents),
            *(component("worker", w.name, w.pid) for w in state.workers),
            *(component("host", h.name, h.pid) for h in state.hosts.values()),
        ),
        tuple(links_down(state).values()),
    )


_UP = ("up", "unknown")
"""Operational states (RFC 2863, ifOperStatus) of an interface that carries frames, in Linux's words."""


def links_down(state: NetworkState) -> dict[Link, str]:
    """Links with an end that carries nothing, and which: the kernel tells a switch's ends.

    The other end's fall shows there, too. In another network namespace than the network's nothing is
    known.
    """
    if state.namespace != namespace_of(os.getpid()):
        return {}
    down: dict[Link, str] = {}
    for link in state.topology.links:
        for node, port in ((link.a, link.a_port), (link.b, link.b_port)):
            interface = (
                state.switches[node].interfaces.get(port) if node in state.switches else None
            )
            if interface and (operational := _operational(interface)) not in _UP:
                down[link] = (
                    f"link {link.a}-{link.b} is down ({node} port {port}, {interface}: {operational})"
                )
                break
    return down


def _operational(interface: str) -> str:
    try:
        return (Path("/sys/class/net") / interface / "operstate").read_text().strip()
    except OSError:
        return "gone"
