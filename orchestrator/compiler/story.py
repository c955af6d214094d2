"""The story of one traffic class: which packets, which way, on which devices, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.compiler.classes import WayClass, likely
from orchestrator.compiler.headerspace import FIELDS, HeaderSet
from orchestrator.compiler.layout import Layout
from orchestrator.model.bundle import Story
from orchestrator.model.cuts import SERVER, SWITCH, Cuts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import UNTAGGED
from orchestrator.model.plan import Plan
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.values import PROTOCOLS, address_text
from orchestrator.targets.pipelines import Pipeline, footprint

_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_FLAGS = "FSRPAUEC"


@dataclass(frozen=True, slots=True)
class ClassStep:
    """What one unit does with the class. `decided_by` are the rules that send it on, if any do."""

    unit: str
    device: str
    block: str
    output: str
    decided_by: tuple[str, ...]
    more_rules: int
    recirculated: bool
    why: str


@dataclass(frozen=True, slots=True)
class ClassStory:
    """`packets` says which they are, in words; `whole` whether that is all of them; `nodes` are the
    devices on the way, `hops` the links between them."""

    name: str
    traffic: str
    ingress: str
    end: str
    packets: str
    whole: bool
    witness: str
    headers: Mapping[str, int]
    steps: tuple[ClassStep, ...]
    nodes: tuple[str, ...]
    hops: int
    recirculations: int
    synthesis: tuple[str, ...]


def unit_stories(
    cuts: Cuts,
    plan: Plan,
    layouts: Mapping[str, Layout],
    pipelines: Mapping[str, Pipeline],
    reasons: Mapping[str, str],
) -> tuple[Story, ...]:
    """A line for each unit, in the order of the graph; `reasons`: more of why they are there."""
    stories: list[Story] = []
    group_of = {u: i for i, group in enumerate(cuts.groups) for u in group.units}
    for unit in cuts.units.values():
        if unit.kind == SERVER:
            cores = plan.cores_of[group_of[unit.id]]
            where = ", ".join(map(str, cores))
            why = "; ".join(filter(None, (unit.why, reasons.get(unit.id))))
            stories.append(Story(unit.id, SERVER, where, "", 0, why))
            continue
        switch = plan.device_of[unit.id]
        step = layouts[switch].steps[unit.id]
        why = unit.why
        if any(target == unit.id for _, target in layouts[switch].recirculated):
            why += "; recirculated, since one pass cannot serve it behind what it follows"
        if unit.id in reasons:
            why += f"; {reasons[unit.id]}"
        slot = step.slot.instance if step.slot else "deliver"
        count = footprint(unit, [pipelines[switch]]).total()
        stories.append(Story(unit.id, SWITCH, switch, slot, count, why))
    return tuple(stories)


@dataclass(frozen=True, slots=True)
class StoryTeller:
    """Everything that stories are told from: the stages' outputs."""

    graph: ServiceGraph
    cuts: Cuts
    plan: Plan
    layouts: Mapping[str, Layout]
    stories: Sequence[Story]
    fabric: Fabric

    def tell(self, way: WayClass) -> ClassStory:
        """The story of a class."""
        told = {story.unit: story for story in self.stories}
        steps: list[ClassStep] = []
        nodes, before = [way.ingress], f"@{way.ingress}"
        for decision in way.way:
            unit = self.cuts.units[decision.unit]
            story = told[decision.unit]
            at = self._node(decision.unit)
            tree = self.plan.tree_of.get((before, decision.unit), 0)
            if at != nodes[-1]:
                nodes += self.fabric.path(nodes[-1], at, tree)[1:]
            again = unit.kind != SERVER and (before, decision.unit) in self.layouts[at].recirculated
            steps.append(
                ClassStep(
                    *(decision.unit, story.device, story.slot or "NF", decision.output),
                    *(decision.rules, decision.more_rules, again, story.why),
                )
            )
            before = decision.unit
        last = self.cuts.units[before]
        if last.endpoint:
            ends = {self.fabric.access(h): h for h in self.graph.endpoints[last.endpoint].hosts}
            if nodes[-1] not in ends:
                nodes += self.fabric.path(nodes[-1], next(iter(ends)), 0)[1:]
        packet = self.witness(way)
        units = {decision.unit for decision in way.way}
        return ClassStory(
            *(way.name, way.traffic, way.ingress, way.end),
            HeaderSet(way.boxes).words(),
            way.whole,
            words_of_packet(packet),
            {name: packet[name] for name, _, _ in FIELDS if name in packet},
            tuple(steps),
            tuple(nodes),
            len(nodes) - 1,
            sum(step.recirculated for step in steps),
            tuple(self._synthesis(units)),
        )

    def witness(self, way: WayClass) -> dict[str, int]:
        """A packet of a class, between hosts of the graph where the class has such a one."""
        traffic = next(t for t in self.graph.traffic if t.name == way.traffic)
        ends = {"src": traffic.ingress, "dst": traffic.egress}
        hosts: dict[str, list[tuple[int, int]]] = {
            side: [
                (address.version, int(address.ip))
                for host in self.graph.endpoints[endpoint].hosts
                for address in self.fabric.topology.hosts[host].addresses
            ]
            for side, endpoint in ends.items()
        }
        return likely(way.boxes, hosts)

    def _node(self, unit: str) -> str:
        """The switch, or the server of the first core that its group has."""
        if unit in self.plan.device_of:
            return self.plan.device_of[unit]
        group = next(i for i, g in enumerate(self.cuts.groups) if unit in g.units)
        return self.plan.cores_of[group][0].server

    def _synthesis(self, units: set[str]) -> list[str]:
        """What synthesis did to the units on the way."""
        met = [self.cuts.units[unit] for unit in units]
        places = {place for unit in met for place in (unit.occurrence, *unit.merged)}
        told = [change for change in self.cuts.changes if any(unit in change for unit in units)]
        gone = [removed for removed in self.cuts.removed if removed.place in places]
        told += [f"left out of {removed.place}: {removed}" for removed in gone[:5]]
        if len(gone) > 5:
            told.append(f"and {len(gone) - 5} more rules that no packet meets there")
        return told


def words_of_packet(packet: Mapping[str, int]) -> str:
    """As `explain --packet` takes it: `tcp 10.0.1.11:40000 > 198.51.100.13:80 flags=S vlan=7`."""
    vlan = packet.get("vlan", UNTAGGED)
    return _untagged_words(packet) + ("" if vlan == UNTAGGED else f" vlan={vlan}")


def _untagged_words(packet: Mapping[str, int]) -> str:
    if not packet["version"]:
        return f"a frame of EtherType {packet['ether_type']:#06x}"
    src, dst = (address_text((packet["version"], packet[side])) for side in ("src", "dst"))
    if packet["version"] == 6:
        src, dst = f"[{src}]", f"[{dst}]"
    protocol = _PROTOCOL_NAMES.get(packet["protocol"], f"protocol {packet['protocol']}")
    if "src_port" not in packet:
        more = f" type={packet['icmp_type']}" if packet.get("icmp_type", 8) != 8 else ""
        return f"{protocol} {src.strip('[]')} > {dst.strip('[]')}{more}"
    flags = "".join(f for i, f in enumerate(_FLAGS) if packet.get("tcp_flags", 0) >> i & 1)
    told = f"{protocol} {src}:{packet['src_port']} > {dst}:{packet['dst_port']}"
    return f"{told} flags={flags}" if flags else told
