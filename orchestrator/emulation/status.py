"""Whether a network's processes live: `net_status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.emulation.state import NetworkState, list_networks, load_state

Kind = Literal["supervisor", "switch", "worker", "server", "host"]


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

    @property
    def health(self) -> Literal["starting", "running", "degraded", "crashed"]:
        """`degraded`: a switch, worker or namespace has ended; `crashed`: the supervisor has."""
        if not all(c.alive for c in self.components if c.kind == "supervisor"):
            return "crashed"
        if self.state.phase == "starting":
            return "starting"
        return "degraded" if self.dead else "running"

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
            *(component("worker", w.name, w.pid) for w in state.workers),
            *(component("host", h.name, h.pid) for h in state.hosts.values()),
        ),
    )
