"""Cut a service graph: the largest stateless prefix and suffix of every path goes to switches.

What can still happen to a packet depends only on where it is in the (acyclic) graph, so an element is
in a suffix exactly when nothing stateful is reachable from it; whether it is in a prefix depends on
the way there. So the units are the graph's elements times {before, behind the first stateful
one}: never more than twice the elements, however many paths there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import networkx as nx

from orchestrator.model.cuts import SERVER, SWITCH, Arc, Cuts, Entry, Group, Unit
from orchestrator.model.elements import DROP, Element, ElementGraph, Leave
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.model.versions import ALL_VERSIONS, narrow
from orchestrator.nfs.base import NetworkFunction

Functions = Mapping[str, NetworkFunction[Any]]


def cut(
    graph: ServiceGraph,
    functions: Functions,
    access: Mapping[str, str],
    forced: Mapping[str, str] | None = None,
) -> Cuts:
    """Units, arcs and groups of a graph.

    `access` names each host's switch. `forced` names NFs that must run on a server although they
    need no state, with the reason (no switch holds them).
    """
    return _Cutter(graph, functions, access, forced or {}).run()


class _Cutter:
    def __init__(
        self,
        graph: ServiceGraph,
        functions: Functions,
        access: Mapping[str, str],
        forced: Mapping[str, str],
    ) -> None:
        self.graph = graph
        self.functions = functions
        self.access = access
        self.forced = forced
        self.next_port = {(e.source.node, e.source.port): e.target for e in graph.edges}
        self.units: dict[str, Unit] = {}
        self.arcs: dict[tuple[str, str], Arc] = {}
        self.ways: nx.DiGraph[tuple[str, str]] = nx.DiGraph()
        """Which NF port a packet can enter after another."""
        self.elements = cache(lambda nf, port: functions[nf].elements(port))
        self.needs_server = cache(self._needs_server)

    def run(self) -> Cuts:
        for nf, function in self.functions.items():
            for port in function.ports:
                self.ways.add_node((nf, port))
                for left in _ports_left(self.elements(nf, port)):
                    target = self.next_port.get((nf, left))
                    if target is not None and target.port:
                        self.ways.add_edge((nf, port), (target.node, target.port))
        entries: list[Entry] = []
        demanded = {traffic.ingress for traffic in self.graph.traffic}
        for endpoint in self.graph.endpoints.values():
            first = self.next_port.get((endpoint.name, ""))
            if first is None or endpoint.name not in demanded:
                continue
            for switch in dict.fromkeys(self.access[host] for host in endpoint.hosts):
                target = self._enter(first, ingress=switch)
                if target is not None:
                    entries.append(Entry(endpoint.name, switch, target))
        self._narrow_versions(entries)
        return Cuts(
            units=self.units,
            arcs=tuple(self.arcs.values()),
            entries=tuple(entries),
            groups=tuple(self._groups()),
        )

    def _needs_server(self, nf: str, port: str) -> bool:
        """Whether anything stateful is reachable for a packet that enters this port."""
        elements: ElementGraph = self.elements(nf, port)
        if nf in self.forced or any(e.stateful for e in elements.elements.values()):
            return True
        for left in _ports_left(elements):
            target = self.next_port.get((nf, left))
            if target is not None and target.port and self.needs_server(target.node, target.port):
                return True
        return False

    def _enter(self, at: Port, ingress: str) -> str | None:
        """The unit for packets that arrive at a graph port; `ingress` empty: state has been seen."""
        if not at.port:
            return self._deliver(at.node, ingress)
        if at.node in self.forced or (not ingress and self.needs_server(at.node, at.port)):
            return self._server(at.node, at.port)
        return self._element(at.node, at.port, self.elements(at.node, at.port).entry, ingress)

    def _deliver(self, endpoint: str, ingress: str) -> str:
        name = f"deliver.{endpoint}" + (f"@{ingress}" if ingress else "")
        why = "the end of the path: only a switch knows where its hosts are"
        self.units.setdefault(
            name, Unit(name, SWITCH, "", "", None, endpoint, ingress, ALL_VERSIONS, why)
        )
        return name

    def _server(self, nf: str, port: str) -> str:
        name = f"{nf}.{port}@server"
        if name in self.units:
            return name
        elements: ElementGraph = self.elements(nf, port)
        stateful = [e for e in elements.elements.values() if e.stateful]
        if nf in self.forced:
            why = self.forced[nf]
        elif stateful:
            why = "; ".join(f"{e.name}: {e.program.reason}" for e in stateful)  # type: ignore[union-attr]
        else:
            why = "stateless, but between two stateful functions: a detour would cost two hops"
        self.units[name] = Unit(name, SERVER, nf, port, None, "", "", ALL_VERSIONS, why)
        for left in _ports_left(elements):
            target = self.next_port.get((nf, left))
            if target is not None and self._turns_back(nf, port, target):
                first = self.elements(target.node, target.port).entry
                self._connect(name, left, self._element(target.node, target.port, first, ""))
            else:
                self._connect(name, left, self._leave(nf, left, ingress=""))
        return name

    def _turns_back(self, nf: str, port: str, target: Port) -> bool:
        """Whether packets that leave here come back to an NF from its other side (hairpinning).

        Their owner there may be another core, so a switch must dispatch them anew, with that NF's
        own stateless elements.
        """
        if not target.port or self.functions[target.node].state_key is None:
            return False
        return any(
            nx.has_path(self.ways, (target.node, other), (nf, port))
            for other in self.functions[target.node].ports
            if other != target.port and (target.node, other) in self.ways
        )

    def _element(self, nf: str, port: str, element_name: str, ingress: str) -> str:
        program = self.elements(nf, port).elements[element_name].program
        if program.one_place:
            ingress = ""
        name = f"{nf}.{port}.{element_name}" + (f"@{ingress}" if ingress else "")
        if name in self.units:
            return name
        elements: ElementGraph = self.elements(nf, port)
        element: Element = elements.elements[element_name]
        if element.stateful:
            return self._server(nf, port)
        if program.one_place:
            why = "needs no per-flow state, but its meter is one: all its packets pass one switch"
        elif ingress:
            why = "needs no per-flow state, before the first function that does"
        else:
            why = "needs no per-flow state, behind the last function that does"
        self.units[name] = Unit(name, SWITCH, nf, port, element, "", ingress, ALL_VERSIONS, why)
        for output in element.outputs:
            if output == DROP:
                continue
            step = elements.edges[element_name, output]
            if isinstance(step, Leave):
                self._connect(name, output, self._leave(nf, step.port, ingress))
            else:
                self._connect(name, output, self._element(nf, port, step, ingress))
        return name

    def _leave(self, nf: str, port: str, ingress: str) -> str | None:
        target = self.next_port.get((nf, port))
        return None if target is None else self._enter(target, ingress)

    def _connect(self, source: str, output: str, target: str | None) -> None:
        if target is not None:
            self.arcs[source, output] = Arc(source, output, target)

    def _narrow_versions(self, entries: Iterable[Entry]) -> None:
        """Which kinds of packet reach each unit; what nothing reaches is removed."""
        order = nx.DiGraph()
        order.add_nodes_from(self.units)
        order.add_edges_from((arc.source, arc.target) for arc in self.arcs.values())
        reached: dict[str, frozenset[int]] = dict.fromkeys(self.units, frozenset())
        for entry in entries:
            reached[entry.target] = ALL_VERSIONS
        outputs: dict[str, list[Arc]] = {name: [] for name in self.units}
        for arc in self.arcs.values():
            outputs[arc.source].append(arc)
        for name in nx.topological_sort(order):
            unit = self.units[name]
            split = narrow(unit.element, reached[name])
            for arc in outputs[name]:
                passing = split.get(arc.output, frozenset()) if unit.element else reached[name]
                reached[arc.target] |= passing
                if not passing:
                    del self.arcs[arc.source, arc.output]
        for name, versions in reached.items():
            if not versions:
                del self.units[name]
                self.arcs = {k: a for k, a in self.arcs.items() if name not in (a.source, a.target)}
            else:
                self.units[name] = replace(self.units[name], versions=versions)

    def _groups(self) -> Iterable[Group]:
        together = nx.Graph()
        servers = [unit for unit in self.units.values() if unit.kind == SERVER]
        for unit in servers:
            together.add_edge(("unit", unit.id), ("nf", unit.nf))
        for arc in self.arcs.values():
            if {self.units[arc.source].kind, self.units[arc.target].kind} == {SERVER}:
                together.add_edge(("unit", arc.source), ("unit", arc.target))
        for component in nx.connected_components(together):
            units = tuple(u.id for u in servers if ("unit", u.id) in component)
            nfs = tuple(dict.fromkeys(self.units[u].nf for u in units))
            spread, why = self._spread(nfs)
            yield Group(nfs, units, spread, why)

    def _spread(self, nfs: tuple[str, ...]) -> tuple[str, str]:
        """By which address packets may be spread over cores so that all state stays on one."""
        addresses = {"inside_address", "outside_address"}
        for name in nfs:
            function = self.functions[name]
            if not function.replicable:
                return "one", f"{name} ({function.type}) cannot be replicated"
            if function.state_key is None:
                if any(
                    element.program.rewrites_addresses
                    for port in function.ports
                    for element in self.elements(name, port).elements.values()
                ):
                    return "one", f"{name} rewrites addresses between stateful functions"
                continue
            shared = addresses & function.state_key.fields
            if not shared:
                return "one", f"{name} shares no address with the functions before it"
            addresses = shared
        if len(addresses) == 2:
            return "pair", "both addresses belong to every state key"
        return addresses.pop(), "the address that every state key shares"


def _ports_left(elements: ElementGraph) -> tuple[str, ...]:
    """Ports by which packets can leave the NF, in a fixed order."""
    return tuple(
        dict.fromkeys(step.port for step in elements.edges.values() if isinstance(step, Leave))
    )
