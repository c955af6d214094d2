"""Links to servers: a switch sends frames to each worker, which must say that it got them.

A worker has no service path 0, so it drops such a frame and counts it, and nobody else's frame is
counted there. What a worker sends is not looked at.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from orchestrator.attachment.links import port_words
from orchestrator.attachment.probes import TAGGED_MTU, WHOLE, SwitchPort
from orchestrator.attachment.switches import primary_session
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.live import LiveNetwork
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.network.inventory import WorkerAddress
from orchestrator.observation.probe_frames import SMALL, frame_to
from servernf.wire.addresses import device_mac

_COUNTER = "drop.unknown_path"
_TRIES = 4
"""A busy switch loses frames."""
_WAIT_S = 1.0
_POLL_S = 0.02


def access_switches(topology: Topology) -> set[str]:
    """The switches that servers with workers are attached to."""
    attachments = Fabric(topology).attachments
    return {attachments[server].switch for server in topology.servers}


@dataclass(frozen=True, slots=True)
class _Target:
    """A worker, the switch port that leads to it, and a session that its counters are read by."""

    worker: WorkerAddress
    port: SwitchPort
    mac: int
    interface: str
    """Where the topology says it."""
    session: WorkerClient

    def counted(self) -> int:
        return self.session.metrics().get(_COUNTER, 0)


def wrong_server_links(network: LiveNetwork) -> Iterator[str]:
    """What is wrong with the ways from switches to workers, in words.

    SwitchError or ServerError when one of them does not answer.
    """
    topology, words = network.topology, port_words(network.topology)
    fabric = Fabric(topology)
    at: defaultdict[str, list[WorkerAddress]] = defaultdict(list)
    for worker in network.inventory.workers:
        at[fabric.access(worker.core.server)].append(worker)
    for switch, workers in at.items():
        with ExitStack() as stack:
            session = stack.enter_context(
                primary_session(topology.switches[switch], network.access)
            )
            session.pipeline_cookie()
            targets = [
                _Target(
                    worker,
                    SwitchPort(switch, fabric.port_of(worker.core.server, worker.core.index)),
                    device_mac(topology.servers[worker.core.server].id, core=worker.core.index + 1),
                    _place(topology, worker.core),
                    stack.enter_context(network.worker(worker.core)),
                )
                for worker in workers
            ]
            yield from _problems(session, targets, words)


def _place(topology: Topology, core: Core) -> str:
    each = topology.servers[core.server].interfaces
    return f"servers.{core.server}.{f'interfaces[{core.index}]' if each else 'interface'}"


def _problems(
    session: SwitchClient, targets: Sequence[_Target], words: Callable[[SwitchPort], str]
) -> Iterator[str]:
    small, whole = _reached(session, targets, SMALL), _reached(session, targets, WHOLE)
    for target in targets:
        name = target.worker.name
        if name not in small | whole:
            yield (
                f"{words(target.port)} to {name}: no frame arrived: the link is down or leads "
                f"elsewhere, or {target.interface} is not the NIC at its end"
            )
        elif name not in whole:
            yield (
                f"{words(target.port)} to {name}: frames of {SMALL} bytes arrive, those of {WHOLE} do "
                f"not: tagged frames need an MTU of {TAGGED_MTU} or more"
            )


def _reached(session: SwitchClient, targets: Sequence[_Target], size: int) -> set[str]:
    """Names of the workers that get a frame of a size."""
    before = {target.worker.name: target.counted() for target in targets}
    missing = list(targets)
    for _ in range(_TRIES):
        for target in missing:
            session.packet_out(frame_to(target.mac, size), target.port.number)
        deadline = time.monotonic() + _WAIT_S
        while missing and time.monotonic() < deadline:
            missing = [t for t in missing if t.counted() <= before[t.worker.name]]
            time.sleep(_POLL_S)
    return before.keys() - {target.worker.name for target in missing}
