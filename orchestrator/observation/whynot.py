"""`explain --why-not`: the last place from which a frame could still have come to an NF or a port.

What packets can reach is read off the entries: a segment leads to the segments, service paths and
ports that its entries name. The answer is the first step of the journey behind which the goal is out
of reach, with the entry that took the frame away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import origins_of
from orchestrator.errors import InputError, unknown
from orchestrator.linker.nodes import owner, references
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Lpm, TableEntry
from orchestrator.model.refs import PATH, SEGMENT, Node, Role, path_node, segment_of
from orchestrator.observation.explain import TABLE, SwitchStep, Visit
from orchestrator.observation.journey import Arrival, Journey, NetworkModel, WorkerVisit
from orchestrator.observation.snapshot import Snapshot
from orchestrator.targets.references import belonging, param_role
from orchestrator.walks import walk

Place = Node | tuple[str, ...]
"""A segment, tree's node, group or path; ("nf", name), ("port", switch, number), ("entry", switch)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`reached`: it did come there. Otherwise `where` and `why` say where it left the way."""

    goal: str
    reached: bool
    where: str
    why: str


def why_not(model: NetworkModel, bundles: Sequence[Bundle], journey: Journey, goal: str) -> Answer:
    """Why a journey did not come to `goal`: an NF, `SWITCH:PORT`, or a host."""
    ways = _Ways(model, bundles)
    places = ways.places_of(goal)
    good = ways.leading_to(places)
    last = ("the sender", "")
    for hop in journey.hops:
        stop = hop.stop
        if isinstance(stop, Arrival):
            if stop.host == goal:
                return Answer(goal, True, f"hop {hop.number}", "the frame reached it")
            continue
        if isinstance(stop, WorkerVisit):
            for call in stop.calls:
                if ("nf", call.nf) in places:
                    where = f"hop {hop.number}, {stop.name}"
                    return Answer(goal, True, where, f"entered by port {call.entered}")
                last = (stop.name, f"{call.nf} left by {call.left or 'nothing (dropped)'}")
                if not call.left:
                    return Answer(goal, False, f"hop {hop.number}, {stop.name}", stop.verdict)
            continue
        answer = _in_switch(hop.number, stop, places, good, goal, ways)
        if answer is not None:
            return answer
        last = (stop.switch, stop.verdict)
    return Answer(goal, False, last[0], f"the frame went elsewhere: {last[1] or journey.verdict}")


def _in_switch(
    number: int,
    visit: Visit,
    places: set[Place],
    good: set[Place],
    goal: str,
    ways: _Ways,
) -> Answer | None:
    where = f"hop {number}, {visit.switch}"
    for sent in visit.sent:
        if ("port", visit.switch, str(sent.port)) in places:
            return Answer(goal, True, where, f"the frame left by port {sent.port}")
    could = False
    for index, step in enumerate(visit.steps):
        if step.kind != TABLE:
            continue
        met = [nf for nf, _ in origins_of(f"{step.nf}: {step.rule}") if ("nf", nf) in places]
        if any(not ways.on_servers(nf) for nf in met):
            return Answer(goal, True, where, f"{step.table}: {step.origin} says {step.action}")
        behind = _segment_behind(visit.steps, index)
        if not behind or not step.hit:
            continue
        can = Node(SEGMENT, visit.switch, behind) in good
        before: Place = Node(SEGMENT, visit.switch, step.segment)
        if not step.segment:
            before = _entrance(visit.switch, step)
        could = before in good
        if could and not can:
            why = f"{step.table}: {step.origin} says {step.action}; from there it cannot come to {goal}"
            return Answer(goal, False, where, why)
    if visit.dropped:
        return Answer(goal, False, where, visit.verdict)
    if visit.copies_lost and any(
        Node(SEGMENT, visit.switch, step.segment) in good for step in visit.copied_steps
    ):
        return Answer(goal, False, where, f"the copy is dropped: {visit.copies_lost[0]}")
    ends = any(sent.behind in ways.model.topology.hosts for sent in visit.sent)
    for step in visit.steps if ends else ():
        if step.hit and step.table.startswith("deliver.") and "resolve" not in step.action:
            why = f"{step.table}: {step.origin} says {step.action}"
            return Answer(goal, False, where, f"{why}: the end of its path, and not {goal}")
    return None


def _entrance(switch: str, step: SwitchStep) -> Place:
    """Where a frame is before it has a segment: at a host's port, or on a service path."""
    kind, names, _ = belonging(step.table)
    if kind == PATH and step.keys.keys() >= set(names):
        return path_node(*(int(step.keys[name]) for name in names))
    return ("entry", switch)


def _segment_behind(steps: Sequence[SwitchStep], index: int) -> int:
    """The segment after a step: what the next step sees; 0 when it is the last."""
    for step in steps[index + 1 :]:
        if step.segment:
            return step.segment
    return 0


class _Ways:
    """The graph of places, and which of them lead to a goal."""

    def __init__(self, model: NetworkModel, bundles: Sequence[Bundle]) -> None:
        self.model = model
        self.server_nfs = {nf for b in bundles for worker in b.workers for nf in worker.nfs}
        self.before: dict[Place, set[Place]] = defaultdict(set)
        self.nfs: set[str] = set(self.server_nfs)
        self.devices = {name: _device_ports(s) for name, s in model.snapshots.items()}
        for switch, snapshot in model.snapshots.items():
            self._add_switch(switch, snapshot)
        for bundle in bundles:
            for worker in bundle.workers:
                for chain in worker.chains:
                    here: Place = path_node(chain.spi, chain.si)
                    for nf in chain.hops:
                        following: Place = ("nf", nf.nf) if nf.nf else path_node(nf.spi, nf.si)
                        self._edge(here, following)
                        # Behind an NF a packet is still on this very chain.
                        if not nf.nf:
                            here = following

    def _edge(self, source: Place, target: Place) -> None:
        self.before[target].add(source)

    def _add_switch(self, switch: str, snapshot: Snapshot) -> None:
        schema: Schema = snapshot.schema
        for entity in snapshot.entities:
            if not entity.HasField("table_entry"):
                continue
            _, entry = schema.decode(entity.table_entry)
            params, node = dict(entry.params), owner(switch, entry)
            here = self._source(switch, entry, node)
            if here is None:
                continue
            if not entry.table.startswith(("classify", "dispatch", "deliver")):
                for nf, _ in origins_of(entry.origin):
                    self.nfs.add(nf)
                    self._edge(here, ("nf", nf))
            for ref, _ in references(node, switch, entry.action, params) if node else ():
                self._edge(here, segment_of(ref))
            for name, value in params.items():
                role = param_role(entry.action, name)
                if role is Role.DEVICE:
                    for at, port in self._way(switch, value):
                        self._edge(here, ("port", at, str(port)))
                elif role is Role.HOST_PORT:
                    self._edge(here, ("port", switch, str(value)))

    def _way(self, switch: str, mac: int) -> Iterator[tuple[str, int]]:
        """(switch, port) of every switch that the fabric takes a tagged frame through."""
        for _ in self.devices:
            port = _longest(self.devices.get(switch, ()), mac)
            if port is None:
                return
            yield switch, port
            switch = self.model.ports[switch].get(port, "")

    @staticmethod
    def _source(switch: str, entry: TableEntry, node: Node | None) -> Place | None:
        if entry.table.startswith("classify"):
            return ("entry", switch)
        return None if node is None else segment_of(node)

    def on_servers(self, nf: str) -> bool:
        """Whether (a part of) the NF runs on servers: then a switch's part is not yet the NF."""
        return nf in self.server_nfs

    def places_of(self, goal: str) -> set[Place]:
        """The places that a goal's name stands for; InputError names what there is."""
        if goal in self.nfs:
            return {("nf", goal)}
        if goal in self.model.topology.hosts:
            return {
                ("port", switch, str(port))
                for switch, ports in self.model.ports.items()
                for port, name in ports.items()
                if name == goal
            }
        switch, colon, port = goal.partition(":")
        if colon and switch in self.model.ports and port.isdigit():
            if int(port) in self.model.ports[switch]:
                return {("port", switch, port)}
            valid = [f"{switch}:{n}" for n in self.model.ports[switch]]
            raise InputError(f"--why-not: {unknown('port', goal, valid)}")
        valid = sorted((*self.nfs, *self.model.topology.hosts))
        raise InputError(
            f"--why-not: {unknown('NF or host', goal, valid)}; SWITCH:PORT is valid, too"
        )

    def leading_to(self, goals: Iterable[Place]) -> set[Place]:
        """All places from which some goal can be reached."""
        return set(walk(goals, lambda place: self.before.get(place, ())))


def _longest(ways: Sequence[tuple[Lpm, int | None]], mac: int) -> int | None:
    """The port towards a MAC; None when it is not forwarded."""
    for key, port in ways:
        if (mac ^ key.value) >> 48 - key.length == 0:
            return port
    return None


def _device_ports(snapshot: Snapshot) -> list[tuple[Lpm, int | None]]:
    """Ports by prefixes of device MACs, the longest first; None where a frame is not forwarded."""
    schema = snapshot.schema
    ports: list[tuple[Lpm, int | None]] = []
    for entity in snapshot.entities:
        if not entity.HasField("table_entry"):
            continue
        _, entry = schema.decode(entity.table_entry)
        port = dict(entry.params).get("port")
        for name, key in entry.keys:
            if name == "device" and isinstance(key, Lpm):
                ports.append((key, port))
    return sorted(ports, key=lambda way: -way[0].length)
