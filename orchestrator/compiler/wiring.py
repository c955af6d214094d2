"""How the units of a placed graph hang together: layouts of the switches, service paths between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from orchestrator.compiler.layout import EXIT_PREFIX, Layout, lay_out
from orchestrator.model.cuts import SERVER, SWITCH, Cuts, Unit
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.model.refs import PathRef
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.targets.pipelines import Pipeline
from orchestrator.walks import walk

_FIRST_SI = 255


class Wiring:
    """Units with their devices, laid out; `paths` are those of every unit entered by a tag.

    `hosts` are those of the graph's endpoints by (IP version, address), `neighbors` their MACs; `taken`
    the entries of other graphs by switch and table.
    """

    def __init__(
        self,
        graph: ServiceGraph,
        functions: Functions,
        cuts: Cuts,
        plan: Plan,
        fabric: Fabric,
        pipelines: Mapping[str, Pipeline],
        taken: Mapping[str, Counter[str]],
    ) -> None:
        self.graph, self.functions, self.cuts, self.plan = graph, functions, cuts, plan
        self.fabric, self.pipelines = fabric, pipelines
        self.topology = fabric.topology
        self.group_of = {u: g for g, group in enumerate(cuts.groups) for u in group.units}
        self.units = dict(cuts.units)
        self.arcs = list(cuts.arcs)
        self.device_of = dict(plan.device_of)
        self.tree_of = dict(plan.tree_of)
        self.hosts = {
            (address.version, int(address.ip)): host
            for endpoint in graph.endpoints.values()
            for name in endpoint.hosts
            for host in [self.topology.hosts[name]]
            for address in host.addresses
        }
        self.neighbors = tuple(sorted((key, host.mac) for key, host in self.hosts.items()))
        self.taken = taken
        self._add_remote_deliveries()
        self.layouts = self._layouts()
        self.paths = self._service_paths()

    def _add_remote_deliveries(self) -> None:
        """A delivery hands frames for hosts of another switch to a delivery on that switch."""
        for unit in list(self.units.values()):
            if unit.element is not None or unit.kind != SWITCH:
                continue
            here = self.device_of[unit.id]
            for switch in dict.fromkeys(self.host_switches(unit.endpoint)):
                if switch == here:
                    continue
                remote = f"deliver.{unit.endpoint}>{switch}"
                if remote not in self.units:
                    self.units[remote] = Unit(
                        remote,
                        SWITCH,
                        "",
                        "",
                        None,
                        unit.endpoint,
                        "",
                        unit.versions,
                        "the hosts' own switch takes the tag off",
                    )
                    self.device_of[remote] = switch
                self.tree_of.setdefault((unit.id, remote), 0)

    def host_switches(self, endpoint: str) -> Iterator[str]:
        for host in self.graph.endpoints[endpoint].hosts:
            yield self.fabric.attachments[host].switch

    def device(self, unit: str) -> str:
        """A key of the device that executes a unit: a switch's name, or the server group's."""
        return f"group{self.group_of[unit]}" if unit in self.group_of else self.device_of[unit]

    def _layouts(self) -> dict[str, Layout]:
        layouts: dict[str, Layout] = {}
        entered: dict[str, dict[str, None]] = defaultdict(dict)
        first: dict[str, dict[str, None]] = defaultdict(dict)
        for arc in self.arcs:
            if self.device(arc.source) != self.device(arc.target):
                entered[self.device(arc.target)][arc.target] = None
        for entry in self.cuts.entries:
            first[entry.switch][entry.target] = None
            if self.device(entry.target) != entry.switch:
                entered[self.device(entry.target)][entry.target] = None
        for name, switch in self.device_of.items():
            if ">" in name:
                entered[switch][name] = None
        for switch in self.topology.switches:
            units = [self.units[u] for u, at in self.device_of.items() if at == switch]
            if not units and not first[switch]:
                continue
            here = {unit.id for unit in units}
            layouts[switch] = lay_out(
                switch,
                self.pipelines[switch],
                units,
                [arc for arc in self.arcs if arc.source in here],
                entered[switch],
                first[switch],
                self.taken.get(switch),
                self.plan.slot_of,
            )
        return layouts

    def _service_paths(self) -> dict[tuple[str, str], PathRef]:
        """The path, and the position on it, of every unit that is entered by a tag.

        SI falls along the way; a path is passed on to one follower of a device, the others of a branch
        get paths of their own, so that path and SI name one unit.
        """
        order: Any = nx.DiGraph()
        for entry in self.cuts.entries:
            layout = self.layouts[entry.switch]
            start = entry.target if entry.target in layout.steps else EXIT_PREFIX + entry.target
            for target in self._exits(layout, start):
                order.add_edge(("", entry.switch, entry.target), self._door(target))
        for layout in self.layouts.values():
            for name in layout.entered:
                order.add_node((layout.switch, name))
                for target in self._exits(layout, name):
                    order.add_edge((layout.switch, name), self._door(target))
        for unit in self.cuts.units.values():
            if unit.kind == SERVER:
                door = (self.device(unit.id), unit.id)
                for target in self._server_exits(unit.id):
                    order.add_edge(door, (self.device_of[target], target))
        depth: dict[Any, int] = {}
        path: dict[Any, str] = {}
        passed: set[Any] = set()
        for node in nx.lexicographical_topological_sort(order, key=str):
            before = sorted(order.predecessors(node), key=str)
            depth[node] = max((depth[b] + 1 for b in before), default=0)
            if len(node) == 3:
                continue
            heirs = [b for b in before if len(b) == 2 and b not in passed]
            if heirs:
                passed.add(heirs[0])
                path[node] = path[heirs[0]]
            else:
                path[node] = " ".join(node)
        return {node: PathRef(name, _FIRST_SI - depth[node]) for node, name in path.items()}

    def _door(self, target: str) -> tuple[str, str]:
        return (self.device(target), target)

    def _exits(self, layout: Layout, start: str) -> Iterator[str]:
        yield from layout.exits(start)
        for name in walk([start], lambda at: layout.steps[at].next.values()):
            step = layout.steps[name]
            if step.delivers and step.unit is not None:
                yield from self._remote_of(step.unit, layout.switch)

    def _remote_of(self, unit: Unit, here: str) -> Iterator[str]:
        """Deliveries on other switches that this one hands over to."""
        if ">" in unit.id:
            return
        for switch in dict.fromkeys(self.host_switches(unit.endpoint)):
            if switch != here:
                yield f"deliver.{unit.endpoint}>{switch}"

    def _server_exits(self, start: str) -> Iterator[str]:
        def targets(name: str) -> list[str]:
            return [arc.target for arc in self.cuts.successors(name)]

        on_servers = walk([start], lambda name: (t for t in targets(name) if t in self.group_of))
        for name in on_servers:
            yield from (target for target in targets(name) if target not in self.group_of)
