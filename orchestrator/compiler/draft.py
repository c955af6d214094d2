"""A cut graph while synthesis changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import networkx as nx

from orchestrator.compiler.flow import Arcs, HeaderFlow
from orchestrator.compiler.headerspace import Box, box_of
from orchestrator.compiler.narrowing import narrow
from orchestrator.memo import Memo
from orchestrator.model.cuts import Arc, Cuts, Group, Removed, Unit
from orchestrator.model.elements import ElementProgram, FilterProgram, Occurrence
from orchestrator.model.graph import ServiceGraph


class Draft:
    """Units, arcs and entries; `flow` answers questions of header space to them as they are.

    `removed`, `unmet`, `changes` and `passed` become those of the cuts.
    """

    def __init__(self, cuts: Cuts, graph: ServiceGraph, memo: Memo) -> None:
        self.memo = memo
        self.units = dict(cuts.units)
        self.arcs = Arcs(cuts.arcs)
        self.entries = list(cuts.entries)
        self.groups = cuts.groups
        self.traffic: dict[str, list[Box]] = {}
        self.versions: dict[str, frozenset[int]] = {}
        for traffic in graph.traffic:
            box = box_of(traffic.match)
            self.traffic.setdefault(traffic.ingress, []).extend([] if box is None else [box])
            versions = self.versions.get(traffic.ingress, frozenset())
            self.versions[traffic.ingress] = versions | traffic.match.kind.versions
        self.flow = HeaderFlow(self.units, self.arcs, self.entries, self.traffic, memo)
        self.removed: list[Removed] = []
        self.unmet: list[Removed] = []
        self.changes: list[str] = []
        self.passed: list[Occurrence] = []

    def cuts(self) -> Cuts:
        """The graph as it is now."""
        return Cuts(
            self.units,
            tuple(Arc(source, output, target) for (source, output), target in self.arcs.items()),
            tuple(self.entries),
            self._groups(),
            tuple(self.removed),
            tuple(self.changes),
            tuple(self.passed),
            tuple(self.unmet),
        )

    def order(self) -> list[str]:
        """The units, each before those that packets meet behind it."""
        order: nx.DiGraph[str] = nx.DiGraph()
        order.add_nodes_from(self.units)
        order.add_edges_from((source, target) for (source, _), target in self.arcs.items())
        return list(nx.lexicographical_topological_sort(order))

    def program(self, name: str) -> ElementProgram | None:
        """A unit's program, if it has one."""
        unit = self.units[name]
        return unit.element.program if unit.element else None

    def filter(self, name: str) -> FilterProgram | None:
        """The unit's program if it is a filter of which everything is understood."""
        program = self.program(name)
        if isinstance(program, FilterProgram) and self.flow.rules(program) is not None:
            return program
        return None

    def outputs(self, name: str) -> dict[str, str]:
        """Connected outputs of a unit and where they lead."""
        return self.arcs.of(name)

    def only_source(self, name: str) -> str:
        """The unit that all packets of this one come from; empty when there are several."""
        sources = {arc.source for arc in self.flow.before(name)}
        return sources.pop() if len(sources) == 1 and name not in self.flow.entries else ""

    def set_program(self, name: str, program: ElementProgram, **fields: object) -> None:
        """Give a unit another program, and other fields of it."""
        unit = self.units[name]
        assert unit.element is not None
        element = replace(unit.element, program=program)
        self.units[name] = replace(unit, element=element, **fields)  # type: ignore[arg-type]

    def redirect(self, old: str, new: str) -> None:
        """Whatever led to a unit leads to another one."""
        for arc in self.flow.before(old):
            self.arcs[arc.source, arc.output] = new
        for i, entry in enumerate(self.entries):
            if entry.target == old:
                self.entries[i] = replace(entry, target=new)
        moved = self.flow.entries.pop(old, [])
        if moved:
            self.flow.entries.setdefault(new, []).extend(replace(e, target=new) for e in moved)
        self.flow.changed()

    def bypass(self, name: str, outputs: Mapping[str, str]) -> None:
        """Take a unit with one output out of the graph."""
        following = next(iter(outputs.values()), None)
        if following is not None:
            self.redirect(name, following)
        else:
            for arc in self.flow.before(name):
                del self.arcs[arc.source, arc.output]
            self.entries[:] = [e for e in self.entries if e.target != name]
        for output in outputs:
            del self.arcs[name, output]
        del self.units[name]
        self.flow.changed()

    def remove(self, name: str, rule: str, why: str) -> None:
        """Note that a rule goes."""
        place = self.units[name].occurrence
        assert place is not None
        self.removed.append(Removed(place, rule, why))

    def prune(self) -> None:
        """Kinds of packet anew; units that none reaches go.

        An arc that no rule takes any more stays as long as both its ends do: the shape of a graph
        should not depend on single rules.
        """
        reached: dict[str, frozenset[int]] = dict.fromkeys(self.units, frozenset())
        for entry in self.entries:
            reached[entry.target] |= self.versions[entry.endpoint]
        for name in self.order():
            unit = self.units[name]
            split = narrow(unit.element, reached[name])
            for output, target in self.outputs(name).items():
                passing = split.get(output, frozenset()) if unit.element else reached[name]
                reached[target] |= passing
        for name, versions in reached.items():
            if versions:
                self.units[name] = replace(self.units[name], versions=versions)
            else:
                del self.units[name]
        gone = [key for key, to in self.arcs.items() if not {key[0], to} <= self.units.keys()]
        for key in gone:
            del self.arcs[key]
        self.entries[:] = [e for e in self.entries if e.target in self.units]
        self.flow.changed()

    def _groups(self) -> tuple[Group, ...]:
        """Groups without the units that no packet reaches."""
        groups: list[Group] = []
        for group in self.groups:
            units = tuple(unit for unit in group.units if unit in self.units)
            nfs = tuple(dict.fromkeys(self.units[unit].nf for unit in units))
            if units:
                groups.append(replace(group, nfs=nfs, units=units))
        return tuple(groups)


def places_of(unit: Unit) -> tuple[Occurrence, ...]:
    """Where the elements of the graph are that a unit stands for."""
    own = unit.occurrence
    return (*([] if own is None else [own]), *unit.merged)
