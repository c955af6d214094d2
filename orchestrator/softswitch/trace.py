"""What happens to one packet, step by step, as data.

`SoftSwitch.trace` runs a packet through code that was generated with calls at
every step; `TraceRecorder` turns those calls into the events below. Packets that
are not traced run code without the calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.softswitch.ir.program import Json, P4Program
from orchestrator.softswitch.state.profiles import Member, SelectorGroup
from orchestrator.softswitch.state.tables import (
    ExactTable,
    KeylessTable,
    LpmTable,
    MatchTable,
    StoredEntry,
    TernaryEntry,
)


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step; `kind` names its class for readers of JSON."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **_plain(dataclasses.asdict(self))}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@dataclass(frozen=True, slots=True)
class NamedValue:
    """A value with its name: a key field, an argument, a kept field."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """How an entry matches one key field: `value`/`other` mean what `match` says.

    exact: value; lpm: value/length; ternary and optional: value, mask; range: low, high.
    """

    name: str
    match: str
    value: int
    other: int


@dataclass(frozen=True, slots=True)
class EntryHit:
    """The entry that won, with what its controller attached to it."""

    matches: tuple[KeyMatch, ...]
    priority: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Received(TraceEvent):
    kind: ClassVar[str] = "receive"
    port: int
    source: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Entered(TraceEvent):
    """The packet enters ingress, or one copy of it egress."""

    kind: ClassVar[str] = "pipeline"
    pipeline: str
    port: int
    source: str
    replica: int


@dataclass(frozen=True, slots=True)
class ParserStep(TraceEvent):
    kind: ClassVar[str] = "state"
    name: str


@dataclass(frozen=True, slots=True)
class Extract(TraceEvent):
    """Bytes [start, end) became a header."""

    kind: ClassVar[str] = "extract"
    header: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParserError(TraceEvent):
    kind: ClassVar[str] = "parser_error"
    error: str


@dataclass(frozen=True, slots=True)
class ChecksumFault(TraceEvent):
    """A checksum that did not verify, or that was computed anew and differed."""

    kind: ClassVar[str] = "checksum"
    name: str
    computed: int
    verifying: bool


@dataclass(frozen=True, slots=True)
class IfTaken(TraceEvent):
    """An `if`; `source` is its text in the P4 program."""

    kind: ClassVar[str] = "condition"
    name: str
    source: str
    result: bool


@dataclass(frozen=True, slots=True)
class TableApplied(TraceEvent):
    """A table applied; `entry` is None for a miss."""

    kind: ClassVar[str] = "table"
    table: str
    keys: tuple[NamedValue, ...]
    entry: EntryHit | None

    @property
    def hit(self) -> bool:
        return self.entry is not None


@dataclass(frozen=True, slots=True)
class GroupPick(TraceEvent):
    """A selector's hash over a group's members that are up."""

    kind: ClassVar[str] = "group"
    profile: str
    group: int
    hash: int
    size: int


@dataclass(frozen=True, slots=True)
class MemberRun(TraceEvent):
    kind: ClassVar[str] = "member"
    profile: str
    member: int


@dataclass(frozen=True, slots=True)
class ActionRun(TraceEvent):
    kind: ClassVar[str] = "action"
    action: str
    arguments: tuple[NamedValue, ...]


@dataclass(frozen=True, slots=True)
class FieldSet(TraceEvent):
    kind: ClassVar[str] = "set"
    field: str
    value: int


@dataclass(frozen=True, slots=True)
class ValiditySet(TraceEvent):
    kind: ClassVar[str] = "validity"
    header: str
    valid: bool


@dataclass(frozen=True, slots=True)
class HeaderCopy(TraceEvent):
    kind: ClassVar[str] = "copy"
    to: str
    source: str
    valid: bool


@dataclass(frozen=True, slots=True)
class StackShift(TraceEvent):
    kind: ClassVar[str] = "shift"
    stack: str
    count: int
    push: bool


@dataclass(frozen=True, slots=True)
class CounterCounted(TraceEvent):
    kind: ClassVar[str] = "count"
    counter: str
    index: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Metered(TraceEvent):
    """`index` is None for a direct meter; color 0 green, 1 yellow, 2 red."""

    kind: ClassVar[str] = "meter"
    meter: str
    index: int | None
    color: int


@dataclass(frozen=True, slots=True)
class Register(TraceEvent):
    kind: ClassVar[str] = "register"
    register: str
    index: int
    value: int
    written: bool


@dataclass(frozen=True, slots=True)
class LogLine(TraceEvent):
    kind: ClassVar[str] = "log"
    text: str


@dataclass(frozen=True, slots=True)
class MarkToDrop(TraceEvent):
    kind: ClassVar[str] = "mark_to_drop"


@dataclass(frozen=True, slots=True)
class ActionExit(TraceEvent):
    kind: ClassVar[str] = "exit"


@dataclass(frozen=True, slots=True)
class Truncate(TraceEvent):
    kind: ClassVar[str] = "truncate"
    length: int


@dataclass(frozen=True, slots=True)
class Digest(TraceEvent):
    kind: ClassVar[str] = "digest"
    digest: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clone(TraceEvent):
    """Copies (port, instance) of a session; None: the session does not exist."""

    kind: ClassVar[str] = "clone"
    pipeline: str
    session: int
    copies: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True, slots=True)
class Multicast(TraceEvent):
    kind: ClassVar[str] = "multicast"
    group: int
    copies: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Resubmit(TraceEvent):
    kind: ClassVar[str] = "resubmit"
    kept: tuple[NamedValue, ...]


@dataclass(frozen=True, slots=True)
class Recirculate(TraceEvent):
    kind: ClassVar[str] = "recirculate"
    kept: tuple[NamedValue, ...]
    frame: bytes


@dataclass(frozen=True, slots=True)
class DroppedPacket(TraceEvent):
    """`where`: ingress, egress, or queue (a priority without a queue)."""

    kind: ClassVar[str] = "drop"
    where: str


@dataclass(frozen=True, slots=True)
class Send(TraceEvent):
    kind: ClassVar[str] = "send"
    port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Fault(TraceEvent):
    """The packet ended here: an assertion, or a loop that was cut."""

    kind: ClassVar[str] = "fault"
    text: str


def log_text(text: str, values: tuple[int, ...]) -> str:
    """log_msg's text with a value in place of each {}."""
    for value in values:
        text = text.replace("{}", str(value), 1)
    return text


def entry_hit(table: MatchTable, entry: StoredEntry) -> EntryHit:
    matches: list[KeyMatch] = []
    for i, (key, shift) in enumerate(zip(table.keys, table.shifts, strict=True)):
        ones = (1 << key.width) - 1
        if isinstance(table, ExactTable):
            value: int = entry.key if len(table.keys) == 1 else entry.key[i]
            matches.append(KeyMatch(key.name, "exact", value, ones))
            continue
        value = entry.key >> shift & ones
        mask = entry.mask >> shift & ones if isinstance(entry, TernaryEntry) else ones
        if key.kind == "range":
            at = [k.name for k in table.keys if k.kind == "range"].index(key.name)
            low, high = entry.spec[at]
            matches.append(KeyMatch(key.name, "range", low, high))
        elif key.kind == "lpm":
            length = entry.spec if isinstance(table, LpmTable) else mask.bit_count()
            matches.append(KeyMatch(key.name, "lpm", value, length))
        else:
            matches.append(KeyMatch(key.name, key.kind, value, mask))
    metadata = b"" if entry.extra is None else entry.extra[0]
    return EntryHit(tuple(matches), entry.priority, metadata)


class TraceRecorder:
    """The `T` of generated code: called at every step with its kind and raw particulars."""

    def __init__(self, program: P4Program, tables: Mapping[str, MatchTable]) -> None:
        self.events: list[TraceEvent] = []
        self._tables = tables
        self._params = {a.name: a.params for t in program.tables() for a in t.actions}
        self._errors = {code: name for name, code in program.errors.items()}
        self._lists = program.field_lists
        origins = program.architecture.instance_types.items()
        self._origins = {number: origin.value for origin, number in origins}
        self._conditions = {
            c.name: c.source for p in program.pipelines.values() for c in p.conditionals.values()
        }

    def __call__(self, kind: str, *parts: Any) -> None:
        make = _MAKERS.get(kind)
        self.events.append(getattr(self, f"_{kind}")(*parts) if make is None else make(*parts))

    def received(self, port: int, source: int, frame: bytes) -> None:
        """A pass begins; `source` is an instance type."""
        self.events.append(Received(port, self._origin(source), frame))

    def _origin(self, source: int) -> str:
        return self._origins.get(source, str(source))

    def _pipeline(self, name: str, port: int, source: int, replica: int) -> TraceEvent:
        return Entered(name, port, self._origin(source), replica)

    def _parser_error(self, error: str | int) -> TraceEvent:
        return ParserError(error if isinstance(error, str) else self._errors.get(error, str(error)))

    def _condition(self, name: str, result: bool) -> TraceEvent:
        return IfTaken(name, self._conditions.get(name, ""), result)

    def _table(self, name: str, key: Any, entry: StoredEntry | None) -> TraceEvent:
        table = self._tables[name]
        keys: tuple[NamedValue, ...] = ()
        if not isinstance(table, KeylessTable):
            values = key if isinstance(key, tuple) else (key,)
            keys = tuple(NamedValue(k.name, v) for k, v in zip(table.keys, values, strict=True))
        return TableApplied(name, keys, None if entry is None else entry_hit(table, entry))

    def _group(self, profile: str, group: SelectorGroup, number: int) -> TraceEvent:
        return GroupPick(profile, group.id, number, len(group.live))

    def _member(self, profile: str, member: Member) -> TraceEvent:
        return MemberRun(profile, member.id)

    def _action(self, name: str, args: tuple[int, ...]) -> TraceEvent:
        params = self._params.get(name, ())
        return ActionRun(
            name, tuple(NamedValue(p.name, v) for p, v in zip(params, args, strict=False))
        )

    def _log(self, text: str, values: tuple[int, ...]) -> TraceEvent:
        return LogLine(log_text(text, values))

    def _kept(self, field_list: int, values: tuple[int, ...]) -> tuple[NamedValue, ...]:
        fields = self._lists.get(field_list, ())
        return tuple(NamedValue(f"{h}.{f}", v) for (h, f), v in zip(fields, values, strict=False))

    def _resubmit(self, field_list: int, values: tuple[int, ...]) -> TraceEvent:
        return Resubmit(self._kept(field_list, values))

    def _recirculate(self, field_list: int, values: tuple[int, ...], frame: bytes) -> TraceEvent:
        return Recirculate(self._kept(field_list, values), frame)


_MAKERS: dict[str, Any] = {
    "state": ParserStep,
    "extract": Extract,
    "checksum": lambda name, value, verifying: ChecksumFault(name, value, verifying),
    "set": FieldSet,
    "valid": lambda header: ValiditySet(header, True),
    "invalid": lambda header: ValiditySet(header, False),
    "copy": lambda to, source, valid: HeaderCopy(to, source, bool(valid)),
    "push": lambda stack, count: StackShift(stack, count, True),
    "pop": lambda stack, count: StackShift(stack, count, False),
    "count": CounterCounted,
    "meter": Metered,
    "register": Register,
    "mark_to_drop": MarkToDrop,
    "exit": ActionExit,
    "truncate": Truncate,
    "digest": Digest,
    "clone": lambda where, session, copies: Clone(
        where, session, None if copies is None else tuple(copies)
    ),
    "multicast": lambda group, copies: Multicast(group, tuple(copies)),
    "drop": DroppedPacket,
    "send": Send,
}
