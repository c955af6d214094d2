"""Synthesis: the stateless runs of a cut graph, with one table where several said the same.

SNF's idea (Katsikas et al., PeerJ CS 2016) on first-match lists instead of a product of classes: what
is certainly dropped later is dropped at once, rules that no packet meets go, rewrites that follow each
other become one, filters come before rewrites and routing (their conditions translated), and adjacent
tables become one where that is smaller than both. Nothing crosses a stateful element: a packet that is
dropped behind it may have changed its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter

import networkx as nx

from orchestrator.alignment import differing
from orchestrator.compiler.first_match import FirstMatch, shadowed
from orchestrator.compiler.flow import UNTOUCHED, Arcs, Flow
from orchestrator.compiler.headerspace import EVERYTHING, Box, box_of
from orchestrator.compiler.merging import (
    Costs,
    before_rewrite,
    composed,
    count_pairs,
    entries_of,
    merged,
)
from orchestrator.compiler.narrowing import narrow
from orchestrator.errors import TooManyClasses
from orchestrator.memo import Memo, Same
from orchestrator.model.cuts import SERVER, Arc, Cuts, Group, Removed, Unit
from orchestrator.model.elements import (
    DROP,
    Element,
    FilterProgram,
    Occurrence,
    Program,
    RewriteProgram,
    RouteProgram,
)
from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.values import impossible


def synthesise(cuts: Cuts, graph: ServiceGraph, costs: Costs, memo: Memo | None = None) -> Cuts:
    """The same graph in fewer, smaller steps; TooManyClasses when two NFs' rules explode."""
    return _Synthesiser(cuts, graph, costs, Memo() if memo is None else memo).run()


class _Synthesiser:
    def __init__(self, cuts: Cuts, graph: ServiceGraph, costs: Costs, memo: Memo) -> None:
        self.costs, self.memo = costs, memo
        self.units = dict(cuts.units)
        self.arcs = Arcs(cuts.arcs)
        self.entries = list(cuts.entries)
        self.groups = cuts.groups
        self.traffic: dict[str, list[Box]] = {}
        self.versions: dict[str, frozenset[int]] = {}
        for traffic in graph.traffic:
            box = box_of(traffic.match)
            self.traffic.setdefault(traffic.ingress, []).extend([] if box is None else [box])
            known = self.versions.get(traffic.ingress, frozenset())
            self.versions[traffic.ingress] = known | traffic.match.kind.versions
        self.flow = Flow(self.units, self.arcs, self.entries, self.traffic, memo)
        self.without_rules = {
            name
            for name in self.units
            if isinstance(program := self._program(name), FilterProgram) and not program.rules
        }
        self.removed: list[Removed] = []
        self.unmet: list[Removed] = []
        self.changes: list[str] = []
        self.passed: list[Occurrence] = []

    def run(self) -> Cuts:
        for name in list(self.units):
            self._drop_shadowed(name)
        self._limit_classes()
        for name in reversed(self._order()):
            self._drop_early(name)
        for name in self._order():
            self._drop_unreached(name)
        self._prune()
        self._compose_rewrites()
        self._filters_first()
        self._merge_filters()
        self._prune()
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

    # -- reading and changing the graph -------------------------------------------------------

    def _order(self) -> list[str]:
        order: nx.DiGraph[str] = nx.DiGraph()
        order.add_nodes_from(self.units)
        order.add_edges_from((source, target) for (source, _), target in self.arcs.items())
        return list(nx.lexicographical_topological_sort(order))

    def _program(self, name: str) -> Program | None:
        unit = self.units[name]
        return unit.element.program if unit.element else None

    def _filter(self, name: str) -> FilterProgram | None:
        """The unit's program if it is a filter of which everything is understood."""
        program = self._program(name)
        if isinstance(program, FilterProgram) and self.flow.rules(program) is not None:
            return program
        return None

    def _outputs(self, name: str) -> dict[str, str]:
        """Connected outputs of a unit and where they lead."""
        return self.arcs.of(name)

    def _only_source(self, name: str) -> str:
        """The unit that all packets of this one come from; empty when there are several."""
        sources = {arc.source for arc in self.flow.before(name)}
        return sources.pop() if len(sources) == 1 and name not in self.flow.entries else ""

    def _set_program(self, name: str, program: Program, **fields: object) -> None:
        unit = self.units[name]
        assert unit.element is not None
        element = replace(unit.element, program=program)
        self.units[name] = replace(unit, element=element, **fields)  # type: ignore[arg-type]

    def _redirect(self, old: str, new: str) -> None:
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

    # -- the steps ----------------------------------------------------------------------------

    def _drop_shadowed(self, name: str) -> None:
        program = self._filter(name)
        if program is None:
            return
        rules = self.flow.rules(program)
        assert rules is not None
        gone = shadowed(rules, self.memo, name)
        for number, by in gone.items():
            first = [program.rules[n].rule for n in by[:3]]
            more = f" and {len(by) - 3} more" if len(by) > 3 else ""
            rule = program.rules[number]
            why = f"shadowed by {', '.join(first)}{more}"
            if not by:
                why = impossible(rule.match) or "no packet can meet it"
            self._remove(name, rule.rule, why)
        if gone:
            kept = [rule for n, rule in enumerate(program.rules) if n not in gone]
            left = replace(program, rules=tuple(kept))
            self._set_program(name, left)
            self.flow.know(left, rules.without(gone))

    def _remove(self, name: str, rule: str, why: str) -> None:
        place = self.units[name].occurrence
        assert place is not None
        self.removed.append(Removed(place, rule, why))

    def _limit_classes(self) -> None:
        """TooManyClasses when the rules of two adjacent NFs meet more often than the limit."""
        for (source, output), target in self.arcs.items():
            first, second = self._filter(source), self._filter(target)
            if first is None or second is None:
                continue
            if (len(first.rules) + 1) * (len(second.rules) + 1) <= self.costs.most_classes:
                continue
            ones, others = self.flow.rules(first), self.flow.rules(second)
            assert ones is not None
            assert others is not None
            count = count_pairs(ones, output, others)
            if count > self.costs.most_classes:
                a, b = self.units[source], self.units[target]
                raise TooManyClasses(
                    f"{a.nf} ({len(first.rules)} rules) and {b.nf} ({len(second.rules)} rules) make "
                    f"{count:,} traffic classes, {count - self.costs.most_classes:,} more than the "
                    f"limit of {self.costs.most_classes:,}; raise it (--max-classes), or make the "
                    "rules of one narrower",
                    (a.nf, b.nf),
                    count,
                )

    def _drop_early(self, name: str) -> None:
        """Rules whose packets are all dropped later drop them."""
        program = self._filter(name)
        if program is None:
            return
        able = {
            output: self._can_drop(target, {}) for output, target in self._outputs(name).items()
        }
        known = self.flow.rules(program)
        assert known is not None
        answers = {
            output: self._dropped(self.arcs[name, output], known, output)
            for output, can_drop in able.items()
            if can_drop
        }
        # Mostly no rule is meant for packets that are dropped later anyway.
        told = {o: iter(some) for o, some in answers.items() if any(map(itemgetter(0), some))}
        rules = list(program.rules)
        for number, (rule, box) in enumerate(zip(rules, known.boxes, strict=True) if told else ()):
            dropped, later = next(told[rule.output]) if rule.output in told and box else (False, "")
            if dropped:
                origin = f"{rule.rule} & {later}" if later else rule.rule
                rules[number] = replace(rule, output=DROP, rule=origin)
        default, default_rule = program.default, program.default_rule
        if able.get(default) and self.flow.dropped(self.arcs[name, default], EVERYTHING):
            default, default_rule = DROP, " & ".join((default_rule, *self.flow.blamed))
        early = len(differing(program.rules, rules))
        if early or default != program.default:
            self._set_program(name, FilterProgram(tuple(rules), default, default_rule))
            self.changes.append(
                f"early discard: {name} drops what {early + (default != program.default)} of its "
                "rules let through only to be dropped later"
            )

    def _dropped(self, unit: str, rules: FirstMatch, output: str) -> list[tuple[bool, str]]:
        """Whether all packets of each rule with an output are dropped from a unit on, and by what."""

        def answer(box: Box) -> tuple[bool, str]:
            dropped = self.flow.dropped(unit, box)
            return dropped, " & ".join(self.flow.blamed) if dropped else ""

        boxes = (
            b for b, out in zip(rules.boxes, rules.outputs, strict=True) if b and out == output
        )
        return self.memo.each(("dropped", self._all_behind(unit)), boxes, answer)

    def _all_behind(self, unit: str) -> tuple[object, ...]:
        """All that packets may meet from a unit on, before a server."""
        found: dict[str, object] = {}
        todo = [unit]
        while todo:
            name = todo.pop()
            if name not in found:
                at, outputs = self.units[name], self._outputs(name)
                found[name] = (name, at.kind, at.nf, Same(self._program(name)), *outputs.items())
                todo += outputs.values() if at.kind != SERVER else ()
        return tuple(found.values())

    def _can_drop(self, name: str, known: dict[str, bool]) -> bool:
        """Whether switches may drop anything from here on, before a server sees it."""
        if name in known:
            return known[name]
        unit = self.units[name]
        program = self._program(name)
        if unit.kind == SERVER or program is None:
            known[name] = False
            return False
        assert unit.element is not None
        outputs = self._outputs(name)
        drops = any(output not in outputs for output in unit.element.outputs)
        if isinstance(program, FilterProgram):
            drops = drops or DROP in (program.default, *(rule.output for rule in program.rules))
        drops = drops or isinstance(program, RouteProgram)
        known[name] = drops or any(self._can_drop(t, known) for t in outputs.values())
        return known[name]

    def _drop_unreached(self, name: str) -> None:
        """Rules and pairs whose packets never arrive.

        If that is because of other NFs' rules they go only if it is worth it: a changed rule there
        would change the entries here. Worth it are many, and all that lead to some place.
        """
        program = self._program(name)
        if self._all_arrive(name):
            return
        if (checked := self._filter(name)) is not None:
            known = self.flow.rules(checked)
            assert known is not None
            boxes = list(known.boxes)
            names = [rule.rule for rule in checked.rules]
        elif isinstance(program, RewriteProgram):
            boxes = [self.flow.rewrite(program).origin_box(i) for i in range(len(program.pairs))]
            names = [f"pairs[{number}]" for number in range(len(program.pairs))]
        else:
            return
        why = {
            number: (self._why_unreached(), bool(self.flow.blamed))
            for number, box in enumerate(boxes)
            if box is not None and not self.flow.arrives(name, box)
        }
        others = {number for number, (_, blamed) in why.items() if blamed}
        if checked is not None and len(others) < self.costs.least_gain:
            alive = {rule.output for n, rule in enumerate(checked.rules) if n not in why}
            alive |= {checked.default, DROP}
            others = {n for n in others if checked.rules[n].output in alive}
        else:
            others = set[int]()
        place = self.units[name].occurrence
        assert place is not None
        for number, (text, _) in why.items():
            into = self.unmet if number in others else self.removed
            into.append(Removed(place, names[number], text, by_arrival=True))
        left = [number for number in range(len(boxes)) if number not in why or number in others]
        if checked is not None and len(left) < len(boxes):
            self._set_program(name, replace(checked, rules=tuple(checked.rules[n] for n in left)))
        elif isinstance(program, RewriteProgram) and len(left) < len(boxes):
            self._set_program(name, replace(program, pairs=tuple(program.pairs[n] for n in left)))

    def _all_arrive(self, name: str) -> bool:
        """Whether packets of every kind enter the graph right here."""
        entering = self.flow.entries.get(name, [])
        return any(EVERYTHING in self.traffic[entry.endpoint] for entry in entering)

    def _why_unreached(self) -> str:
        if not self.flow.blamed:
            return "no packet that it asks for arrives: no traffic of the graph brings one"
        return f"no packet that it asks for arrives, because of {', '.join(self.flow.blamed)}"

    def _prune(self) -> None:
        """Kinds of packet anew; units that none reaches go.

        An arc that no rule takes any more stays as long as both its ends do: the shape of a graph
        should not depend on single rules.
        """
        reached: dict[str, frozenset[int]] = dict.fromkeys(self.units, frozenset())
        for entry in self.entries:
            reached[entry.target] |= self.versions[entry.endpoint]
        for name in self._order():
            unit = self.units[name]
            split = narrow(unit.element, reached[name])
            for output, target in self._outputs(name).items():
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

    def _compose_rewrites(self) -> None:
        """A rewrite right behind another one of the same field becomes part of it; empty ones go.

        So do filters that were given no rules. One whose rules are all removed stays, so that another
        rule elsewhere does not change the shape of the graph.
        """
        for name in self._order():
            program = self._program(name)
            if (checked := self._filter(name)) is not None and name in self.without_rules:
                outputs = self._outputs(name)
                if checked.default in outputs:
                    self.passed += _places(self.units[name])
                    self._bypass(name, {checked.default: outputs[checked.default]})
                    self.changes.append(f"filters: {name} is left out, since it has no rule")
                continue
            if not isinstance(program, RewriteProgram):
                continue
            source = self._only_source(name)
            first = self._program(source) if source else None
            outputs = self._outputs(name)
            if isinstance(first, RewriteProgram) and first.field == program.field:
                unit, other = self.units[source], self.units[name]
                self._set_program(
                    source,
                    composed(first, program),
                    merged=(*unit.merged, *_places(other)),
                    why=f"{unit.why}; rewrites once for {unit.nf} and {other.nf}",
                )
                self._bypass(name, outputs)
                self.changes.append(f"rewrites: {source} does what {name} did behind it")
            elif not program.pairs:
                self.passed += _places(self.units[name])
                self._bypass(name, outputs)
                self.changes.append(f"rewrites: {name} is left out, since it has no pair")

    def _bypass(self, name: str, outputs: Mapping[str, str]) -> None:
        """Take a unit with one output out of the graph."""
        following = next(iter(outputs.values()), None)
        if following is not None:
            self._redirect(name, following)
        else:
            for arc in self.flow.before(name):
                del self.arcs[arc.source, arc.output]
            self.entries[:] = [e for e in self.entries if e.target != name]
        for output in outputs:
            del self.arcs[name, output]
        del self.units[name]
        self.flow.changed()

    def _filters_first(self) -> None:
        """Filters before the rewrite or routing that they follow: a class in its ingress headers.

        A pipeline filters before it rewrites and routes; the other order takes a second pass.
        """
        moved = True
        while moved:
            moved = any(self._filter_first(name) for name in self._order())

    def _filter_first(self, name: str) -> bool:
        program, source = self._filter(name), self._only_source(name)
        outputs = self._outputs(name)
        if program is None or not source or len(outputs) != 1:
            return False
        other = self._program(source)
        if set(self._outputs(source).values()) != {name}:
            return False
        if self.units[source].ingress != self.units[name].ingress:
            return False
        if isinstance(other, RewriteProgram):
            translated = before_rewrite(program, other, self.costs, self.memo)
            if translated is None:
                return False
        elif isinstance(other, UNTOUCHED):
            translated = program
        else:
            return False
        ((output, following),) = outputs.items()
        was = [arc.output for arc in self.flow.before(name)]
        versions = self.units[source].versions
        self._redirect(source, name)
        self.arcs[name, output] = source
        for left in was:
            self.arcs[source, left] = following
        unit = self.units[name]
        self._set_program(
            name,
            translated,
            versions=versions,
            why=f"{unit.why}; asked before {source}, in the headers that packets have there",
        )
        self.flow.changed()
        self.changes.append(f"order: {name} comes before {source}")
        return True

    def _merge_filters(self) -> None:
        """Two tables in a row become one where that has fewer entries."""
        for name in reversed(self._order()):
            while name in self.units and self._merge_next(name, any_gain=False):
                pass
        for name in self._order():
            while name in self.units and self._row(name) > self.costs.filter_slots:
                if not self._merge_next(name, any_gain=True):
                    break

    def _row(self, name: str) -> int:
        """How many tables follow each other from a unit on, at most."""
        if self._filter(name) is None:
            return 0
        return 1 + max((self._row(to) for to in self._outputs(name).values()), default=0)

    def _merge_next(self, name: str, *, any_gain: bool) -> bool:
        first = self._filter(name)
        if first is None:
            return False
        for target in dict.fromkeys(self._outputs(name).values()):
            second = self._filter(target)
            one, two = self.units[name], self.units[target]
            if second is None or self._only_source(target) != name or one.ingress != two.ingress:
                continue
            into = [out for out, to in self._outputs(name).items() if to == target]
            joined = merged(self.flow, one, two, into, self.costs, any_gain=any_gain)
            if joined is None:
                continue
            program, names = joined
            assert one.element is not None
            before = entries_of(first, one.versions) + entries_of(second, two.versions)
            after = entries_of(program, one.versions)
            told = f"{one.nf} and {two.nf} in one table: {after} entries instead of {before}"
            outputs = [out for out in one.element.outputs if out not in into]
            outputs += [out for out in names.values() if out not in outputs]
            self.units[name] = replace(
                one,
                element=Element(one.element.name, program, tuple(outputs)),
                why=f"{one.why}; {told}",
                merged=(*one.merged, *_places(two)),
            )
            for out in into:
                del self.arcs[name, out]
            for out, to in self._outputs(target).items():
                del self.arcs[target, out]
                self.arcs[name, names[out]] = to
            del self.units[target]
            self.flow.changed()
            self.changes.append(f"merged: {target} into {name}: {told}")
            return True
        return False

    def _groups(self) -> tuple[Group, ...]:
        """Groups without the units that no packet reaches."""
        groups: list[Group] = []
        for group in self.groups:
            units = tuple(unit for unit in group.units if unit in self.units)
            nfs = tuple(dict.fromkeys(self.units[unit].nf for unit in units))
            if units:
                groups.append(replace(group, nfs=nfs, units=units))
        return tuple(groups)


def _places(unit: Unit) -> tuple[Occurrence, ...]:
    own = unit.occurrence
    return (*([] if own is None else [own]), *unit.merged)
