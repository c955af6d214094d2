"""A frame through the whole network, hop by hop: switches and server workers of this process.

The switches are replicas of what runs (or of a saved bundle); the workers run the bundle's NFs with
their configurations. Workers of this process start without flows, and keep what they learn, so an
answer finds its way back through a NAPT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from orchestrator.deployment.places import Places
from orchestrator.errors import InputError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import WorkerProgram
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.observation.eve import alert_text
from orchestrator.observation.explain import Explainer, Sent, Visit, visit_json
from orchestrator.observation.frames import changes, frame_text
from orchestrator.observation.ports import ports_of_all
from orchestrator.observation.snapshot import Snapshot
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.devices import MemoryServer, MemoryWorker
from orchestrator.simulation.network import LoopError, Simulation, Stop

_MOST_HOPS = 200
_EVERYTHING = 1 << 32
"""The threshold below which every label is: the workers of this process watch every packet."""


@dataclass(frozen=True, slots=True)
class NfCall:
    """An NF that a worker called: `left` is the port left, empty when the NF dropped the packet.

    `rule` is the one that dropped it, by where it was written; `alerts` are signatures that it met.
    """

    graph: str
    nf: str
    entered: str
    left: str
    reason: str
    rule: str = ""
    alerts: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """`denied, fw.json:14`."""
        return ", ".join(filter(None, (self.reason, self.rule))) or "no reason given"


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
        """`server1.2`, where the core is known."""
        return str(Core(self.server, self.core)) if self.core >= 0 else self.server


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that reached a host, or the end of a port where nothing is."""

    host: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class JourneyHop:
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
    hops: tuple[JourneyHop, ...]

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
        lost += [
            f"{hop.device}: the copy is dropped: {why}"
            for hop in self.hops
            if isinstance(hop.stop, Visit)
            for why in hop.stop.copies_lost
        ]
        return "; ".join(arrived + lost) or "the frame went nowhere"


class _Switch:
    """The replica of a switch as a node: it remembers its last visit."""

    def __init__(self, explainer: Callable[[], Explainer]) -> None:
        self._explainer = explainer
        self.visit: Visit | None = None

    def process(self, port: int, frame: bytes) -> Sequence[tuple[int, bytes]]:
        self.visit = self._explainer().explain(port, frame)
        return [(sent.port, sent.frame) for sent in self.visit.sent]


class _Server:
    """The workers of a server as a node: it remembers the last visit."""

    def __init__(self, server: MemoryServer, name: str, switch: str) -> None:
        self.workers = {i: MemoryWorker(worker) for i, worker in server.workers.items()}
        self.visit: WorkerVisit | None = None
        self._server, self._name, self._switch = server, name, switch
        self._cursors: dict[int, tuple[int, int]] = dict.fromkeys(self.workers, (0, 0))
        """How far each worker's samples and events have been read."""
        self.programs: dict[tuple[int, str], WorkerProgram] = {}
        """What graphs have there, by core and graph."""

    def process(self, port: int, frame: bytes) -> Sequence[tuple[int, bytes]]:
        core = self._server.core_of(frame)
        if core is None:
            verdict = "dropped: no core has the frame's outer MAC"
            self.visit = WorkerVisit(self._name, -1, frame, (), (), verdict, True)
            return ()
        memory = self.workers[core]
        drops = memory.metrics()
        out = self._server.process(port, frame)
        seen, heard = self._cursors[core]
        samples, seen = memory.samples(seen)
        events, heard = memory.events(heard)
        self._cursors[core] = seen, heard
        calls: list[NfCall] = []
        for before, after in zip(samples[::2], samples[1::2], strict=False):
            nf = before.nf.removeprefix(f"{before.graph}/")
            mine = [event for event in events if event.nf == before.nf]
            rule = "" if after.port else next((e.drop.rule for e in mine if e.drop.rule), "")
            program = self.programs.get((core, before.graph))
            rule = program.place(nf, rule) if program is not None and rule else rule
            alerts = tuple(alert_text(e) for e in mine if e.HasField("alert"))
            calls.append(
                NfCall(before.graph, nf, before.port, after.port, after.reason, rule, alerts)
            )
        sent = tuple(Sent(0, self._switch, data) for _, data in out)
        verdict = _worker_verdict(memory, frame, calls, sent, drops)
        self.visit = WorkerVisit(self._name, core, frame, tuple(calls), sent, verdict, not sent)
        return out

    def wait_ns(self) -> int | None:
        return self._server.wait_ns()

    def release(self) -> Sequence[tuple[int, bytes]]:
        return self._server.release()


class NetworkModel:
    """Replicas of a network's switches and workers."""

    def __init__(
        self, topology: Topology, snapshots: Mapping[str, Snapshot], bundles: Sequence[Bundle]
    ) -> None:
        self.topology = topology
        self.snapshots = snapshots
        self.bundles = bundles
        self.ports = ports_of_all(topology)
        self._explainers: dict[str, Explainer] = {}
        fabric = Fabric(topology)
        self._attachments = fabric.attachments
        self._network = network = Simulation(topology, most_hops=_MOST_HOPS)
        self._nodes: dict[str, _Switch | _Server] = {}
        for name in topology.switches:
            self._nodes[name] = switch = _Switch(partial(self.explainer, name))
            network.add(name, switch)
        for name, server in topology.servers.items():
            at = self._attachments.get(name)
            own_ports = name in fabric.core_ports
            made = MemoryServer(server, lambda: network.now_ns, Clock(), own_ports=own_ports)
            node = _Server(made, name, at.switch if at else "")
            for worker in node.workers.values():
                worker.worker.tell_everything()
            self._nodes[name] = node
            network.add_holder(name, node)
        for bundle in bundles:
            for program in bundle.workers:
                server_node = self._nodes[program.server]
                assert isinstance(server_node, _Server)
                worker = server_node.workers[program.core]
                server_node.programs[program.core, bundle.graph] = program
                everything = SamplingSecret(bundle.graph_id, _EVERYTHING, 0, 0)
                worker.configure(bundle.graph, program.nfs, everything)
                for chain in program.chains:
                    worker.service_chain(bundle.graph, chain)

    def explainer(self, switch: str) -> Explainer:
        """The replica of a switch, made when first asked for."""
        if switch not in self._explainers:
            if switch not in self.snapshots:
                raise InputError(unknown("switch", switch, tuple(self.snapshots)))
            places = Places.of(self.bundles, switch)
            self._explainers[switch] = Explainer(self.snapshots[switch], self.ports[switch], places)
        return self._explainers[switch]

    def enter(self, host: str, frame: bytes) -> Visit:
        """What a host's own switch does with its frame; servers see nothing of it."""
        if host not in self.topology.hosts:
            raise InputError(unknown("host", host, tuple(self.topology.hosts)))
        at = self._attachments[host]
        return self.explainer(at.switch).explain(at.port, frame)

    def send(self, host: str, frame: bytes) -> Journey:
        """Send a frame from a host and follow it to its ends."""
        hops: list[JourneyHop] = []
        numbers = {0: 0}
        """Hops by the numbers of the network's stops."""

        def stopped(stop: Stop) -> None:
            numbers[stop.number] = len(hops) + 1
            hops.append(JourneyHop(len(hops) + 1, numbers[stop.parent], self._visited(stop)))

        self._network.at_stops.append(stopped)
        try:
            with suppress(LoopError):  # the way is told as far as it goes
                self._network.send(host, frame)
        finally:
            self._network.at_stops.remove(stopped)
        self._network.advance(1000)
        return Journey(host, frame, tuple(hops))

    def _visited(self, stop: Stop) -> Visit | WorkerVisit | Arrival:
        node = self._nodes.get(stop.node)
        if node is None:
            return Arrival(stop.node or "nowhere (no link at this port)", stop.frame)
        assert node.visit is not None
        return node.visit


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
        return f"dropped: {calls[-1].nf} drops it ({calls[-1].why})"
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
                        "rule": call.rule,
                        "alerts": call.alerts,
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
