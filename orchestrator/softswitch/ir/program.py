"""A P4 program as code generators see it: frozen dataclasses, every value checked by the readers.

Expressions and primitives are JSON objects in the one form that `operands` makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.architectures import Architecture

Json = Any


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field of a header type; `width` in bits (a varbit's is its maximum)."""

    name: str
    width: int
    signed: bool
    varbit: bool = False
    saturating: bool = False


@dataclass(frozen=True)
class HeaderType:
    name: str
    fields: tuple[HeaderField, ...]

    @cached_property
    def by_name(self) -> Mapping[str, HeaderField]:
        return {f.name: f for f in self.fields}

    @property
    def fixed_bits(self) -> int:
        """Width without the varbit field, in bits."""
        return sum(f.width for f in self.fields if not f.varbit)

    @property
    def varbit(self) -> HeaderField | None:
        return next((f for f in self.fields if f.varbit), None)


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    type: HeaderType
    metadata: bool
    index: int


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    type: HeaderType
    elements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A header union: at most one of `members` (headers) is valid; `names` are what it calls them."""

    name: str
    members: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnionStack:
    name: str
    elements: tuple[Union, ...]


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Action:
    id: int
    name: str
    params: tuple[Param, ...]
    primitives: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One match field: `header.field` read, and how it is matched."""

    name: str
    kind: str
    header: str
    field: str
    width: int
    mask: int | None


class Lookup(Enum):
    """How a table is looked up, by the kinds of its keys; other generators know these names."""

    KEYLESS = "KEYLESS"
    EXACT = "EXACT"
    LPM = "LPM"
    """One LPM key, the others exact."""
    TERNARY = "TERNARY"
    """A ternary, range or optional key among the others."""


def lookup_of(keys: Iterable[Key]) -> Lookup:
    """The simplest look-up that serves these keys."""
    kinds = {key.kind for key in keys}
    if not kinds:
        return Lookup.KEYLESS
    if kinds & {"ternary", "range", "optional"}:
        return Lookup.TERNARY
    return Lookup.LPM if "lpm" in kinds else Lookup.EXACT


@dataclass(frozen=True, slots=True)
class ConstEntry:
    """An entry of `const entries`; `matches` holds one tuple a key field."""

    matches: tuple[tuple[int, ...], ...]
    action_id: int
    args: tuple[int, ...]
    priority: int


@dataclass(frozen=True, slots=True)
class P4Table:
    name: str
    keys: tuple[Key, ...]
    kind: str
    actions: tuple[Action, ...]
    next_tables: Mapping[str, str | None]
    base_next: str | None
    default_action: int
    default_args: tuple[int, ...]
    const_default: bool
    size: int
    with_counters: bool
    entries: tuple[ConstEntry, ...]
    profile: str | None = None
    selects: bool = False
    ages: bool = False
    meter: str | None = None

    @property
    def rich(self) -> bool:
        """Whether entries carry a timeout or a meter of their own."""
        return self.ages or self.meter is not None

    def action_index(self, action_id: int) -> int:
        for i, action in enumerate(self.actions):
            if action.id == action_id:
                return i
        raise UnsupportedFeature(f"BMv2 JSON: table {self.name}: no action with id {action_id}")


@dataclass(frozen=True, slots=True)
class Conditional:
    name: str
    expression: Json
    true_next: str | None
    false_next: str | None
    source: str = ""
    """Its text in the P4 program."""


@dataclass(frozen=True, slots=True)
class ActionCall:
    """An action run without a table."""

    name: str
    action: Action
    next: str | None


@dataclass(frozen=True, slots=True)
class ControlGraph:
    name: str
    init: str | None
    tables: Mapping[str, P4Table]
    conditionals: Mapping[str, Conditional]
    calls: Mapping[str, ActionCall]


@dataclass(frozen=True, slots=True)
class Transition:
    """`value` None is the default; `mask` None compares the whole key.

    `value_set` names the set whose members match, instead of `value`.
    """

    value: int | None
    mask: int | None
    next_state: str | None
    value_set: str | None = None


@dataclass(frozen=True, slots=True)
class ParseState:
    name: str
    ops: tuple[Json, ...]
    key: tuple[Json, ...]
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Calculation:
    name: str
    algo: str
    inputs: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Checksum:
    name: str
    header: str
    field: str
    calculation: str
    condition: Json | None
    verify: bool
    update: bool


@dataclass(frozen=True, slots=True)
class CounterDecl:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class MeterDecl:
    """`target` is where a direct meter leaves the color, `table` whose entries have it."""

    name: str
    size: int
    packets: bool
    table: str | None
    target: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class LearnList:
    """What one digest carries."""

    id: int
    name: str
    elements: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class ActionProfile:
    """`selector` names the calculation that picks a group's member, if there is one."""

    name: str
    size: int
    selector: str | None


@dataclass(frozen=True, slots=True)
class ValueSetDecl:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class RegisterDecl:
    name: str
    size: int
    width: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class P4Program:
    """A program as read; it is itself and no other, so that what is made of it can be kept with it."""

    architecture: Architecture
    headers: Mapping[str, Header]
    stacks: Mapping[str, Stack]
    unions: Mapping[str, Union]
    union_stacks: Mapping[str, UnionStack]
    union_of: Mapping[str, Union]
    aliases: Mapping[str, tuple[str, str]]
    lengths: Mapping[str, Json]
    """Bits of a header type's varbit, where they follow from the fields before it (as parameters)."""
    init_state: str | None
    states: Mapping[str, ParseState]
    deparse_order: tuple[str, ...]
    deparse_primitives: tuple[Json, ...]
    actions: tuple[Action, ...]
    pipelines: Mapping[str, ControlGraph]
    """The architecture's controls by name, in its order."""
    calculations: Mapping[str, Calculation]
    checksums: tuple[Checksum, ...]
    counters: Mapping[str, CounterDecl]
    registers: Mapping[str, RegisterDecl]
    meters: Mapping[str, MeterDecl]
    learn_lists: Mapping[int, LearnList]
    profiles: Mapping[str, ActionProfile]
    value_sets: Mapping[str, ValueSetDecl]
    field_lists: Mapping[int, tuple[tuple[str, str], ...]]
    errors: Mapping[str, int]

    def tables(self) -> Iterable[P4Table]:
        for pipeline in self.pipelines.values():
            yield from pipeline.tables.values()

    def profile_actions(self, profile: str) -> list[str]:
        """Names of the actions of all tables that share a profile: the numbers of members'."""
        tables = [t for t in self.tables() if t.profile == profile]
        return list(dict.fromkeys(a.name for t in tables for a in t.actions))

    def field(self, header: str, name: str) -> HeaderField:
        return self.headers[header].type.by_name[name]
