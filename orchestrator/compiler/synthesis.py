"""Synthesis: the stateless runs of a cut graph, with one table where several said the same.

SNF's idea (Katsikas et al., PeerJ CS 2016) on first-match lists instead of a product of classes: what
is certainly dropped later is dropped at once, rules that no packet meets go, rewrites that follow each
other become one, filters come before rewrites and routing (their conditions translated), and adjacent
tables become one where that is smaller than both. Nothing crosses a stateful element: a packet that is
dropped behind it may have changed its state.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.compiler.draft import Draft, places_of
from orchestrator.compiler.flow import UNTOUCHED
from orchestrator.compiler.merging import (
    Costs,
    before_rewrite,
    composed,
    count_pairs,
    entries_of,
    merged,
)
from orchestrator.compiler.removing import drop_early, drop_shadowed, drop_unreached
from orchestrator.errors import TooManyClasses
from orchestrator.memo import Memo
from orchestrator.model.cuts import Cuts
from orchestrator.model.elements import (
    Element,
    FilterProgram,
    RewriteProgram,
)
from orchestrator.model.graph import ServiceGraph


def synthesise(cuts: Cuts, graph: ServiceGraph, costs: Costs, memo: Memo | None = None) -> Cuts:
    """The same graph in fewer, smaller steps; TooManyClasses when two NFs' rules explode."""
    draft = Draft(cuts, graph, Memo() if memo is None else memo)
    without_rules = frozenset(
        name
        for name in draft.units
        if isinstance(program := draft.program(name), FilterProgram) and not program.rules
    )
    for name in list(draft.units):
        drop_shadowed(draft, name)
    _limit_classes(draft, costs)
    for name in reversed(draft.order()):
        drop_early(draft, name)
    for name in draft.order():
        drop_unreached(draft, costs, name)
    draft.prune()
    _compose_rewrites(draft, without_rules)
    _filters_first(draft, costs)
    _merge_filters(draft, costs)
    draft.prune()
    return draft.cuts()


def _limit_classes(draft: Draft, costs: Costs) -> None:
    """TooManyClasses when the rules of two adjacent NFs meet more often than the limit."""
    for (source, output), target in draft.arcs.items():
        first, second = draft.filter(source), draft.filter(target)
        if first is None or second is None:
            continue
        if (len(first.rules) + 1) * (len(second.rules) + 1) <= costs.most_classes:
            continue
        ones, others = draft.flow.rules(first), draft.flow.rules(second)
        assert ones is not None
        assert others is not None
        count = count_pairs(ones, output, others)
        if count > costs.most_classes:
            a, b = draft.units[source], draft.units[target]
            raise TooManyClasses(
                f"{a.nf} ({len(first.rules)} rules) and {b.nf} ({len(second.rules)} rules) make "
                f"{count:,} traffic classes, {count - costs.most_classes:,} more than the "
                f"limit of {costs.most_classes:,}; raise it (--max-classes), or make the "
                "rules of one narrower",
                (a.nf, b.nf),
                count,
            )


def _compose_rewrites(draft: Draft, without_rules: frozenset[str]) -> None:
    """A rewrite right behind another one of the same field becomes part of it; empty ones go.

    So do filters that were given no rules. One whose rules are all removed stays, so that another
    rule elsewhere does not change the shape of the graph.
    """
    for name in draft.order():
        program = draft.program(name)
        if (checked := draft.filter(name)) is not None and name in without_rules:
            outputs = draft.outputs(name)
            if checked.default in outputs:
                draft.passed += places_of(draft.units[name])
                draft.bypass(name, {checked.default: outputs[checked.default]})
                draft.changes.append(f"filters: {name} is left out, since it has no rule")
            continue
        if not isinstance(program, RewriteProgram):
            continue
        source = draft.only_source(name)
        first = draft.program(source) if source else None
        outputs = draft.outputs(name)
        if isinstance(first, RewriteProgram) and first.field == program.field:
            unit, other = draft.units[source], draft.units[name]
            draft.set_program(
                source,
                composed(first, program),
                merged=(*unit.merged, *places_of(other)),
                why=f"{unit.why}; rewrites once for {unit.nf} and {other.nf}",
            )
            draft.bypass(name, outputs)
            draft.changes.append(f"rewrites: {source} does what {name} did behind it")
        elif not program.pairs:
            draft.passed += places_of(draft.units[name])
            draft.bypass(name, outputs)
            draft.changes.append(f"rewrites: {name} is left out, since it has no pair")


def _filters_first(draft: Draft, costs: Costs) -> None:
    """Filters before the rewrite or routing that they follow: a class in its ingress headers.

    A pipeline filters before it rewrites and routes; the other order takes a second pass.
    """
    moved = True
    while moved:
        moved = any(_filter_first(draft, costs, name) for name in draft.order())


def _filter_first(draft: Draft, costs: Costs, name: str) -> bool:
    program, source = draft.filter(name), draft.only_source(name)
    outputs = draft.outputs(name)
    if program is None or not source or len(outputs) != 1:
        return False
    other = draft.program(source)
    if set(draft.outputs(source).values()) != {name}:
        return False
    if draft.units[source].ingress != draft.units[name].ingress:
        return False
    if isinstance(other, RewriteProgram):
        translated = before_rewrite(program, other, costs, draft.memo)
        if translated is None:
            return False
    elif isinstance(other, UNTOUCHED):
        translated = program
    else:
        return False
    ((output, following),) = outputs.items()
    was = [arc.output for arc in draft.flow.before(name)]
    versions = draft.units[source].versions
    draft.redirect(source, name)
    draft.arcs[name, output] = source
    for left in was:
        draft.arcs[source, left] = following
    unit = draft.units[name]
    draft.set_program(
        name,
        translated,
        versions=versions,
        why=f"{unit.why}; asked before {source}, in the headers that packets have there",
    )
    draft.flow.changed()
    draft.changes.append(f"order: {name} comes before {source}")
    return True


def _merge_filters(draft: Draft, costs: Costs) -> None:
    """Two tables in a row become one where that has fewer entries."""
    for name in reversed(draft.order()):
        while name in draft.units and _merge_next(draft, costs, name, any_gain=False):
            pass
    for name in draft.order():
        while name in draft.units and _row(draft, name) > costs.filter_slots:
            if not _merge_next(draft, costs, name, any_gain=True):
                break


def _row(draft: Draft, name: str) -> int:
    """How many tables follow each other from a unit on, at most."""
    if draft.filter(name) is None:
        return 0
    return 1 + max((_row(draft, to) for to in draft.outputs(name).values()), default=0)


def _merge_next(draft: Draft, costs: Costs, name: str, *, any_gain: bool) -> bool:
    first = draft.filter(name)
    if first is None:
        return False
    for target in dict.fromkeys(draft.outputs(name).values()):
        second = draft.filter(target)
        one, two = draft.units[name], draft.units[target]
        if second is None or draft.only_source(target) != name or one.ingress != two.ingress:
            continue
        into = [out for out, to in draft.outputs(name).items() if to == target]
        joined = merged(draft.flow, one, two, into, costs, any_gain=any_gain)
        if joined is None:
            continue
        program, names = joined
        assert one.element is not None
        before = entries_of(first, one.versions) + entries_of(second, two.versions)
        after = entries_of(program, one.versions)
        told = f"{one.nf} and {two.nf} in one table: {after} entries instead of {before}"
        outputs = [out for out in one.element.outputs if out not in into]
        outputs += [out for out in names.values() if out not in outputs]
        draft.units[name] = replace(
            one,
            element=Element(one.element.name, program, tuple(outputs)),
            why=f"{one.why}; {told}",
            merged=(*one.merged, *places_of(two)),
        )
        for out in into:
            del draft.arcs[name, out]
        for out, to in draft.outputs(target).items():
            del draft.arcs[target, out]
            draft.arcs[name, names[out]] = to
        del draft.units[target]
        draft.flow.changed()
        draft.changes.append(f"merged: {target} into {name}: {told}")
        return True
    return False
