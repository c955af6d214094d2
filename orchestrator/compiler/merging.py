"""What becomes of two stateless elements in a row: tables multiplied, rewrites composed or passed by.

The cost model counts table entries: a first-match table costs BMv2 time for every entry and a Tofino
TCAM (docs/decisions/0031), so two tables are merged only when the product, without what is shadowed in
it, has fewer entries than both, and when some table of the pipelines holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from orchestrator.compiler.first_match import FirstMatch, first_match, shadowed
from orchestrator.compiler.flow import HeaderFlow
from orchestrator.compiler.headerspace import EVERYTHING, SHAPES_OF_VERSION, Box, box_of
from orchestrator.memo import Memo, Same
from orchestrator.model.cuts import Unit
from orchestrator.model.elements import (
    DROP,
    FilterProgram,
    FilterRule,
    RewriteProgram,
)
from orchestrator.model.match import ANY, Match, PortRange, Prefix
from orchestrator.model.topology import Topology
from orchestrator.targets.block import VERSION_TABLE
from orchestrator.targets.footprints import entries_needed
from orchestrator.targets.pipelines import Pipeline

ValueT = TypeVar("ValueT")
MOST_CLASSES = 10_000_000
_DRAFT = 4
"""A product may have so many times the entries of both before shadowed ones are taken out of it,"""
_SMALL = 512
"""if both have so few; large ones hardly shrink, and it takes long to find that out."""
_AT_ONCE = 256
"""Of so many rules it is remembered what they meet, even if the whole product is too large."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What decides. `table_entries` is the largest filter table by IP version (0: not IP).

    `worth`, `least_gain`: two tables become one if that has at most this share of their entries, and so
    many fewer. A smaller gain is not worth that a changed rule changes other NFs' entries, and may
    change what is merged. But any gain is where more than `filter_slots` tables follow each other,
    since that saves a pass.
    `pass_entries`: a filter moved before a rewrite may get so many entries more, since the second pass
    through the pipeline that it saves costs BMv2 as much as some 900 (docs/decisions/0031).
    """

    table_entries: Mapping[int, int] = field(default_factory=dict[int, int])
    pass_entries: int = 256
    most_classes: int = MOST_CLASSES
    merging: bool = True
    worth: float = 0.75
    least_gain: int = 8
    filter_slots: int = 3
    ranges: bool = True


def costs_on(
    topology: Topology,
    pipelines: Mapping[str, Pipeline],
    taken: Mapping[str, Counter[str]],
    *,
    most_classes: int = MOST_CLASSES,
    merging: bool = True,
) -> Costs:
    """What decides on these switches' pipelines, beside the entries that are `taken`."""
    slots = min(sum(s.block == FilterProgram.block for s in p.slots) for p in pipelines.values())
    return Costs(
        _filter_sizes(topology, pipelines, taken),
        most_classes=most_classes,
        merging=merging,
        filter_slots=slots,
        ranges=all(p.target.ranges for p in pipelines.values()),
    )


def _filter_sizes(
    topology: Topology, pipelines: Mapping[str, Pipeline], taken: Mapping[str, Counter[str]]
) -> dict[int, int]:
    """Entries by IP version that one filter may have on every switch."""
    sizes: dict[int, int] = {}
    for name, pipeline in pipelines.items():
        limits, held = topology.switches[name].table_sizes, taken.get(name, Counter())
        filters = [s.instance for s in pipeline.slots if s.block == FilterProgram.block]
        for version, table in VERSION_TABLE.items():
            tables = [f"{instance}.{table}" for instance in filters]
            most = max((pipeline.table_sizes.get(t, 0) - held[t] for t in tables), default=0)
            most = min(most, limits.get(f"{FilterProgram.block}.{table}", most))
            sizes[version] = min(most, sizes.get(version, most))
    return sizes


def entries_of(program: FilterProgram, versions: frozenset[int]) -> int:
    """Entries of a filter for packets of some kinds, the defaults included."""
    return sum(_entries_by_version(program, versions).values())


def _entries_by_version(
    program: FilterProgram, versions: frozenset[int], ranges: bool = True
) -> dict[int, int]:
    need = entries_needed(program, versions, ranges)
    return {version: need[program.block, VERSION_TABLE[version]] for version in sorted(versions)}


def count_pairs(first: FirstMatch, output: str, second: FirstMatch) -> int:
    """Traffic classes that two lists make: rules of the first that lead to the second, times theirs."""
    boxes = [b for b, out in zip(first.boxes, first.outputs, strict=True) if out == output]
    pairs = sum(second.index.count(box) + 1 for box in boxes if box is not None)
    return pairs + (len(second.boxes) + 1 if first.default == output else 0)


def merged(
    flow: HeaderFlow, one: Unit, two: Unit, into: Sequence[str], costs: Costs, *, any_gain: bool
) -> tuple[FilterProgram, dict[str, str]] | None:
    """One program for two, and what the second's outputs are called in it; None: not worth it.

    `into` are the outputs by which the first leads to the second.
    """
    assert one.element is not None
    assert two.element is not None
    first, second = one.element.program, two.element.program
    assert isinstance(first, FilterProgram)
    assert isinstance(second, FilterProgram)
    if not costs.merging:
        return None
    limit = entries_of(first, one.versions) + entries_of(second, two.versions)
    taken = {out for out in one.element.outputs if out not in into}
    names = {out: f"{two.nf}.{out}" if out in taken else out for out in two.element.outputs}
    most = _DRAFT * limit if limit <= _SMALL else limit
    pairs = _product(flow, first, second, frozenset(into), most, two.id)
    if pairs is None:
        return None

    def both(rule: FilterRule, match: Match, later: FilterRule | None) -> FilterRule:
        if later is None:
            return rule
        origin = f"{rule.rule} & {two.nf}: {later.rule}"
        return FilterRule(match, names.get(later.output, DROP), origin)

    rules = [both(*pair) for pair in pairs]
    default, default_rule = first.default, first.default_rule
    if default in into:
        default = names.get(second.default, DROP)
        default_rule = f"{first.default_rule} & {two.nf}: {second.default_rule}"
    whole = FilterProgram(tuple(rules), default, default_rule)
    program = _reduced(whole, one.versions, flow.memo, (one.id, two.id))
    counts = _entries_by_version(program, one.versions)
    most = limit - 1 if any_gain else min(costs.worth * limit, limit - costs.least_gain)
    if sum(counts.values()) > most:
        return None
    held = counts if costs.ranges else _entries_by_version(program, one.versions, ranges=False)
    if any(n > costs.table_entries.get(version, n) for version, n in held.items()):
        return None
    return program, names


class _TooMany(Exception):
    """A product is larger than it may be."""


def _product(
    flow: HeaderFlow,
    first: FilterProgram,
    second: FilterProgram,
    into: frozenset[str],
    most: int,
    where: str,
) -> Iterator[tuple[FilterRule, Match, FilterRule | None]] | None:
    """Every rule of the first, those that lead on with every rule of the second that they meet; None
    when there are more than `most`."""
    others = flow.rules(second)
    assert others is not None
    memo = flow.memo
    what = ("rules met", Same(memo.same(("second of a product", where), second)))
    default = FilterRule(ANY, second.default, second.default_rule)
    last = second.rules if first.default in into else ()
    leading = [rule.match for rule in first.rules if rule.output in into]
    left = room = most - len(last) - (len(first.rules) - len(leading))

    def met(match: Match) -> list[tuple[Match, FilterRule]]:
        nonlocal room
        box, meeting = box_of(match), list[tuple[Match, FilterRule]]()
        for number in others.index.meeting(box) if box is not None else ():
            both = meet(match, second.rules[number].match)
            if both is not None:
                meeting.append((both, second.rules[number]))
                if both == match:
                    break
        else:
            meeting += [(match, default)] if box is not None else []
        room -= len(meeting)
        if room < 0:
            raise _TooMany
        return meeting

    further: list[list[tuple[Match, FilterRule]]] = []
    for start in range(0, len(leading), _AT_ONCE):
        room = left
        try:
            further += (meeting := memo.each(what, leading[start : start + _AT_ONCE], met))
        except _TooMany:
            return None
        left -= sum(map(len, meeting))
        if left < 0:
            return None

    def pairs() -> Iterator[tuple[FilterRule, Match, FilterRule | None]]:
        behind = iter(further)
        for rule in first.rules:
            if rule.output not in into:
                yield rule, rule.match, None
            else:
                yield from ((rule, both, later) for both, later in next(behind))
        whole = FilterRule(ANY, first.default, first.default_rule)
        yield from ((whole, other.match, other) for other in last)

    return pairs()


def _within(version: int, boxes: Sequence[Box | None], memo: Memo) -> list[Box | None]:
    """What boxes have of an IP version."""
    whole = EVERYTHING._replace(shapes=SHAPES_OF_VERSION[version])

    def part(box: Box | None) -> Box | None:
        return None if box is None else box.intersect(whole)

    return memo.each(("part of a box", version), boxes, part)


def _reduced(
    program: FilterProgram, versions: frozenset[int], memo: Memo, where: Hashable
) -> FilterProgram:
    """Without rules that are shadowed, each rule only for the IP versions in which it is not."""
    alive: dict[int, set[int]] = {}
    own_rules = first_match(program, memo)
    assert own_rules is not None
    for version in sorted(versions):
        boxes = _within(version, own_rules.boxes, memo)
        gone = shadowed(own_rules.only(boxes, memo), memo, (where, version))
        for number in range(len(boxes)):
            if number not in gone:
                alive.setdefault(number, set()).add(version)
    rules: list[FilterRule] = []
    for number, rule in enumerate(program.rules):
        left = alive.get(number)
        if not left:
            continue
        if left < rule.match.kind.versions & versions and left in ({4}, {6}):
            rule = replace(rule, match=replace(rule.match, version=min(left)))
        rules.append(rule)
    return replace(program, rules=tuple(rules))


class _Apart(Exception):
    """No packet meets both conditions."""


def meet(a: Match, b: Match) -> Match | None:
    """What both matches ask; None when no packet meets both."""
    try:
        both = Match(
            ether_type=_same(a.ether_type, b.ether_type),
            version=_same(a.version, b.version),
            src=_prefix(a.src, b.src),
            dst=_prefix(a.dst, b.dst),
            protocol=_same(a.protocol, b.protocol),
            src_port=_ports(a.src_port, b.src_port),
            dst_port=_ports(a.dst_port, b.dst_port),
            tcp_flags=_flags(a.tcp_flags, b.tcp_flags),
            later_fragment=_same(a.later_fragment, b.later_fragment),
            icmp_type=_same(a.icmp_type, b.icmp_type),
            icmp_code=_same(a.icmp_code, b.icmp_code),
            vlan=_same(a.vlan, b.vlan),
        )
    except _Apart:
        return None
    return both if box_of(both) is not None else None


def _same(a: ValueT | None, b: ValueT | None) -> ValueT | None:
    if a is None or b is None:
        return b if a is None else a
    if a != b:
        raise _Apart
    return a


def _prefix(a: Prefix | None, b: Prefix | None) -> Prefix | None:
    if a is None or b is None:
        return b if a is None else a
    wide, narrow = (a, b) if a.length <= b.length else (b, a)
    if a.version != b.version or narrow.value & wide.mask != wide.value:
        raise _Apart
    return narrow


def _ports(a: PortRange | None, b: PortRange | None) -> PortRange | None:
    if a is None or b is None:
        return b if a is None else a
    low, high = max(a.low, b.low), min(a.high, b.high)
    if low > high:
        raise _Apart
    return PortRange(low, high)


def _flags(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    if a is None or b is None:
        return b if a is None else a
    if (a[0] ^ b[0]) & a[1] & b[1]:
        raise _Apart
    return (a[0] & a[1] | b[0] & b[1], a[1] | b[1])


def composed(first: RewriteProgram, second: RewriteProgram) -> RewriteProgram:
    """One rewrite that does what two of the same field do in a row.

    A pair that comes back to its first address stays: a checksum of 0xffff is 0 after a rewrite.
    """
    then = {(version, old): new for version, old, new in second.pairs}
    olds = {(version, old) for version, old, _ in first.pairs}
    pairs = [(version, old, then.get((version, new), new)) for version, old, new in first.pairs]
    pairs += [pair for pair in second.pairs if pair[:2] not in olds]
    return RewriteProgram(first.field, tuple(pairs))


def before_rewrite(
    program: FilterProgram, rewrite: RewriteProgram, costs: Costs, memo: Memo
) -> FilterProgram | None:
    """A filter for packets that are still to be rewritten; None when that takes too many entries.

    For every address that will be replaced there are the rules that its new address meets, and a
    default; the filter's own rules follow for all other packets.
    """
    name = rewrite.field
    asked = [getattr(rule.match, name) for rule in program.rules]
    if all(prefix is None or not prefix.length for prefix in asked):
        return program
    own_rules = first_match(program, memo)
    assert own_rules is not None
    rules: list[FilterRule] = []
    for version, old, new in rewrite.pairs:
        bits = 32 if version == 4 else 128
        at, to = Prefix(version, old, bits), Prefix(version, new, bits)
        box = box_of(_asking(name, to))
        assert box is not None
        whole = False
        for number in own_rules.index.meeting(box):
            rule = program.rules[number]
            changed: dict[str, Any] = {name: at}
            match = replace(rule.match, **changed)
            rules.append(replace(rule, match=match))
            if len(rules) > costs.pass_entries:
                return None
            whole = match == replace(_asking(name, at), version=rule.match.version)
            if whole:
                break
        if not whole:
            rules.append(FilterRule(_asking(name, at), program.default, program.default_rule))
    return replace(program, rules=(*rules, *program.rules))


def _asking(name: str, prefix: Prefix) -> Match:
    return Match(src=prefix) if name == "src" else Match(dst=prefix)
