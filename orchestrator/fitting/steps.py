"""A program's controls as the steps that are left of them, once it is known which tables have entries.

A table without entries always misses; a field that only ever is one value decides what depends on it;
what nobody reads need not be made. So one build stands for all pipelines of its blocks. What remains
are tables, actions without a table, and conditions (a chip's gateways), in packet order.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import lru_cache

from orchestrator.fitting.expressions import (
    Field,
    FieldWrite,
    Json,
    fields_of,
    parameters_of,
    value_of,
    writes_of,
)
from orchestrator.softswitch.ir.program import Action, ControlGraph, Key, P4Program, P4Table

Known = dict[Field, int]


@dataclass(frozen=True, slots=True)
class ActionWay:
    """What one action of a step does, where the packet goes then, and the bits of its parameters that
    are needed for that."""

    writes: tuple[FieldWrite, ...]
    next: str | None
    data_bits: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A table with keys and `entries`, a single action, or a condition (`asks`).

    `counted`: its entries have a counter each; `metered`: a meter.
    """

    name: str
    ways: tuple[ActionWay, ...]
    keys: tuple[Key, ...] = ()
    entries: int = 0
    actions: int = 1
    counted: bool = False
    metered: bool = False
    asks: Json | None = None
    asked_bits: int = 0
    """Of the fields of `asks`."""

    @property
    def looked_at(self) -> frozenset[Field]:
        """The fields that decide what it does."""
        asked = () if self.asks is None else fields_of(self.asks)
        return frozenset({*((key.header, key.field) for key in self.keys), *asked})

    @property
    def idle(self) -> bool:
        """Whether it makes no difference."""
        return (
            not self.entries
            and len({way.next for way in self.ways}) == 1
            and not any(way.writes for way in self.ways)
        )


Steps = Mapping[str, Step]
"""By name, each before those that may follow it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pipeline is to be: its tables (`instance.table`) with so many entries, else as they are
    declared; `elsewhere` and `known`: see `Chip`; `without`: files of p4src whose statements are left
    out."""

    entries: Mapping[str, int]
    elsewhere: frozenset[Field] = frozenset()
    known: Mapping[Field, int] = dataclass_field(default_factory=dict[Field, int])
    without: frozenset[str] = frozenset()

    def leaves_out(self, name: str) -> bool:
        """Whether a statement is of a block that is not there: p4c names it `tbl_<file><line>`."""
        statement = _STATEMENT.match(name)
        return statement is not None and statement[1] in self.without


_STATEMENT = re.compile(r"tbl_([a-z_]+)\d")


def steps_of(program: P4Program, control: str, asked: Asked, live: Container[Field]) -> Steps:
    """The steps of a control; `live` is what its end hands on."""
    return _needed(_reached(program, program.pipelines[control], asked), live)


def end_of(program: P4Program, behind: Steps) -> frozenset[Field]:
    """What is read after ingress: by egress (`behind`), by the deparser, by the switch, by a copy's or a
    recirculated frame's next pass."""
    emitted = {
        (header.name, field)
        for header in program.headers.values()
        if not header.metadata or header.name == program.architecture.metadata.header
        for field in ("$valid$", *(f.name for f in header.type.fields))
    }
    kept = {field for some in program.field_lists.values() for field in some}
    asked = {
        field
        for checksum in program.checksums
        if checksum.condition is not None
        for field in fields_of(checksum.condition)
    }
    read = {
        field
        for step in behind.values()
        for field in (*step.looked_at, *(r for w in step.ways for x in w.writes for r in x.reads))
    }
    return frozenset(emitted | kept | asked | read)


def _reached(program: P4Program, pipeline: ControlGraph, asked: Asked) -> dict[str, Step]:
    """What packets can come to, in packet order, with conditions that are decided left out."""
    order = _in_order(pipeline)
    states: dict[str, Known | None] = dict.fromkeys(order)
    if pipeline.init is None:
        return {}
    states[pipeline.init] = {**_at_first(program), **asked.known}
    steps: dict[str, Step] = {}
    for name in order:
        state = states[name]
        if state is None:
            continue
        step = _step(program, pipeline, name, asked, state)
        steps[name] = step
        for way in step.ways:
            if way.next is not None:
                _meet(states, way.next, _after(state, way.writes))
    return steps


def _step(
    program: P4Program, pipeline: ControlGraph, name: str, asked: Asked, state: Known
) -> Step:
    if name in pipeline.conditionals:
        conditional = pipeline.conditionals[name]
        value = value_of(conditional.expression, state)
        if value is not None:
            return Step(
                name, (ActionWay((), conditional.true_next if value else conditional.false_next),)
            )
        ways = (ActionWay((), conditional.true_next), ActionWay((), conditional.false_next))
        asked_of = set(fields_of(conditional.expression))
        bits = sum(1 if f[1] == "$valid$" else program.field(*f).width for f in asked_of)
        return Step(name, ways, asks=conditional.expression, asked_bits=bits)
    if name in pipeline.calls:
        call = pipeline.calls[name]
        return Step(name, (_way(program, call.action, call.next, asked, state),))
    return _table(program, pipeline.tables[name], asked, state)


def _table(program: P4Program, table: P4Table, asked: Asked, state: Known) -> Step:
    count = asked.entries.get(instance_table(table.name), table.size) if table.keys else 0
    default = next((a for a in table.actions if a.id == table.default_action), None)
    missed = table.next_tables.get("__MISS__", table.base_next)
    if default is not None and default.name in table.next_tables:
        missed = table.next_tables[default.name]
    on_miss = (
        ActionWay((), missed) if default is None else _way(program, default, missed, asked, state)
    )
    if not count:
        left_out = asked.leaves_out(table.name)
        return Step(table.name, (replace(on_miss, writes=()) if left_out else on_miss,))
    following = table.next_tables
    hits = tuple(
        _way(program, action, following.get("__HIT__", following.get(action.name)), asked)
        for action in table.actions
    )
    if table.meter is not None:
        target = program.meters[table.meter].target
        if target is not None:
            coloured = FieldWrite(target, frozenset())
            hits = tuple(replace(way, writes=(*way.writes, coloured)) for way in hits)
    return Step(
        table.name,
        (*hits, on_miss),
        table.keys,
        count,
        len(table.actions),
        table.with_counters,
        table.meter is not None,
    )


def instance_table(name: str) -> str:
    """A table's name without its control's."""
    return name.partition(".")[2]


def _way(
    program: P4Program,
    action: Action,
    following: str | None,
    asked: Asked,
    state: Known | None = None,
) -> ActionWay:
    """An action; what a field is already, where `state` knows it, is not written again."""
    made = _writes(program)[action.id]
    writes = tuple(write for write in made if write.target not in asked.elsewhere)
    if any(write.target == ("", "exit") for write in writes):
        following = None
    if state is not None:
        here = dict(state)
        kept: list[FieldWrite] = []
        for write in writes:
            if write.constant is None or here.get(write.target) != write.constant:
                kept.append(write)
            here = _after(here, (write,))
        writes = tuple(kept)
    return ActionWay(writes, following, sum(p.width for p in action.params))


@lru_cache(maxsize=4)
def _writes(program: P4Program) -> Mapping[int, tuple[FieldWrite, ...]]:
    """What each action writes, by its id."""
    return {
        action.id: tuple(
            replace(write, data=_data(p["parameters"], action))
            for p in action.primitives
            for write in writes_of(p, program)
        )
        for action in program.actions
    }


def _data(parameters: Iterable[Json], action: Action) -> frozenset[tuple[int, int]]:
    indices = {index for node in parameters for index in parameters_of(node)}
    return frozenset((index, action.params[index].width) for index in indices)


def _at_first(program: P4Program) -> Known:
    """Metadata that no parse state sets is 0."""
    made = {
        tuple(op["parameters"][0]["value"])
        for state in program.states.values()
        for op in state.ops
        if op["op"] == "set"
    }
    kept = {field for some in program.field_lists.values() for field in some}
    return {
        (header.name, field.name): 0
        for header in program.headers.values()
        if header.metadata and header.name != program.architecture.metadata.header
        for field in header.type.fields
        if (header.name, field.name) not in made | kept
    }


def _after(state: Known, writes: Iterable[FieldWrite]) -> Known:
    state = dict(state)
    for write in writes:
        state.pop(write.target, None)
        if write.constant is not None:
            state[write.target] = write.constant
    return state


def _meet(states: dict[str, Known | None], at: str, state: Known) -> None:
    before = states[at]
    states[at] = (
        state
        if before is None
        else {field: value for field, value in before.items() if state.get(field) == value}
    )


def _in_order(pipeline: ControlGraph) -> list[str]:
    """All nodes, each before those that may follow it."""
    after: dict[str, tuple[str | None, ...]] = {}
    for table in pipeline.tables.values():
        after[table.name] = (*table.next_tables.values(), table.base_next)
    for asked in pipeline.conditionals.values():
        after[asked.name] = (asked.true_next, asked.false_next)
    for call in pipeline.calls.values():
        after[call.name] = (call.next,)
    order: list[str] = []
    seen: set[str] = set()
    # Depth first without recursion: controls nest deeper than Python likes.
    todo: list[tuple[str, bool]] = [(pipeline.init, False)] if pipeline.init else []
    while todo:
        name, done = todo.pop()
        if done:
            order.append(name)
        elif name not in seen:
            seen.add(name)
            todo.append((name, True))
            todo.extend((n, False) for n in after[name] if n is not None and n not in seen)
    return order[::-1]


def _needed(steps: dict[str, Step], live_at_end: Container[Field]) -> dict[str, Step]:
    """Without what nobody reads, and without what then makes no difference."""
    live: dict[str, set[Field]] = {}
    needed: dict[str, Step] = {}
    instead: dict[str, str | None] = {}
    for name in reversed(steps):
        step = steps[name]
        ways: list[ActionWay] = []
        before: set[Field] = set()
        for way in step.ways:
            following = way.next
            while following is not None and following in instead:
                following = instead[following]
            wanted: set[Field] = set() if following is None else set(live[following])
            kept: list[FieldWrite] = []
            for write in reversed(way.writes):
                header, _ = write.target
                if header == "" or write.target in wanted or write.target in live_at_end:
                    kept.append(write)
                    wanted -= {write.target}
                    wanted |= write.reads
            data = frozenset[tuple[int, int]]().union(*(write.data for write in kept))
            bits = sum(width for _, width in data)
            ways.append(ActionWay(tuple(reversed(kept)), following, bits))
            before |= wanted
        step = replace(step, ways=tuple(dict.fromkeys(ways)))
        if step.idle:
            instead[name] = step.ways[0].next
            continue
        if len(step.ways) == 1 and step.asks is not None:
            step = replace(step, asks=None)
        live[name] = before | step.looked_at
        needed[name] = step
    return dict(reversed(needed.items()))
