"""Steps of synthesis that remove rules: those that no packet meets, and those whose packets are dropped
later."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

from orchestrator.alignment import differing
from orchestrator.compiler.draft import Draft
from orchestrator.compiler.first_match import FirstMatch, shadowed
from orchestrator.compiler.headerspace import EVERYTHING, Box
from orchestrator.compiler.merging import Costs
from orchestrator.memo import Same
from orchestrator.model.cuts import SERVER, Removed
from orchestrator.model.elements import DROP, FilterProgram, RewriteProgram, RouteProgram
from orchestrator.nfs.values import impossible
from orchestrator.walks import walk


def drop_shadowed(draft: Draft, name: str) -> None:
    """Rules that others before them hide go."""
    program = draft.filter(name)
    if program is None:
        return
    rules = draft.flow.rules(program)
    assert rules is not None
    gone = shadowed(rules, draft.memo, name)
    for number, by in gone.items():
        first = [program.rules[n].rule for n in by[:3]]
        more = f" and {len(by) - 3} more" if len(by) > 3 else ""
        rule = program.rules[number]
        why = f"shadowed by {', '.join(first)}{more}"
        if not by:
            why = impossible(rule.match) or "no packet can meet it"
        draft.remove(name, rule.rule, why)
    if gone:
        kept = [rule for n, rule in enumerate(program.rules) if n not in gone]
        left = replace(program, rules=tuple(kept))
        draft.set_program(name, left)
        draft.flow.know(left, rules.without(gone))


def drop_early(draft: Draft, name: str) -> None:
    """Rules whose packets are all dropped later drop them."""
    program = draft.filter(name)
    if program is None:
        return
    able = {output: _can_drop(draft, target, {}) for output, target in draft.outputs(name).items()}
    matched = draft.flow.rules(program)
    assert matched is not None
    answers = {
        output: _dropped(draft, draft.arcs[name, output], matched, output)
        for output, can_drop in able.items()
        if can_drop
    }
    # Mostly no rule is meant for packets that are dropped later anyway.
    told = {o: iter(some) for o, some in answers.items() if any(map(itemgetter(0), some))}
    rules = list(program.rules)
    for number, (rule, box) in enumerate(zip(rules, matched.boxes, strict=True) if told else ()):
        dropped, later = next(told[rule.output]) if rule.output in told and box else (False, "")
        if dropped:
            origin = f"{rule.rule} & {later}" if later else rule.rule
            rules[number] = replace(rule, output=DROP, rule=origin)
    default, default_rule = program.default, program.default_rule
    if able.get(default) and draft.flow.dropped(draft.arcs[name, default], EVERYTHING):
        default, default_rule = DROP, " & ".join((default_rule, *draft.flow.blamed))
    early = len(differing(program.rules, rules))
    if early or default != program.default:
        draft.set_program(name, FilterProgram(tuple(rules), default, default_rule))
        draft.changes.append(
            f"early discard: {name} drops what {early + (default != program.default)} of its "
            "rules let through only to be dropped later"
        )


def _dropped(draft: Draft, unit: str, rules: FirstMatch, output: str) -> list[tuple[bool, str]]:
    """Whether all packets of each rule with an output are dropped from a unit on, and by what."""

    def answer(box: Box) -> tuple[bool, str]:
        dropped = draft.flow.dropped(unit, box)
        return dropped, " & ".join(draft.flow.blamed) if dropped else ""

    boxes = (b for b, out in zip(rules.boxes, rules.outputs, strict=True) if b and out == output)
    return draft.memo.each(("dropped", _all_behind(draft, unit)), boxes, answer)


def _all_behind(draft: Draft, unit: str) -> tuple[object, ...]:
    """All that packets may meet from a unit on, before a server."""
    units = draft.units
    behind = walk(
        [unit], lambda name: draft.outputs(name).values() if units[name].kind != SERVER else ()
    )
    return tuple(
        (
            *(name, units[name].kind, units[name].nf, Same(draft.program(name))),
            *draft.outputs(name).items(),
        )
        for name in behind
    )


def _can_drop(draft: Draft, name: str, answers: dict[str, bool]) -> bool:
    """Whether switches may drop anything from here on, before a server sees it."""
    if name in answers:
        return answers[name]
    unit = draft.units[name]
    program = draft.program(name)
    if unit.kind == SERVER or program is None:
        answers[name] = False
        return False
    assert unit.element is not None
    outputs = draft.outputs(name)
    drops = any(output not in outputs for output in unit.element.outputs)
    if isinstance(program, FilterProgram):
        drops = drops or DROP in (program.default, *(rule.output for rule in program.rules))
    drops = drops or isinstance(program, RouteProgram)
    answers[name] = drops or any(_can_drop(draft, t, answers) for t in outputs.values())
    return answers[name]


def drop_unreached(draft: Draft, costs: Costs, name: str) -> None:
    """Rules and pairs whose packets never arrive.

    If that is because of other NFs' rules they go only if it is worth it: a changed rule there
    would change the entries here. Worth it are many, and all that lead to some place.
    """
    program = draft.program(name)
    if _all_arrive(draft, name):
        return
    if (checked := draft.filter(name)) is not None:
        rules = draft.flow.rules(checked)
        assert rules is not None
        boxes = list(rules.boxes)
        names = [rule.rule for rule in checked.rules]
    elif isinstance(program, RewriteProgram):
        boxes = [draft.flow.rewrite(program).origin_box(i) for i in range(len(program.pairs))]
        names = [f"pairs[{number}]" for number in range(len(program.pairs))]
    else:
        return
    why = {
        number: (_why_unreached(draft), bool(draft.flow.blamed))
        for number, box in enumerate(boxes)
        if box is not None and not draft.flow.arrives(name, box)
    }
    others = {number for number, (_, blamed) in why.items() if blamed}
    if checked is not None and len(others) < costs.least_gain:
        alive = {rule.output for n, rule in enumerate(checked.rules) if n not in why}
        alive |= {checked.default, DROP}
        others = {n for n in others if checked.rules[n].output in alive}
    else:
        others = set[int]()
    place = draft.units[name].occurrence
    assert place is not None
    for number, (text, _) in why.items():
        into = draft.unmet if number in others else draft.removed
        into.append(Removed(place, names[number], text, by_arrival=True))
    left = [number for number in range(len(boxes)) if number not in why or number in others]
    if checked is not None and len(left) < len(boxes):
        draft.set_program(name, replace(checked, rules=tuple(checked.rules[n] for n in left)))
    elif isinstance(program, RewriteProgram) and len(left) < len(boxes):
        draft.set_program(name, replace(program, pairs=tuple(program.pairs[n] for n in left)))


def _all_arrive(draft: Draft, name: str) -> bool:
    """Whether packets of every kind enter the graph right here."""
    entering = draft.flow.entries.get(name, [])
    return any(EVERYTHING in draft.traffic[entry.endpoint] for entry in entering)


def _why_unreached(draft: Draft) -> str:
    if not draft.flow.blamed:
        return "no packet that it asks for arrives: no traffic of the graph brings one"
    return f"no packet that it asks for arrives, because of {', '.join(draft.flow.blamed)}"
