"""A frame through the whole network, hop by hop: switches and server workers of this process.

The switches are replicas of what runs (or of a saved bundle); the workers run the bundle's NFs with
their configurations. Workers of this process start without flows, and keep what they learn, so an
answer finds its way back through a NAPT.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.deployment.memory import MemoryNetwork, MemoryWorker
from orchestrator.deployment.places import Places
from orchestrator.errors import InputError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Attachment
from orchestrator.observation.explain import Explainer, Sent, Visit, visit_json
from orchestrator.observation.frames import changes, frame_text
from orchestrator.observation.ports import ports_of_all
from orchestrator.observation.snapshot import Snapshot
from orchestrator.verification.manifest import Manifest
from servernf.wire.addresses import device_mac

_MOST_HOPS = 200
_EVERYTHING = 1 << 32
"""The threshold below which every label is: the workers of this process watch every packet."""


@dataclass(frozen=True, slots=True)
class NfCall:
    """An NF that a worker called: `left` is the port left, empty when the NF dropped the packet."""

    graph: str
    nf: str
    entered: str
    left: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerVisit:
    """A frame's visit to a server core."""

    server: str
    core: int
    frame: bytes
    calls: tuple[NfCall, ...]
    sent: tuple[Sent, ...]
    verdict: str
    dropped: bool

    @property
    def name(self) -> str:
        """`server1.2` (cores count from 1)."""
        return f"{self.server}.{self.core + 1}" if self.core >= 0 else self.server


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that reached a host, or the end of a port where nothing is."""

    host: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Hop:
    """One stop; `parent` is the number of the stop that sent the frame (0: the sender)."""

    number: int
    parent: int
    stop: Visit | WorkerVisit | Arrival

    @property
    def device(self) -> str:
        """The name of the switch, core or host."""
        if isinstance(self.stop, Visit):
            return self.stop.switch
        return self.stop.name if isinstance(self.stop, WorkerVisit) else self.stop.host


@dataclass(frozen=True, slots=True)
class Journey:
    """All stops of one frame sent by a host, in the order in which they happened."""

    sender: str
    frame: bytes
    hops: tuple[Hop, ...]

    @property
    def deliveries(self) -> tuple[Arrival, ...]:
        """What reached hosts."""
        return tuple(hop.stop for hop in self.hops if isinstance(hop.stop, Arrival))

    @property
    def verdict(self) -> str:
        """What became of the frame in one sentence."""
        arrived = [f"{a.host} receives {frame_text(a.frame).summary}" for a in self.deliveries]
        lost = [
            f"{hop.device}: {hop.stop.verdict}"
            for hop in self.hops
            if not isinstance(hop.stop, Arrival) and hop.stop.dropped
        ]
        return "; ".join(arrived + lost) or "the frame went nowhere"


class NetworkModel:
    """Replicas of a network's switches and workers."""

    def __init__(
        self, topology: Topology, snapshots: Mapping[str, Snapshot], bundles: Sequence[Bundle]
    ) -> None:
        self.topology = topology
        self.snapshots = snapshots
        self._bundles = bundles
        self.ports = ports_of_all(topology)
        self._explainers: dict[str, Explainer] = {}
        self._network = MemoryNetwork(topology)
        self._cursors = dict.fromkeys(self._network.workers, 0)
        """How far each worker's samples have been read."""
        self._far: dict[tuple[str, int], tuple[str, int]] = {}
        for link in topology.links:
            self._far[link.a, link.a_port] = (link.b, link.b_port)
            self._far[link.b, link.b_port] = (link.a, link.a_port)
        self._cores: dict[int, Core] = {
            device_mac(topology.servers[core.server].id, core=core.index + 1): core
            for core in self._network.workers
        }
        for bundle in bundles:
            for program in bundle.workers:
                worker = self._network.workers[Core(program.server, program.core)]
                everything = Manifest(bundle.graph_id, _EVERYTHING, 0, 0)
                worker.configure(bundle.graph, program.nfs, everything)
                for chain in program.chains:
                    worker.service_chain(bundle.graph, chain)

    def explainer(self, switch: str) -> Explainer:
        """The replica of a switch, made when first asked for."""
        if switch not in self._explainers:
            if switch not in self.snapshots:
                raise InputError(unknown("switch", switch, tuple(self.snapshots)))
            places = Places.of(self._bundles, switch)
            self._explainers[switch] = Explainer(self.snapshots[switch], self.ports[switch], places)
        return self._explainers[switch]

    def enter(self, host: str, frame: bytes) -> Visit:
        """What a host's own switch does with its frame; servers see nothing of it."""
        at = self._attachment(host)
        return self.explainer(at.switch).explain(at.port, frame)

    def _attachment(self, host: str) -> Attachment:
        if host not in self.topology.hosts:
            raise InputError(unknown("host", host, tuple(self.topology.hosts)))
        return self._network.fabric.attachments[host]

    def send(self, host: str, frame: bytes) -> Journey:
        """Send a frame from a host and follow it to its ends."""
        at = self._attachment(host)
        moving: deque[tuple[int, str, int, bytes]] = deque([(0, at.switch, at.port, frame)])
        hops: list[Hop] = []
        while moving and len(hops) < _MOST_HOPS:
            parent, node, port, data = moving.popleft()
            stop: Visit | WorkerVisit | Arrival
            if node in self.topology.switches:
                stop = self.explainer(node).explain(port, data)
            elif node in self.topology.servers:
                stop = self._at_server(node, data)
            else:
                stop = Arrival(node or "nowhere (no link at this port)", data)
            hop = Hop(len(hops) + 1, parent, stop)
            hops.append(hop)
            if isinstance(stop, Visit):
                for sent in stop.sent:
                    far, far_port = self._far.get((node, sent.port), ("", 0))
                    moving.append((hop.number, far, far_port, sent.frame))
            elif isinstance(stop, WorkerVisit):
                nic = self._network.fabric.attachments[node]
                for sent in stop.sent:
                    moving.append((hop.number, nic.switch, nic.port, sent.frame))
        self._network.advance(1000)
        return Journey(host, frame, tuple(hops))

    def _at_server(self, server: str, frame: bytes) -> WorkerVisit:
        core = self._cores.get(int.from_bytes(frame[:6], "big"))
        if core is None or core.server != server:
            verdict = "dropped: no core has the frame's outer MAC"
            return WorkerVisit(server, -1, frame, (), (), verdict, True)
        memory = self._network.workers[core]
        drops = memory.metrics()
        out = memory.worker.process([frame])
        samples, self._cursors[core] = memory.samples(self._cursors[core])
        calls: list[NfCall] = []
        for before, after in zip(samples[::2], samples[1::2], strict=False):
            nf = before.nf.removeprefix(f"{before.graph}/")
            calls.append(NfCall(before.graph, nf, before.port, after.port, after.reason))
        at = self._network.fabric.attachments[server]
        sent = tuple(Sent(0, at.switch, data) for data in out)
        verdict = _worker_verdict(memory, frame, calls, sent, drops)
        return WorkerVisit(server, core.index, frame, tuple(calls), sent, verdict, not sent)


def _worker_verdict(
    memory: MemoryWorker,
    frame: bytes,
    calls: Sequence[NfCall],
    sent: Sequence[Sent],
    drops_before: Mapping[str, int],
) -> str:
    if sent:
        told = [changed for s in sent if (changed := "; ".join(changes(frame, s.frame)))]
        return f"sent on with {'; '.join(told)}" if told else "sent on unchanged"
    if calls and not calls[-1].left:
        return f"dropped: {calls[-1].nf} drops it ({calls[-1].reason or 'no reason given'})"
    grown = [
        name.removeprefix("drop.")
        for name, count in memory.metrics().items()
        if name.startswith("drop.") and count > drops_before.get(name, 0)
    ]
    if "nf_error" in grown:
        return f"dropped: an NF failed ({memory.worker.last_error})"
    if "unknown_path" in grown:
        return "dropped: no chain of this worker has the frame's SPI and SI"
    return f"dropped: {', '.join(grown) or 'no reason given'}"


def journey_json(journey: Journey) -> dict[str, object]:
    """A journey as JSON values."""
    hops: list[dict[str, object]] = []
    for hop in journey.hops:
        stop = hop.stop
        if isinstance(stop, Visit):
            told = visit_json(stop)
        elif isinstance(stop, WorkerVisit):
            told = {
                "device": stop.name,
                "kind": "server",
                "frame": frame_text(stop.frame).summary,
                "tag": frame_text(stop.frame).tag,
                "calls": [
                    {
                        "graph": call.graph,
                        "nf": call.nf,
                        "entered": call.entered,
                        "left": call.left,
                        "dropped": not call.left,
                        "reason": call.reason,
                    }
                    for call in stop.calls
                ],
                "sent": [{"frame": s.text, "hex": s.frame.hex()} for s in stop.sent],
                "verdict": stop.verdict,
                "dropped": stop.dropped,
            }
        else:
            told = {
                "device": stop.host,
                "kind": "host",
                "frame": frame_text(stop.frame).summary,
                "hex": stop.frame.hex(),
            }
        hops.append({"hop": hop.number, "after": hop.parent, **told})
    return {
        "from": journey.sender,
        "frame": frame_text(journey.frame).summary,
        "delivered": [a.host for a in journey.deliveries],
        "verdict": journey.verdict,
        "hops": hops,
    }
