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

from orchestrator.compiler.narrowing import narrow
from orchestrator.memo import Memo
from orchestrator.model.cuts import SERVER, SWITCH, Arc, Cuts, Group, Ingress, Unit
from orchestrator.model.elements import (
    DROP,
    Element,
    ElementGraph,
    FilterProgram,
    Leave,
    RouteProgram,
    StatefulProgram,
)
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.model.match import ALL_VERSIONS
from orchestrator.nfs.base import Functions, NetworkFunction

_MOST_ASKED = 2
"""So many later functions are asked for in front of a server: each is a table that packets must pass."""


def cut(
    graph: ServiceGraph,
    functions: Functions,
    access: Mapping[str, str],
    forced: Mapping[str, str] | None = None,
    memo: Memo | None = None,
) -> Cuts:
    """Units, arcs and groups of a graph.

    `access` names each host's switch. `forced` names NFs that must run on a server although they
    need no state, with the reason (no switch holds them).
    """
    return _Cutter(graph, functions, access, forced or {}, Memo() if memo is None else memo).run()


class _Cutter:
    def __init__(
        self,
        graph: ServiceGraph,
        functions: Functions,
        access: Mapping[str, str],
        forced: Mapping[str, str],
        memo: Memo,
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
        self.elements = cache(lambda nf, port: _elements(functions[nf], port, memo))
        self.needs_server = cache(self._needs_server)
        self.entered_from = cache(self._entered_from)

    def run(self) -> Cuts:
        for nf, function in self.functions.items():
            for port in function.ports:
                self.ways.add_node((nf, port))
                for left in _ports_left(self.elements(nf, port)):
                    target = self.next_port.get((nf, left))
                    if target is not None and target.port:
                        self.ways.add_edge((nf, port), (target.node, target.port))
        entries: list[Ingress] = []
        demanded = {traffic.ingress for traffic in self.graph.traffic}
        for endpoint in self.graph.endpoints.values():
            first = self.next_port.get((endpoint.name, ""))
            if first is None or endpoint.name not in demanded:
                continue
            for switch in dict.fromkeys(self.access[host] for host in endpoint.hosts):
                target = self._enter(first, ingress=switch)
                if target is not None:
                    entries.append(Ingress(endpoint.name, switch, target))
        self._narrow_versions(entries)
        return Cuts(
            units=self.units,
            arcs=tuple(self.arcs.values()),
            entries=tuple(entries),
            groups=tuple(self._groups()),
        )

    def _entered_from(self, nf: str, port: str) -> frozenset[str]:
        """The access switches whose hosts' packets can enter an NF port."""
        entered: set[str] = set()
        for traffic in self.graph.traffic:
            first = self.next_port.get((traffic.ingress, ""))
            if first is None or (first.node, first.port) not in self.ways:
                continue
            if nx.has_path(self.ways, (first.node, first.port), (nf, port)):
                hosts = self.graph.endpoints[traffic.ingress].hosts
                entered.update(self.access[host] for host in hosts)
        return frozenset(entered)

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

    def _gate(self, nf: str, port: str, ingress: str) -> str:
        """The unit for packets before their first stateful element: its server NF.

        Classes that meet no other state behind it leave the server at once, for switches do the rest:
        a filter in front of the server tells them by what the later NFs would ask.
        """
        asked = self._asked_later(nf, port)
        if not asked:
            return self._server(nf, port)
        early = self._leaving_early(nf, port)
        whole = self._server(nf, port)
        following = early
        for later, element, passing in reversed(asked):
            name = f"{nf}.{port}~{later}.{element.name}@{ingress}"
            if name not in self.units:
                program = element.program
                assert isinstance(program, FilterProgram)
                rules = tuple(
                    replace(rule, output="early" if rule.output in passing else "stay")
                    for rule in program.rules
                )
                default = "early" if program.default in passing else "stay"
                gate = Element(f"~{element.name}", FilterProgram(rules, default), ("early", "stay"))
                why = f"tells packets that meet state behind {nf} from those that do not"
                self.units[name] = Unit(
                    *(name, SWITCH, later.node, later.port, gate, "", ingress, ALL_VERSIONS, why)
                )
                self._connect(name, "early", following)
                self._connect(name, "stay", whole)
            following = name
        return following

    def _asked_later(self, nf: str, port: str) -> list[tuple[Port, Element, frozenset[str]]]:
        """The choices (NF, element, outputs that pass by state) behind an NF's state.

        Empty when there is nothing to tell apart: no state behind, or the packets change on the way
        there, or none passes by.
        """
        later: list[tuple[Port, Element, frozenset[str]]] = []
        elements: ElementGraph = self.elements(nf, port)
        states = [
            e.program for e in elements.elements.values() if isinstance(e.program, StatefulProgram)
        ]
        at = self._only_way(nf, port)
        if nf in self.forced or at is None or not all(state.keeps_headers for state in states):
            return []
        while at is not None and at.port and self.needs_server(at.node, at.port):
            elements = self.elements(at.node, at.port)
            if at.node in self.forced or self._turns_back(nf, port, at):
                return []
            first = elements.elements[elements.entry]
            if any(e.stateful for e in elements.elements.values()):
                if not isinstance(first.program, FilterProgram):
                    return []
                used = {first.program.default, *(rule.output for rule in first.program.rules)}
                passing = frozenset(
                    output
                    for output in used
                    if isinstance(elements.edges.get((first.name, output)), Leave)
                )
                if not passing:
                    return []
                later.append((at, first, passing))
            elif not all(
                isinstance(e.program, FilterProgram | RouteProgram)
                for e in elements.elements.values()
            ):
                return []
            at = self._only_way(at.node, at.port)
        return later if at is not None and len(later) <= _MOST_ASKED else []

    def _only_way(self, nf: str, port: str) -> Port | None:
        """Where all packets go that leave an NF; None when they may go to several places."""
        left = _ports_left(self.elements(nf, port))
        return self.next_port.get((nf, left[0])) if len(left) == 1 else None

    def _leaving_early(self, nf: str, port: str) -> str:
        """A server NF for packets that meet no state behind it."""
        name = f"{nf}.{port}@server~"
        if name not in self.units:
            elements: ElementGraph = self.elements(nf, port)
            reasons = (e for e in elements.elements.values() if e.stateful)
            why = "; ".join(f"{e.name}: {e.program.reason}" for e in reasons)  # type: ignore[union-attr]
            why += "; for packets that meet no state behind it: switches do the rest"
            self.units[name] = Unit(name, SERVER, nf, port, None, "", "", ALL_VERSIONS, why)
            at = self._only_way(nf, port)
            assert at is not None
            left = _ports_left(elements)[0]
            self._connect(name, left, self._enter_free(at))
        return name

    def _enter_free(self, at: Port) -> str | None:
        """The unit for packets of which is known that they pass all state from here on."""
        if not at.port or not self.needs_server(at.node, at.port):
            return self._enter(at, "")
        elements: ElementGraph = self.elements(at.node, at.port)
        if any(e.stateful for e in elements.elements.values()):
            following = self._only_way(at.node, at.port)
            return None if following is None else self._enter_free(following)
        return self._element_free(at.node, at.port, elements.entry)

    def _element_free(self, nf: str, port: str, element_name: str) -> str:
        name = f"{nf}.{port}.{element_name}~"
        if name in self.units:
            return name
        elements: ElementGraph = self.elements(nf, port)
        element = elements.elements[element_name]
        why = "needs no per-flow state, and its packets meet none behind it"
        self.units[name] = Unit(name, SWITCH, nf, port, element, "", "", ALL_VERSIONS, why)
        for output in element.outputs:
            step = elements.edges.get((element_name, output))
            if isinstance(step, Leave):
                target = self.next_port.get((nf, step.port))
                self._connect(name, output, None if target is None else self._enter_free(target))
            elif step is not None:
                self._connect(name, output, self._element_free(nf, port, step))
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
        if program.one_place and len(self.entered_from(nf, port)) > 1:
            ingress = ""
        name = f"{nf}.{port}.{element_name}" + (f"@{ingress}" if ingress else "")
        if name in self.units:
            return name
        elements: ElementGraph = self.elements(nf, port)
        element: Element = elements.elements[element_name]
        if element.stateful:
            return self._gate(nf, port, ingress) if ingress else self._server(nf, port)
        if program.one_place and not ingress:
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

    def _narrow_versions(self, entries: Iterable[Ingress]) -> None:
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


def _elements(function: NetworkFunction[Any], port: str, memo: Memo) -> ElementGraph:
    return memo.of(("elements", port), function, lambda function: function.elements(port))


def _ports_left(elements: ElementGraph) -> tuple[str, ...]:
    """Ports by which packets can leave the NF, in a fixed order."""
    return tuple(
        dict.fromkeys(step.port for step in elements.edges.values() if isinstance(step, Leave))
    )
