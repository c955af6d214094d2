"""P4Runtime entities: validate, translate, apply, read back.

A write has two halves. `decode` checks an update against P4Info and turns it
into a closure-free operation without touching the tables, so it runs outside
the switch's lock; `apply` runs under it and costs a few dict operations.
Checks, their order and their codes follow p4lang/PI's device_mgr.cpp (what
BMv2 serves), with two additions of the P4Runtime specification: an empty byte
string is refused, and a full table answers RESOURCE_EXHAUSTED. Byte strings
longer than canonical are accepted when the value fits, as PI does; reads give
canonical ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finsy.proto import p4d, p4i, p4r, rpc_code

from orchestrator.errors import SwitchError
from orchestrator.softswitch.digests import DigestQueue
from orchestrator.softswitch.entity_errors import EntityError, WriteError, listed, suggest
from orchestrator.softswitch.meters import (
    Meter,
    MeterCells,
    MeterConfig,
    decode_meter_config,
    encode_meter_config,
)
from orchestrator.softswitch.packetmeta import canonical
from orchestrator.softswitch.profiles import MANUAL, Group, Member, ProfileStore
from orchestrator.softswitch.program import Table
from orchestrator.softswitch.tables import (
    Entry,
    ExactTable,
    LpmTable,
    MatchTable,
    RichEntry,
    RichTernaryEntry,
    TernaryEntry,
    TernaryTable,
)
from orchestrator.softswitch.valuesets import ValueSetCodec

if TYPE_CHECKING:
    from orchestrator.softswitch.switch import Pipeline

__all__ = ("EntityError", "EntityStore", "TableCodec", "WriteError", "listed", "suggest")

INVALID_ARGUMENT = rpc_code.INVALID_ARGUMENT
NOT_FOUND = rpc_code.NOT_FOUND
ALREADY_EXISTS = rpc_code.ALREADY_EXISTS
RESOURCE_EXHAUSTED = rpc_code.RESOURCE_EXHAUSTED
PERMISSION_DENIED = rpc_code.PERMISSION_DENIED
UNIMPLEMENTED = rpc_code.UNIMPLEMENTED
OUT_OF_RANGE = rpc_code.OUT_OF_RANGE

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE

MAX_CLONE_SESSION = 32767
FIRST_RESERVED_GROUP = 1 << 15
"""PI keeps multicast groups from here on for clone sessions."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One match field: its P4Info id, and its place in the packed key."""

    id: int
    name: str
    kind: str
    width: int
    position: int
    shift: int
    bit: int


@dataclass(frozen=True, slots=True)
class ParamSpec:
    id: int
    name: str
    width: int


@dataclass(frozen=True, slots=True)
class ActionSpec:
    id: int
    name: str
    index: int
    params: tuple[ParamSpec, ...]
    scope: int


@dataclass(frozen=True, slots=True)
class Details:
    """What an entry of a table with a profile, a direct meter or timeouts has beyond others.

    `profile_action` is a TableAction that names members or groups: it is
    resolved when the write is applied. `meter` is (config,) when it was given.
    """

    index: int = -1
    args: tuple[int, ...] = ()
    profile_action: p4r.TableAction | None = None
    decoded: tuple[tuple[int, tuple[int, ...]], ...] = ()
    extra: tuple[bytes, int, int] | None = None
    count: tuple[int, int] | None = None
    ttl_ns: int = 0
    meter: tuple[MeterConfig | None] | None = None


class TableCodec:
    """Between p4r.TableEntry and one table's entries."""

    def __init__(
        self,
        info: p4i.Table,
        program: Table,
        table: MatchTable,
        p4info: p4i.P4Info,
        profile_actions: Sequence[str] = (),
    ) -> None:
        self.id = info.preamble.id
        self.name = info.preamble.name
        self.table = table
        self.program = program
        self.immutable = info.is_const_table or bool(program.entries)
        self.const_default = info.const_default_action_id != 0 or program.const_default
        self.size = int(info.size) or program.size
        self.default = (table.miss.a, table.miss.args)
        by_name = {k.name: i for i, k in enumerate(program.keys)}
        self.fields: list[FieldSpec] = []
        for n, m in enumerate(info.match_fields):
            position = by_name.get(m.name)
            if position is None and n < len(program.keys):
                position = n
            if position is None:
                raise SwitchError(
                    f"P4Info: table {self.name}: match field '{m.name}' is not in the BMv2 JSON"
                )
            key = program.keys[position]
            self.fields.append(
                FieldSpec(
                    m.id,
                    m.name,
                    # p4c writes optional fields as ternary into the JSON; P4Info tells them apart.
                    "optional" if m.match_type == p4i.MatchField.OPTIONAL else key.kind,
                    key.width,
                    position,
                    table.shifts[position],
                    1 << n,
                )
            )
        if len(self.fields) != len(program.keys):
            raise SwitchError(
                f"P4Info: table {self.name} has {len(self.fields)} match fields, "
                f"the BMv2 JSON has {len(program.keys)}"
            )
        self.by_id = {f.id: f for f in self.fields}
        self.required = sum(f.bit for f in self.fields if f.kind == "exact")
        self.needs_priority = isinstance(table, TernaryTable)
        self.ranges = [f for f in self.fields if f.kind == "range"]
        self.ranges.sort(key=lambda f: f.position)
        self.range_slot = {f.id: i for i, f in enumerate(self.ranges)}
        self.any_ranges = tuple((0, (1 << f.width) - 1) for f in self.ranges)
        self.exact_mask = sum(
            ((1 << f.width) - 1) << f.shift for f in self.fields if f.kind == "exact"
        )
        self.actions: dict[int, ActionSpec] = {}
        self.all_actions = {a.preamble.id: a for a in p4info.actions}
        names = {a.preamble.name: a for a in p4info.actions}
        refs = {r.id: r for r in info.action_refs}
        self.action_of_index: dict[int, ActionSpec] = {}
        for index, action in enumerate(program.actions):
            known = names.get(action.name)
            if known is None:
                continue
            params = tuple(ParamSpec(p.id, p.name, p.bitwidth) for p in known.params)
            ref = refs.get(known.preamble.id)
            spec = ActionSpec(
                known.preamble.id, action.name, index, params, ref.scope if ref else 0
            )
            self.action_of_index[index] = spec
            if ref is not None:
                self.actions[spec.id] = spec
        self.profile: ProfileStore | None = None
        self.profile_actions = {
            name: i
            for i, name in enumerate(profile_actions)  # numbered as generated code does
        }
        self.ages = program.ages
        self.special = program.rich or program.profile is not None
        self.meter_id = next(
            (
                i
                for i in info.direct_resource_ids
                if i in {m.preamble.id for m in p4info.direct_meters}
            ),
            0,
        )
        self.counter_id = 0
        direct = {c.preamble.id: c for c in p4info.direct_counters}
        self.unit = 0
        for ident in info.direct_resource_ids:
            if ident in direct:
                self.counter_id = ident
                self.unit = direct[ident].spec.unit

    def error(self, code: int, what: str) -> EntityError:
        return EntityError(code, f"table {self.name}: {what}")

    # -------------------------------------------------------------- decoding

    def value(self, f: FieldSpec, raw: bytes, m: p4r.FieldMatch, part: str) -> int:
        if not raw:
            want = f.kind
            given = m.WhichOneof("field_match_type")
            if given != want:
                raise self.error(
                    INVALID_ARGUMENT,
                    f"field '{f.name}' is an {want} match, not {given or 'empty'}; "
                    f"set FieldMatch.{want}",
                )
            raise self.error(
                INVALID_ARGUMENT,
                f"field '{f.name}': {part} is an empty byte string; "
                f"zero is b'\\x00', a {f.width}-bit value is expected",
            )
        v = int.from_bytes(raw, "big")
        if v >> f.width:
            raise self.error(
                INVALID_ARGUMENT,
                f"field '{f.name}': {part} {v:#x} does not fit {f.width} bits "
                f"(largest: {(1 << f.width) - 1:#x})",
            )
        return v

    def field(self, m: p4r.FieldMatch, seen: int) -> FieldSpec:
        f = self.by_id.get(m.field_id)
        valid = listed(f"{x.id} ({x.name})" for x in self.fields)
        if f is None:
            raise self.error(
                INVALID_ARGUMENT, f"unknown match field id {m.field_id} (valid: {valid})"
            )
        raise self.error(INVALID_ARGUMENT, f"match field '{f.name}' is given twice")

    def missing(self, seen: int) -> EntityError:
        absent = [f.name for f in self.fields if f.kind == "exact" and not seen & f.bit]
        return self.error(
            INVALID_ARGUMENT,
            f"exact match field {listed(repr(n) for n in absent)} is missing; "
            "only lpm, ternary, range and optional fields may be left out",
        )

    def priority(self, e: p4r.TableEntry) -> int:
        priority = e.priority
        if self.needs_priority:
            if priority <= 0:
                kinds = listed(
                    f"{f.name} ({f.kind})"
                    for f in self.fields
                    if f.kind in ("ternary", "range", "optional")
                )
                raise self.error(
                    INVALID_ARGUMENT,
                    f"priority {priority} given, but an entry needs a priority > 0 because of "
                    f"{kinds}; the highest number wins",
                )
        elif priority:
            raise self.error(
                INVALID_ARGUMENT,
                f"priority {priority} given, but the table has only exact and lpm fields; "
                "leave priority at 0",
            )
        return priority

    def decode_match(self, e: p4r.TableEntry) -> Any:
        """The table's own form of the match (see tables.py)."""
        by_id = self.by_id
        seen = value = mask = 0
        length = 0
        ranges: list[tuple[int, int]] | None = None
        values: dict[int, int] | None = None
        simple = isinstance(self.table, ExactTable)
        if simple:
            values = {}
        for m in e.match:
            f = by_id.get(m.field_id)
            if f is None or seen & f.bit:
                f = self.field(m, seen)
            seen |= f.bit
            kind = f.kind
            if kind == "exact":
                v = self.value(f, m.exact.value, m, "value")
                if values is not None:
                    values[f.position] = v
                else:
                    value |= v << f.shift
            elif kind == "ternary":
                t = m.ternary
                v = self.value(f, t.value, m, "value")
                w = self.value(f, t.mask, m, "mask")
                if not w:
                    raise self.dont_care(f, "mask 0")
                if v & w != v:
                    raise self.error(
                        INVALID_ARGUMENT,
                        f"field '{f.name}': value {v:#x} has bits outside mask {w:#x}; "
                        f"value & mask must equal value ({v & w:#x})",
                    )
                value |= v << f.shift
                mask |= w << f.shift
            elif kind == "lpm":
                p = m.lpm
                v = self.value(f, p.value, m, "value")
                n = p.prefix_len
                if n == 0:
                    raise self.dont_care(f, "prefix length 0")
                if not 0 < n <= f.width:
                    raise self.error(
                        INVALID_ARGUMENT,
                        f"field '{f.name}': prefix length {n} is not in 1..{f.width}",
                    )
                rest = f.width - n
                if v & ((1 << rest) - 1):
                    raise self.error(
                        INVALID_ARGUMENT,
                        f"field '{f.name}': value {v:#x} has bits beyond prefix length {n}; "
                        f"the prefix is {v >> rest << rest:#x}/{n}",
                    )
                length = n
                value |= v << f.shift
                mask |= ((1 << n) - 1) << rest << f.shift
            elif kind == "range":
                r = m.range
                low = self.value(f, r.low, m, "low")
                high = self.value(f, r.high, m, "high")
                if low > high:
                    raise self.error(
                        INVALID_ARGUMENT,
                        f"field '{f.name}': low {low} is above high {high}; low <= high is needed",
                    )
                if low == 0 and high == (1 << f.width) - 1:
                    raise self.dont_care(f, "the whole range")
                if ranges is None:
                    ranges = list(self.any_ranges)
                ranges[self.range_slot[f.id]] = (low, high)
            else:
                v = self.value(f, m.optional.value, m, "value")
                value |= v << f.shift
                mask |= ((1 << f.width) - 1) << f.shift
        if seen & self.required != self.required:
            raise self.missing(seen)
        priority = self.priority(e)
        if values is not None:
            if len(self.fields) == 1:
                return values[0]
            return tuple([values[i] for i in range(len(self.fields))])
        if isinstance(self.table, LpmTable):
            return value, length
        return (
            value,
            mask | self.exact_mask,
            self.any_ranges if ranges is None else tuple(ranges),
            priority,
        )

    def dont_care(self, f: FieldSpec, how: str) -> EntityError:
        return self.error(
            INVALID_ARGUMENT,
            f"field '{f.name}': {how} means 'any'; leave the field out of the match instead",
        )

    def decode_action(self, e: p4r.TableEntry, default: bool) -> tuple[int, tuple[int, ...]]:
        kind = e.action.WhichOneof("type")
        if kind != "action":
            raise self.error(
                INVALID_ARGUMENT,
                f"action type '{kind or 'unset'}'; the table has no action profile, set "
                "TableAction.action",
            )
        return self.decode_call(e.action.action, default)

    def decode_call(self, action: p4r.Action, default: bool) -> tuple[int, tuple[int, ...]]:
        """(index, arguments) of an action message, checked."""
        spec = self.actions.get(action.action_id)
        if spec is None:
            known = self.all_actions.get(action.action_id)
            name = f"'{known.preamble.name}'" if known else f"id {action.action_id:#x}"
            raise self.error(
                INVALID_ARGUMENT,
                f"action {name} is not an action of this table "
                f"(valid: {listed(a.name for a in self.actions.values())})",
            )
        if spec.scope == p4i.ActionRef.TABLE_ONLY and default:
            raise self.error(
                PERMISSION_DENIED, f"action '{spec.name}' is @tableonly, not a default action"
            )
        if spec.scope == p4i.ActionRef.DEFAULT_ONLY and not default:
            raise self.error(
                PERMISSION_DENIED,
                f"action '{spec.name}' is @defaultonly, not usable in an entry (valid: "
                + listed(
                    a.name for a in self.actions.values() if a.scope != p4i.ActionRef.DEFAULT_ONLY
                )
                + ")",
            )
        params = spec.params
        if not params and not action.params:
            return spec.index, ()
        given: dict[int, bytes] = {p.param_id: p.value for p in action.params}
        if len(given) != len(params) or len(action.params) != len(params):
            raise self.bad_params(spec, [p.param_id for p in action.params])
        args: list[int] = []
        for p in params:
            raw = given.get(p.id)
            if raw is None:
                raise self.bad_params(spec, list(given))
            v = int.from_bytes(raw, "big")
            if v >> p.width or not raw:
                what = "is an empty byte string" if not raw else f"value {v:#x}"
                raise self.error(
                    INVALID_ARGUMENT,
                    f"action '{spec.name}': parameter '{p.name}' {what}: it must fit "
                    f"{p.width} bits (largest: {(1 << p.width) - 1:#x})",
                )
            args.append(v)
        return spec.index, tuple(args)

    def decode_member(self, action: p4r.Action) -> tuple[int, tuple[int, ...]]:
        """(number in the profile, arguments) of a member's action."""
        index, args = self.decode_call(action, False)
        return self.profile_actions[self.program.actions[index].name], args

    def decode_details(self, e: p4r.TableEntry, count: tuple[int, int] | None) -> Details:
        """The checked action and resources of an entry of a special table."""
        ttl = e.idle_timeout_ns
        extra = provenance(e)
        if ttl:
            extra = (e.metadata, extra[1] if extra else 0, ttl)
        meter: tuple[MeterConfig | None] | None = None
        if e.HasField("meter_config"):
            meter = (decode_meter_config(f"table {self.name}: meter_config", e.meter_config),)
        if self.profile is None:
            index, args = self.decode_action(e, False)
            return Details(index, args, None, (), extra, count, ttl, meter)
        which = e.action.WhichOneof("type")
        decoded: tuple[tuple[int, tuple[int, ...]], ...] = ()
        if which == "action_profile_action_set":
            if not self.profile.with_selector:
                raise self.error(
                    INVALID_ARGUMENT,
                    f"an action set needs a selector, but {self.profile.name} is an action profile "
                    "(valid: action_profile_member_id)",
                )
            actions = e.action.action_profile_action_set
            self.profile.check_action_set(actions)
            decoded = tuple(self.decode_member(a.action) for a in actions.action_profile_actions)
        elif which == "action_profile_group_id" and not self.profile.with_selector:
            raise self.error(
                INVALID_ARGUMENT,
                f"a group needs a selector, but {self.profile.name} is an action profile "
                "(valid: action_profile_member_id)",
            )
        elif which not in ("action_profile_member_id", "action_profile_group_id"):
            raise self.error(
                INVALID_ARGUMENT,
                f"action type '{which or 'unset'}'; its actions are in action profile "
                f"{self.profile.name} (valid: action_profile_member_id"
                + (
                    ", action_profile_group_id, action_profile_action_set)"
                    if self.profile.with_selector
                    else ")"
                ),
            )
        return Details(-1, (), e.action, decoded, extra, count, ttl, meter)

    def bad_params(self, spec: ActionSpec, given: list[int]) -> EntityError:
        want = listed(f"{p.id} ({p.name}, {p.width} bits)" for p in spec.params)
        return self.error(
            INVALID_ARGUMENT,
            f"action '{spec.name}' got parameter ids {sorted(given)}, it takes: {want}",
        )

    # -------------------------------------------------------------- encoding

    def encode_match(self, entry: Entry, out: p4r.TableEntry) -> None:
        table = self.table
        if isinstance(table, ExactTable):
            for f in self.fields:
                v = entry.key if len(self.fields) == 1 else entry.key[f.position]
                m = out.match.add()
                m.field_id = f.id
                m.exact.value = canonical(v)
            return
        packed = entry.key
        mask = entry.mask if isinstance(entry, TernaryEntry) else 0
        for f in self.fields:
            ones = (1 << f.width) - 1
            v = packed >> f.shift & ones
            w: int = mask >> f.shift & ones
            if f.kind == "exact":
                m = out.match.add()
                m.field_id = f.id
                m.exact.value = canonical(v)
            elif f.kind == "lpm":
                n: int = entry.spec if isinstance(table, LpmTable) else w.bit_count()
                if n:
                    m = out.match.add()
                    m.field_id = f.id
                    m.lpm.value = canonical(v)
                    m.lpm.prefix_len = n
            elif f.kind == "ternary":
                if w:
                    m = out.match.add()
                    m.field_id = f.id
                    m.ternary.value = canonical(v)
                    m.ternary.mask = canonical(w)
            elif f.kind == "optional":
                if w:
                    m = out.match.add()
                    m.field_id = f.id
                    m.optional.value = canonical(v)
            else:
                low, high = entry.spec[self.range_slot[f.id]]
                if (low, high) != (0, ones):
                    m = out.match.add()
                    m.field_id = f.id
                    m.range.low = canonical(low)
                    m.range.high = canonical(high)
        if self.needs_priority:
            out.priority = entry.priority

    def encode(self, entry: Entry, counter: bool, entity: p4r.Entity) -> None:
        out = entity.table_entry
        out.table_id = self.id
        if entry is self.table.miss:
            out.is_default_action = True
        else:
            self.encode_match(entry, out)
        if self.profile is None:
            spec = self.action_of_index.get(entry.a)
            if spec is not None:
                action = out.action.action
                action.action_id = spec.id
                for p, v in zip(spec.params, entry.args, strict=False):
                    action.params.add(param_id=p.id, value=canonical(v))
        elif entry is not self.table.miss:
            self.encode_target(entry.args, out.action)
        if entry.extra is not None:
            metadata, cookie, timeout = entry.extra
            out.metadata, out.idle_timeout_ns = metadata, timeout
            out.controller_metadata = cookie  # pyright: ignore[reportDeprecated]
        if counter and self.counter_id:
            self.encode_counter(entry, out.counter_data)

    @staticmethod
    def encode_target(target: Member | Group, out: p4r.TableAction) -> None:
        if isinstance(target, Member):
            out.action_profile_member_id = target.id
        elif target.one_shot is not None:
            out.action_profile_action_set.CopyFrom(target.one_shot)
        else:
            out.action_profile_group_id = target.id

    def encode_counter(self, entry: Entry, data: p4r.CounterData) -> None:
        data.SetInParent()
        if self.unit != p4i.CounterSpec.PACKETS:
            data.byte_count = entry.b
        if self.unit != p4i.CounterSpec.BYTES:
            data.packet_count = entry.n


def provenance(e: p4r.TableEntry) -> tuple[bytes, int, int] | None:
    """What a controller attached to an entry: metadata, its older form, idle timeout."""
    metadata = e.metadata
    cookie = e.controller_metadata  # pyright: ignore[reportDeprecated]
    return (metadata, cookie, 0) if metadata or cookie else None


class EntityStore:
    """All entities of a loaded pipeline."""

    def __init__(self, pipeline: Pipeline, p4info: p4i.P4Info) -> None:
        self.pipeline = pipeline
        self.p4info = p4info
        program = pipeline.program
        tables = {t.name: t for t in program.tables()}
        self.tables: dict[int, TableCodec] = {}
        # p4c leaves out of the JSON what no packet reaches; P4Info still has it.
        self.unreachable: dict[int, str] = {}
        problems: list[str] = []
        for info in p4info.tables:
            name = info.preamble.name
            if name not in tables:
                self.unreachable[info.preamble.id] = name
                if not info.match_fields:
                    continue
                problems.append(f"table {name} is not in the BMv2 JSON{suggest(name, tables)}")
                continue
            table = tables[name]
            self.tables[info.preamble.id] = TableCodec(
                info,
                table,
                pipeline.tables[name],
                p4info,
                program.profile_actions(table.profile) if table.profile else (),
            )
        self.profiles: dict[int, ProfileStore] = {}
        self.profile_codecs: dict[int, TableCodec] = {}
        for profile in p4info.action_profiles:
            store = ProfileStore(profile, pipeline.ports_down)
            self.profiles[store.id] = store
            for codec in self.tables.values():
                if codec.program.profile == store.name:
                    codec.profile = store
                    self.profile_codecs[store.id] = codec
        for codec in self.tables.values():
            if codec.program.profile is not None and codec.profile is None:
                problems.append(
                    f"action profile {codec.program.profile} of table {codec.name} is not in P4Info"
                )
        self.meters: dict[int, tuple[p4i.Meter, MeterCells]] = {}
        for meter in p4info.meters:
            cells = pipeline.meters.get(meter.preamble.name)
            if cells is None:
                problems.append(f"meter {meter.preamble.name} is not in the BMv2 JSON")
            else:
                self.meters[meter.preamble.id] = (meter, cells)
        self.value_sets: dict[int, ValueSetCodec] = {}
        for value_set in p4info.value_sets:
            live = pipeline.value_sets.get(value_set.preamble.name)
            if live is None:
                problems.append(f"value set {value_set.preamble.name} is not in the BMv2 JSON")
            else:
                self.value_sets[value_set.preamble.id] = ValueSetCodec(value_set, live)
        self.digests: dict[int, DigestQueue] = {}
        learns = {d.name: d.id for d in program.learn_lists.values()}
        for digest in p4info.digests:
            list_id = learns.get(digest.preamble.name)
            if list_id is None:
                problems.append(f"digest {digest.preamble.name} is not in the BMv2 JSON")
                continue
            queue = DigestQueue(digest, p4info.type_info, pipeline.clock, pipeline.send_digest)
            self.digests[queue.id] = queue
            pipeline.digest_queues[list_id] = queue
        self.counters: dict[int, tuple[p4i.Counter, list[int], list[int]]] = {}
        for counter in p4info.counters:
            arrays = pipeline.counters.get(counter.preamble.name)
            if arrays is None:
                problems.append(f"counter {counter.preamble.name} is not in the BMv2 JSON")
            else:
                self.counters[counter.preamble.id] = (counter, *arrays)
        self.registers: dict[int, tuple[p4i.Register, list[int], int]] = {}
        for register in p4info.registers:
            name = register.preamble.name
            if name not in pipeline.registers:
                problems.append(f"register {name} is not in the BMv2 JSON")
            else:
                self.registers[register.preamble.id] = (
                    register,
                    pipeline.registers[name],
                    program.registers[name].width,
                )
        known = bool(self.tables)
        if problems and not (known and all(p.startswith("table ") for p in problems)):
            raise SwitchError(
                "P4Info does not belong to the BMv2 JSON:\n  " + "\n  ".join(problems)
            )
        self.groups: dict[int, p4r.MulticastGroupEntry] = {}
        self.clones: dict[int, p4r.CloneSessionEntry] = {}
        self.touched: set[MatchTable] = set()
        self.ages = any(c.ages for c in self.tables.values())

    # ----------------------------------------------------------------- writing

    def decode(self, update: p4r.Update) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """Check an update; returns (function, arguments) that applies it under the lock."""
        kind = update.entity.WhichOneof("entity")
        if kind == "table_entry":
            return self.decode_table(update.type, update.entity.table_entry)
        action = update.type
        if action not in (INSERT, MODIFY, DELETE):
            raise EntityError(
                INVALID_ARGUMENT, "update type is not set (valid: INSERT, MODIFY, DELETE)"
            )
        if kind == "packet_replication_engine_entry":
            pre = update.entity.packet_replication_engine_entry
            which = pre.WhichOneof("type")
            if which == "multicast_group_entry":
                return self.decode_group(action, pre.multicast_group_entry)
            if which == "clone_session_entry":
                return self.decode_clone(action, pre.clone_session_entry)
            raise EntityError(
                INVALID_ARGUMENT,
                "packet_replication_engine_entry is empty "
                "(valid: multicast_group_entry, clone_session_entry)",
            )
        if kind == "counter_entry":
            return self.decode_counter(action, update.entity.counter_entry)
        if kind == "direct_counter_entry":
            return self.decode_direct_counter(action, update.entity.direct_counter_entry)
        if kind == "register_entry":
            return self.decode_register(action, update.entity.register_entry)
        if kind is None:
            raise EntityError(INVALID_ARGUMENT, "update has no entity")
        if kind == "meter_entry":
            return self.decode_meter(action, update.entity.meter_entry)
        if kind == "direct_meter_entry":
            return self.decode_direct_meter(action, update.entity.direct_meter_entry)
        if kind == "action_profile_member":
            return self.decode_member(action, update.entity.action_profile_member)
        if kind == "action_profile_group":
            return self.decode_group_of_profile(action, update.entity.action_profile_group)
        if kind == "value_set_entry":
            e = update.entity.value_set_entry
            return self.value_set(e.value_set_id).decode(action, e)
        if kind == "digest_entry":
            return self.digest(update.entity.digest_entry.digest_id).decode(
                action, update.entity.digest_entry
            )
        raise EntityError(UNIMPLEMENTED, f"writes of {kind} are not implemented by softswitch")

    def codec(self, table_id: int) -> TableCodec:
        codec = self.tables.get(table_id)
        if codec is None and table_id in self.unreachable:
            raise EntityError(
                UNIMPLEMENTED,
                f"table {self.unreachable[table_id]}: no packet reaches it, so p4c left it out",
            )
        if codec is None:
            valid = listed(f"{c.name} ({c.id})" for c in self.tables.values())
            raise EntityError(INVALID_ARGUMENT, f"unknown table id {table_id} (valid: {valid})")
        return codec

    def decode_table(
        self, kind: int, e: p4r.TableEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        codec = self.codec(e.table_id)
        if e.HasField("time_since_last_hit"):
            raise codec.error(INVALID_ARGUMENT, "time_since_last_hit must not be set in a write")
        if not codec.meter_id and e.HasField("meter_config"):
            raise codec.error(INVALID_ARGUMENT, "meter_config is set, but it has no direct meter")
        if e.idle_timeout_ns and not codec.ages:
            raise codec.error(
                INVALID_ARGUMENT,
                "idle_timeout_ns is set, but the table does not support idle timeouts",
            )
        if e.idle_timeout_ns < 0:
            raise codec.error(
                INVALID_ARGUMENT,
                f"idle_timeout_ns {e.idle_timeout_ns} is negative; 0 means no timeout",
            )
        if e.is_default_action:
            return self.decode_default(codec, kind, e)
        if kind not in (INSERT, MODIFY, DELETE):
            raise codec.error(
                INVALID_ARGUMENT, "update type is not set (valid: INSERT, MODIFY, DELETE)"
            )
        if codec.immutable:
            raise codec.error(
                PERMISSION_DENIED, "its entries are const in the P4 program and cannot be changed"
            )
        if not codec.fields:
            raise codec.error(
                INVALID_ARGUMENT,
                "it has no key, so only its default entry exists: set is_default_action",
            )
        if kind == DELETE:
            delete = self.delete_entry if codec.profile is None else self.delete_special
            return delete, (codec, codec.decode_match(e))
        if not e.HasField("action"):
            raise codec.error(
                INVALID_ARGUMENT,
                "an entry needs an action "
                f"(valid: {listed(a.name for a in codec.actions.values())})",
            )
        match = codec.decode_match(e)
        if codec.special:
            details = codec.decode_details(e, self.counter_data(codec, e))
            function = self.insert_special if kind == INSERT else self.modify_special
            return function, (codec, match, details)
        index, args = codec.decode_action(e, False)
        extra = provenance(e)
        count = self.counter_data(codec, e)
        function = self.insert_entry if kind == INSERT else self.modify_entry
        return function, (codec, match, index, args, extra, count)

    @staticmethod
    def counter_data(codec: TableCodec, e: p4r.TableEntry) -> tuple[int, int] | None:
        if not e.HasField("counter_data"):
            return None
        if not codec.counter_id:
            raise codec.error(INVALID_ARGUMENT, "counter_data is set, but it has no direct counter")
        return e.counter_data.packet_count, e.counter_data.byte_count

    def decode_default(
        self, codec: TableCodec, kind: int, e: p4r.TableEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        if kind != MODIFY:
            raise codec.error(
                INVALID_ARGUMENT, "the default entry always exists; only MODIFY changes it"
            )
        if e.match:
            raise codec.error(INVALID_ARGUMENT, "the default entry has no match fields")
        if e.priority:
            raise codec.error(INVALID_ARGUMENT, "the default entry has no priority")
        if codec.profile is not None:
            raise codec.error(
                INVALID_ARGUMENT, "a table with an action profile has no default action to set"
            )
        if codec.const_default:
            raise codec.error(PERMISSION_DENIED, "its default action is const in the P4 program")
        if e.HasField("meter_config") or e.idle_timeout_ns:
            raise codec.error(
                INVALID_ARGUMENT, "the default entry has neither a meter nor an idle timeout"
            )
        count = self.counter_data(codec, e)
        if not e.HasField("action"):
            return self.modify_default, (codec, *codec.default, None, count)
        index, args = codec.decode_action(e, True)
        extra = provenance(e)
        return self.modify_default, (codec, index, args, extra, count)

    def insert_entry(
        self,
        codec: TableCodec,
        match: Any,
        index: int,
        args: tuple[int, ...],
        extra: tuple[bytes, int, int] | None,
        count: tuple[int, int] | None,
    ) -> None:
        table = codec.table
        if table.find(match) is not None:
            raise self.exists(codec, match)
        if table.count >= codec.size:
            raise self.full(codec)
        entry = table.make(index, args)
        entry.extra = extra
        if count is not None:
            entry.n, entry.b = count
        table.add(match, entry)
        self.touched.add(table)

    def exists(self, codec: TableCodec, match: Any) -> EntityError:
        return codec.error(
            ALREADY_EXISTS,
            f"an entry with this match exists ({self.describe(codec, match)}); "
            "use MODIFY to change its action",
        )

    @staticmethod
    def full(codec: TableCodec) -> EntityError:
        return codec.error(
            RESOURCE_EXHAUSTED, f"it is full: {codec.table.count} of {codec.size} entries"
        )

    # ---- entries with a profile, a meter or a timeout

    def target(self, codec: TableCodec, d: Details) -> Member | Group:
        """The member or group that an entry is to refer to."""
        profile, action = codec.profile, d.profile_action
        assert profile is not None
        assert action is not None
        which = action.WhichOneof("type")
        if which == "action_profile_action_set":
            return profile.one_shot(action.action_profile_action_set, d.decoded)
        profile.claim(MANUAL)
        if which == "action_profile_member_id":
            return profile.member(action.action_profile_member_id, INVALID_ARGUMENT)
        return profile.group(action.action_profile_group_id, INVALID_ARGUMENT)

    def insert_special(self, codec: TableCodec, match: Any, d: Details) -> None:
        table = codec.table
        if table.find(match) is not None:
            raise self.exists(codec, match)
        if table.count >= codec.size:
            raise self.full(codec)
        args: Any = d.args
        if codec.profile is not None:
            args = self.target(codec, d)
            codec.profile.take(args)
        entry = table.make(max(d.index, 0), args)
        self.apply_details(codec, entry, d, None)
        table.add(match, entry)
        self.touched.add(table)

    def modify_special(self, codec: TableCodec, match: Any, d: Details) -> None:
        entry = self.existing(codec, match)
        old_ttl = entry.extra[2] if entry.extra is not None else 0
        if codec.profile is not None:
            old = entry.args
            entry.args = self.target(codec, d)
            codec.profile.take(entry.args)
            codec.profile.drop(old)
        else:
            entry.a, entry.args = d.index, d.args
        self.apply_details(codec, entry, d, old_ttl)

    def apply_details(
        self, codec: TableCodec, entry: Entry, d: Details, old_ttl: int | None
    ) -> None:
        entry.extra = d.extra
        if d.count is not None:
            entry.n, entry.b = d.count
        if not isinstance(entry, (RichEntry, RichTernaryEntry)):
            return
        if old_ttl != d.ttl_ns:
            entry.ts = self.pipeline.now()
        entry.ttl_ns = d.ttl_ns
        if d.meter is not None:
            self.configure_direct(codec, entry, d.meter[0])

    def configure_direct(
        self, codec: TableCodec, entry: RichEntry | RichTernaryEntry, config: MeterConfig | None
    ) -> None:
        if config is None:
            entry.meter = None
            return
        if entry.meter is None:
            name = codec.program.meter
            assert name is not None
            packets = self.pipeline.program.meters[name].packets
            entry.meter = Meter(packets, self.pipeline.now)
        entry.meter.configure(config)

    def delete_special(self, codec: TableCodec, match: Any) -> None:
        entry = self.existing(codec, match)
        assert codec.profile is not None
        codec.profile.drop(entry.args)
        codec.table.remove(entry)
        self.touched.add(codec.table)

    def describe(self, codec: TableCodec, match: Any) -> str:
        """A match in words: names and values."""
        entry = codec.table.find(match)
        if entry is None:
            return "match not in table"
        e = p4r.TableEntry()
        codec.encode_match(entry, e)
        words: list[str] = []
        for m in e.match:
            f = codec.by_id[m.field_id]
            which = m.WhichOneof("field_match_type")
            if which == "exact":
                words.append(f"{f.name}={int.from_bytes(m.exact.value, 'big'):#x}")
            elif which == "lpm":
                words.append(f"{f.name}={int.from_bytes(m.lpm.value, 'big'):#x}/{m.lpm.prefix_len}")
            elif which == "ternary":
                v, w = (int.from_bytes(x, "big") for x in (m.ternary.value, m.ternary.mask))
                words.append(f"{f.name}={v:#x}&&&{w:#x}")
            elif which == "range":
                v, w = (int.from_bytes(x, "big") for x in (m.range.low, m.range.high))
                words.append(f"{f.name}={v}..{w}")
            else:
                words.append(f"{f.name}={int.from_bytes(m.optional.value, 'big'):#x}")
        if e.priority:
            words.append(f"priority={e.priority}")
        return ", ".join(words) or "any"

    def existing(self, codec: TableCodec, match: Any) -> Entry:
        entry = codec.table.find(match)
        if entry is None:
            hint = "match fields and priority must be those of the INSERT"
            raise codec.error(
                NOT_FOUND,
                f"no entry with this match among its {codec.table.count} ({hint})",
            )
        return entry

    def modify_entry(
        self,
        codec: TableCodec,
        match: Any,
        index: int,
        args: tuple[int, ...],
        extra: tuple[bytes, int, int] | None,
        count: tuple[int, int] | None,
    ) -> None:
        entry = self.existing(codec, match)
        entry.a, entry.args, entry.extra = index, args, extra
        if count is not None:
            entry.n, entry.b = count

    def delete_entry(self, codec: TableCodec, match: Any) -> None:
        codec.table.remove(self.existing(codec, match))
        self.touched.add(codec.table)

    def modify_default(
        self,
        codec: TableCodec,
        index: int,
        args: tuple[int, ...],
        extra: tuple[bytes, int, int] | None,
        count: tuple[int, int] | None,
    ) -> None:
        miss = codec.table.miss
        miss.a, miss.args, miss.extra = index, args, extra
        if count is not None:
            miss.n, miss.b = count

    # ---- packet replication

    @staticmethod
    def replicas(what: str, replicas: Iterable[p4r.Replica]) -> tuple[tuple[int, int], ...]:
        """(port, instance) in BMv2's order: by instance, then by port."""
        out: list[tuple[int, int]] = []
        for r in replicas:
            which = r.WhichOneof("port_kind")
            if which is None:
                raise EntityError(INVALID_ARGUMENT, f"{what}: a replica has no port")
            old = r.egress_port  # pyright: ignore[reportDeprecated]
            out.append((int.from_bytes(r.port, "big") if which == "port" else old, r.instance))
        double = sorted({r for r in out if out.count(r) > 1})
        if double:
            raise EntityError(
                INVALID_ARGUMENT,
                f"{what}: replica (port {double[0][0]}, instance {double[0][1]}) is given twice",
            )
        return tuple(sorted(out, key=lambda r: (r[1], r[0])))

    def decode_group(
        self, kind: int, e: p4r.MulticastGroupEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        ident = e.multicast_group_id
        what = f"multicast group {ident}"
        if ident == 0:
            raise EntityError(INVALID_ARGUMENT, f"{what}: 0 is no group (valid: 1..32767)")
        if ident >= FIRST_RESERVED_GROUP:
            raise EntityError(OUT_OF_RANGE, f"{what}: the id is too high (valid: 1..32767)")
        copies = () if kind == DELETE else self.replicas(what, e.replicas)
        return self.apply_pre, (kind, what, self.groups, self.pipeline.groups, ident, e, copies)

    def decode_clone(
        self, kind: int, e: p4r.CloneSessionEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        ident = e.session_id
        what = f"clone session {ident}"
        if not 0 < ident <= MAX_CLONE_SESSION:
            raise EntityError(INVALID_ARGUMENT, f"{what}: the id is not in 1..{MAX_CLONE_SESSION}")
        if e.class_of_service:
            raise EntityError(UNIMPLEMENTED, f"{what}: class_of_service must be 0")
        if e.packet_length_bytes:
            raise EntityError(
                UNIMPLEMENTED,
                f"{what}: packet_length_bytes must be 0 (truncation of clones is not implemented)",
            )
        copies = () if kind == DELETE else self.replicas(what, e.replicas)
        return self.apply_pre, (
            kind,
            what,
            self.clones,
            self.pipeline.clone_sessions,
            ident,
            e,
            copies,
        )

    @staticmethod
    def apply_pre(
        kind: int,
        what: str,
        store: dict[int, Any],
        live: dict[int, tuple[tuple[int, int], ...]],
        ident: int,
        e: Any,
        copies: tuple[tuple[int, int], ...],
    ) -> None:
        if kind == INSERT and ident in store:
            raise EntityError(ALREADY_EXISTS, f"{what} exists; use MODIFY to change its replicas")
        if kind != INSERT and ident not in store:
            raise EntityError(
                NOT_FOUND, f"{what} does not exist (existing: {listed(map(str, sorted(store)))})"
            )
        if kind == DELETE:
            del store[ident], live[ident]
        else:
            store[ident] = e
            live[ident] = copies

    # ---- counters and registers

    def counter_cells(self, ident: int) -> tuple[p4i.Counter, list[int], list[int]]:
        found = self.counters.get(ident)
        if found is None:
            valid = listed(f"{c.preamble.name} ({i})" for i, (c, _, _) in self.counters.items())
            raise EntityError(INVALID_ARGUMENT, f"unknown counter id {ident} (valid: {valid})")
        return found

    @staticmethod
    def index(what: str, index: int, size: int) -> int:
        if not 0 <= index < size:
            raise EntityError(OUT_OF_RANGE, f"{what}: index {index} is not in 0..{size - 1}")
        return index

    def decode_counter(
        self, kind: int, e: p4r.CounterEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        counter, packets, octets = self.counter_cells(e.counter_id)
        what = f"counter {counter.preamble.name}"
        if kind == INSERT:
            raise EntityError(
                INVALID_ARGUMENT, f"{what}: INSERT is not for counters (valid: MODIFY)"
            )
        if not e.HasField("index"):
            raise EntityError(UNIMPLEMENTED, f"{what}: a write needs an index")
        i = self.index(what, e.index.index, len(packets))
        data = (0, 0) if kind == DELETE else (e.data.packet_count, e.data.byte_count)
        return self.apply_counter, (packets, octets, i, data)

    @staticmethod
    def apply_counter(packets: list[int], octets: list[int], i: int, data: tuple[int, int]) -> None:
        packets[i], octets[i] = data

    def decode_direct_counter(
        self, kind: int, e: p4r.DirectCounterEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        codec = self.codec(e.table_entry.table_id)
        if not codec.counter_id:
            raise codec.error(INVALID_ARGUMENT, "it has no direct counter")
        if kind == INSERT:
            raise codec.error(INVALID_ARGUMENT, "INSERT is not for direct counters (valid: MODIFY)")
        match = None if e.table_entry.is_default_action else codec.decode_match(e.table_entry)
        data = (0, 0) if kind == DELETE else (e.data.packet_count, e.data.byte_count)
        return self.apply_direct_counter, (codec, match, data)

    def apply_direct_counter(self, codec: TableCodec, match: Any, data: tuple[int, int]) -> None:
        entry = codec.table.miss if match is None else self.existing(codec, match)
        entry.n, entry.b = data

    # ---- meters, action profiles, value sets, digests

    def meter_cells(self, ident: int) -> tuple[p4i.Meter, MeterCells]:
        found = self.meters.get(ident)
        if found is None:
            valid = listed(f"{m.preamble.name} ({i})" for i, (m, _) in self.meters.items())
            raise EntityError(INVALID_ARGUMENT, f"unknown meter id {ident} (valid: {valid})")
        return found

    def decode_meter(
        self, kind: int, e: p4r.MeterEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        meter, cells = self.meter_cells(e.meter_id)
        what = f"meter {meter.preamble.name}"
        if kind != MODIFY:
            raise EntityError(INVALID_ARGUMENT, f"{what}: only MODIFY writes a meter")
        config = decode_meter_config(what, e.config) if e.HasField("config") else None
        if e.HasField("index"):
            i = self.index(what, e.index.index, cells.size)
            return self.apply_meter, (cells, range(i, i + 1), config)
        return self.apply_meter, (cells, range(cells.size), config)

    @staticmethod
    def apply_meter(cells: MeterCells, indices: range, config: MeterConfig | None) -> None:
        for i in indices:
            cells.configure(i, config)

    def metered_codec(self, e: p4r.DirectMeterEntry) -> TableCodec:
        codec = self.codec(e.table_entry.table_id)
        if not codec.meter_id:
            raise codec.error(INVALID_ARGUMENT, "it has no direct meter")
        return codec

    def decode_direct_meter(
        self, kind: int, e: p4r.DirectMeterEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        codec = self.metered_codec(e)
        if kind != MODIFY:
            raise codec.error(INVALID_ARGUMENT, "only MODIFY writes a direct meter")
        if e.table_entry.is_default_action:
            raise codec.error(INVALID_ARGUMENT, "the default entry has no meter")
        what = f"table {codec.name}: direct meter"
        config = decode_meter_config(what, e.config) if e.HasField("config") else None
        return self.apply_direct_meter, (codec, codec.decode_match(e.table_entry), config)

    def apply_direct_meter(self, codec: TableCodec, match: Any, config: MeterConfig | None) -> None:
        entry = self.existing(codec, match)
        assert isinstance(entry, (RichEntry, RichTernaryEntry))
        self.configure_direct(codec, entry, config)

    def profile(self, ident: int) -> ProfileStore:
        found = self.profiles.get(ident)
        if found is None:
            valid = listed(f"{p.name} ({i})" for i, p in self.profiles.items())
            raise EntityError(
                INVALID_ARGUMENT, f"unknown action profile id {ident} (valid: {valid})"
            )
        return found

    def decode_member(
        self, kind: int, e: p4r.ActionProfileMember
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        profile = self.profile(e.action_profile_id)
        if kind == DELETE:
            return profile.delete_member, (e.member_id,)
        codec = self.profile_codecs.get(profile.id)
        if codec is None:
            raise profile.error(INVALID_ARGUMENT, "no table uses it")
        if not e.HasField("action"):
            raise profile.error(
                INVALID_ARGUMENT,
                f"member {e.member_id} needs an action "
                f"(valid: {listed(a.name for a in codec.actions.values())})",
            )
        number, args = codec.decode_member(e.action)
        function = profile.insert_member if kind == INSERT else profile.modify_member
        return function, (e.member_id, number, args, e.action)

    def decode_group_of_profile(
        self, kind: int, e: p4r.ActionProfileGroup
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        profile = self.profile(e.action_profile_id)
        if not profile.with_selector:
            raise profile.error(
                INVALID_ARGUMENT, "it has no selector, so it has members but no groups"
            )
        if kind == DELETE:
            return profile.delete_group, (e.group_id,)
        return (profile.insert_group if kind == INSERT else profile.modify_group), (e,)

    def value_set(self, ident: int) -> ValueSetCodec:
        found = self.value_sets.get(ident)
        if found is None:
            valid = listed(f"{v.name} ({i})" for i, v in self.value_sets.items())
            raise EntityError(INVALID_ARGUMENT, f"unknown value set id {ident} (valid: {valid})")
        return found

    def digest(self, ident: int) -> DigestQueue:
        found = self.digests.get(ident)
        if found is None:
            valid = listed(f"{d.name} ({i})" for i, d in self.digests.items())
            raise EntityError(NOT_FOUND, f"unknown digest id {ident} (valid: {valid})")
        return found

    def register_cells(self, ident: int) -> tuple[p4i.Register, list[int], int]:
        found = self.registers.get(ident)
        if found is None:
            valid = listed(f"{r.preamble.name} ({i})" for i, (r, _, _) in self.registers.items())
            raise EntityError(INVALID_ARGUMENT, f"unknown register id {ident} (valid: {valid})")
        return found

    def decode_register(
        self, kind: int, e: p4r.RegisterEntry
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        register, cells, width = self.register_cells(e.register_id)
        what = f"register {register.preamble.name}"
        if kind != MODIFY:
            raise EntityError(INVALID_ARGUMENT, f"{what}: only MODIFY writes a register")
        value = int.from_bytes(e.data.bitstring, "big")
        if value >> width or not e.data.bitstring:
            raise EntityError(
                INVALID_ARGUMENT, f"{what}: data must be a bitstring of at most {width} bits"
            )
        if not e.HasField("index"):
            return self.apply_register, (cells, slice(None), value)
        i = self.index(what, e.index.index, len(cells))
        return self.apply_register, (cells, slice(i, i + 1), value)

    @staticmethod
    def apply_register(cells: list[int], where: slice, value: int) -> None:
        for i in range(*where.indices(len(cells))):
            cells[i] = value

    def commit(self) -> None:
        """Publish what a batch changed; under the lock, once a batch."""
        for table in self.touched:
            table.commit()
        self.touched.clear()

    # ----------------------------------------------------------------- reading

    def read(self, entity: p4r.Entity) -> Iterator[p4r.Entity]:
        """All entities that a read request's entity selects; run under the lock or copied."""
        kind = entity.WhichOneof("entity")
        if kind == "table_entry":
            return self.read_tables(entity.table_entry)
        if kind == "counter_entry":
            return self.read_counters(entity.counter_entry)
        if kind == "direct_counter_entry":
            return self.read_direct_counters(entity.direct_counter_entry)
        if kind == "register_entry":
            return self.read_registers(entity.register_entry)
        if kind == "packet_replication_engine_entry":
            return self.read_pre(entity.packet_replication_engine_entry)
        if kind is None:
            raise EntityError(INVALID_ARGUMENT, "read request has an empty entity")
        if kind == "meter_entry":
            return self.read_meters(entity.meter_entry)
        if kind == "direct_meter_entry":
            return self.read_direct_meters(entity.direct_meter_entry)
        if kind == "action_profile_member":
            return self.read_members(entity.action_profile_member)
        if kind == "action_profile_group":
            return self.read_profile_groups(entity.action_profile_group)
        if kind == "value_set_entry":
            ident = entity.value_set_entry.value_set_id
            sets = [self.value_set(ident)] if ident else list(self.value_sets.values())
            return iter([v.read() for v in sets])
        if kind == "digest_entry":
            return self.read_digests(entity.digest_entry.digest_id)
        raise EntityError(UNIMPLEMENTED, f"reads of {kind} are not implemented by softswitch")

    def chosen(self, table_id: int) -> list[TableCodec]:
        return [self.codec(table_id)] if table_id else list(self.tables.values())

    def read_tables(self, e: p4r.TableEntry) -> Iterator[p4r.Entity]:
        codecs = self.chosen(e.table_id)
        if e.HasField("time_since_last_hit"):
            for codec in codecs:
                if not codec.ages or e.is_default_action:
                    raise codec.error(
                        INVALID_ARGUMENT,
                        "it does not support idle timeouts: time_since_last_hit must not be set",
                    )
        if e.match and not e.table_id:
            raise EntityError(INVALID_ARGUMENT, "a match needs a table id")
        found = [(c, self.select(c, e)) for c in codecs]
        return self.encode_all(found, e)

    def select(self, codec: TableCodec, e: p4r.TableEntry) -> list[Entry]:
        if e.is_default_action:
            return [codec.table.miss]
        if e.match:
            entry = codec.table.find(codec.decode_match(e))
            return [] if entry is None else [entry]
        entries = list(codec.table)
        if e.priority:
            entries = [x for x in entries if x.priority == e.priority]
        if e.metadata:
            entries = [x for x in entries if x.extra is not None and x.extra[0] == e.metadata]
        cookie = e.controller_metadata  # pyright: ignore[reportDeprecated]
        if cookie:
            entries = [x for x in entries if x.extra is not None and x.extra[1] == cookie]
        if e.HasField("action") and codec.profile is None:
            spec = codec.actions.get(e.action.action.action_id)
            entries = [x for x in entries if spec is not None and x.a == spec.index]
        return entries

    def encode_all(
        self, found: list[tuple[TableCodec, list[Entry]]], asked: p4r.TableEntry
    ) -> Iterator[p4r.Entity]:
        counter, meter = asked.HasField("counter_data"), asked.HasField("meter_config")
        since = asked.HasField("time_since_last_hit")
        for codec, entries in found:
            for entry in entries:
                entity = p4r.Entity()
                codec.encode(entry, counter, entity)
                if isinstance(entry, (RichEntry, RichTernaryEntry)):
                    if meter and entry.meter is not None and entry.meter.config is not None:
                        encode_meter_config(entry.meter.config, entity.table_entry.meter_config)
                    if since and entry is not codec.table.miss:
                        idle = (self.pipeline.now() - entry.ts) * 1000
                        entity.table_entry.time_since_last_hit.elapsed_ns = idle
                yield entity

    def read_meters(self, e: p4r.MeterEntry) -> Iterator[p4r.Entity]:
        chosen = [self.meter_cells(e.meter_id)] if e.meter_id else list(self.meters.values())
        out: list[p4r.Entity] = []
        for meter, cells in chosen:
            wanted = range(cells.size)
            if e.HasField("index"):
                i = self.index(f"meter {meter.preamble.name}", e.index.index, cells.size)
                wanted = range(i, i + 1)
            for i in wanted:
                entity = p4r.Entity()
                entity.meter_entry.meter_id = meter.preamble.id
                entity.meter_entry.index.index = i
                config = cells.config(i)
                if config is not None:
                    encode_meter_config(config, entity.meter_entry.config)
                out.append(entity)
        return iter(out)

    def read_direct_meters(self, e: p4r.DirectMeterEntry) -> Iterator[p4r.Entity]:
        if e.table_entry.table_id:
            codecs = [self.metered_codec(e)]
        else:
            codecs = [c for c in self.tables.values() if c.meter_id]
        out: list[p4r.Entity] = []
        for codec in codecs:
            for entry in self.select(codec, e.table_entry):
                if (
                    not isinstance(entry, (RichEntry, RichTernaryEntry))
                    or entry is codec.table.miss
                ):
                    continue
                entity = p4r.Entity()
                message = entity.direct_meter_entry
                message.table_entry.table_id = codec.id
                codec.encode_match(entry, message.table_entry)
                if entry.meter is not None and entry.meter.config is not None:
                    encode_meter_config(entry.meter.config, message.config)
                out.append(entity)
        return iter(out)

    def read_members(self, e: p4r.ActionProfileMember) -> Iterator[p4r.Entity]:
        ident = e.action_profile_id
        chosen = [self.profile(ident)] if ident else list(self.profiles.values())
        return iter(
            [
                p.read_member(m)
                for p in chosen
                for m in p.members.values()
                if e.member_id in (0, m.id)
            ]
        )

    def read_profile_groups(self, e: p4r.ActionProfileGroup) -> Iterator[p4r.Entity]:
        ident = e.action_profile_id
        chosen = [self.profile(ident)] if ident else list(self.profiles.values())
        return iter(
            [p.read_group(g) for p in chosen for g in p.groups.values() if e.group_id in (0, g.id)]
        )

    def read_digests(self, ident: int) -> Iterator[p4r.Entity]:
        chosen = [self.digest(ident)] if ident else list(self.digests.values())
        if ident and chosen[0].config is None:
            raise chosen[0].error(NOT_FOUND, "it is not configured; INSERT configures it")
        return iter([p4r.Entity(digest_entry=d.config) for d in chosen if d.config is not None])

    def snapshot(self) -> Iterator[p4r.Update]:
        """Updates that bring a store without entries to this one's state, in a valid order."""
        asked: list[p4r.Entity] = [
            p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
            p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
        ]
        for codec in self.tables.values():
            if codec.immutable:
                continue
            entity = p4r.Entity()
            entity.table_entry.table_id = codec.id
            if codec.counter_id:
                entity.table_entry.counter_data.SetInParent()
            if codec.meter_id:
                entity.table_entry.meter_config.SetInParent()
            asked.append(entity)
        for message in ("multicast_group_entry", "clone_session_entry"):
            entity = p4r.Entity()
            getattr(entity.packet_replication_engine_entry, message).SetInParent()
            asked.append(entity)
        asked.append(p4r.Entity(digest_entry=p4r.DigestEntry()))
        for entity in asked:
            for found in self.read(entity):
                yield p4r.Update(type=INSERT, entity=found)
        for codec in self.tables.values():
            miss = codec.table.miss
            if codec.const_default or codec.profile is not None:
                continue
            if (miss.a, miss.args) != codec.default or miss.extra is not None:
                entity = p4r.Entity()
                codec.encode(miss, False, entity)
                yield p4r.Update(type=MODIFY, entity=entity)
        for ident, (_, cells) in self.meters.items():
            for index in cells.cells:
                entity = p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=ident))
                entity.meter_entry.index.index = index
                yield from self.modifications(entity)
        for ident in self.value_sets:
            yield from self.modifications(
                p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=ident))
            )
        for ident in self.registers:
            yield from self.modifications(
                p4r.Entity(register_entry=p4r.RegisterEntry(register_id=ident))
            )

    def modifications(self, asked: p4r.Entity) -> Iterator[p4r.Update]:
        for found in self.read(asked):
            yield p4r.Update(type=MODIFY, entity=found)

    # ---------------------------------------------------------------- time

    def timed_out(self, now: int) -> list[p4r.TableEntry]:
        """Entries whose idle timeout has passed and of which nobody was told yet."""
        out: list[p4r.TableEntry] = []
        for codec in self.tables.values():
            if not codec.ages:
                continue
            for entry in codec.table:
                assert isinstance(entry, (RichEntry, RichTernaryEntry))
                if not entry.ttl_ns or entry.told == entry.ts:
                    continue
                if (now - entry.ts) * 1000 >= entry.ttl_ns:
                    entry.told = entry.ts
                    entity = p4r.Entity()
                    codec.encode(entry, False, entity)
                    entity.table_entry.ClearField("action")
                    out.append(entity.table_entry)
        return out

    def read_counters(self, e: p4r.CounterEntry) -> Iterator[p4r.Entity]:
        chosen = (
            [self.counter_cells(e.counter_id)] if e.counter_id else list(self.counters.values())
        )
        only: int | None = None
        if e.HasField("index"):
            for counter, packets, _ in chosen:
                only = self.index(f"counter {counter.preamble.name}", e.index.index, len(packets))
        return self.encode_counters(chosen, only)

    @staticmethod
    def encode_counters(
        chosen: list[tuple[p4i.Counter, list[int], list[int]]], only: int | None
    ) -> Iterator[p4r.Entity]:
        for counter, packets, octets in chosen:
            unit = counter.spec.unit
            for i in range(len(packets)) if only is None else (only,):
                entity = p4r.Entity()
                out = entity.counter_entry
                out.counter_id = counter.preamble.id
                out.index.index = i
                out.data.SetInParent()
                if unit != p4i.CounterSpec.BYTES:
                    out.data.packet_count = packets[i]
                if unit != p4i.CounterSpec.PACKETS:
                    out.data.byte_count = octets[i]
                yield entity

    def read_direct_counters(self, e: p4r.DirectCounterEntry) -> Iterator[p4r.Entity]:
        codecs = self.chosen(e.table_entry.table_id)
        if e.table_entry.table_id and not codecs[0].counter_id:
            raise codecs[0].error(INVALID_ARGUMENT, "it has no direct counter")
        found = [(c, self.select(c, e.table_entry)) for c in codecs if c.counter_id]
        return self.encode_direct_counters(found)

    @staticmethod
    def encode_direct_counters(
        found: list[tuple[TableCodec, list[Entry]]],
    ) -> Iterator[p4r.Entity]:
        for codec, entries in found:
            for entry in entries:
                entity = p4r.Entity()
                out = entity.direct_counter_entry
                out.table_entry.table_id = codec.id
                if entry is codec.table.miss:
                    out.table_entry.is_default_action = True
                else:
                    codec.encode_match(entry, out.table_entry)
                codec.encode_counter(entry, out.data)
                yield entity

    def read_registers(self, e: p4r.RegisterEntry) -> Iterator[p4r.Entity]:
        chosen = (
            [self.register_cells(e.register_id)] if e.register_id else list(self.registers.values())
        )
        only: int | None = None
        if e.HasField("index"):
            for register, cells, _ in chosen:
                only = self.index(f"register {register.preamble.name}", e.index.index, len(cells))
        return self.encode_registers(chosen, only)

    @staticmethod
    def encode_registers(
        chosen: list[tuple[p4i.Register, list[int], int]], only: int | None
    ) -> Iterator[p4r.Entity]:
        for register, cells, _ in chosen:
            for i in range(len(cells)) if only is None else (only,):
                entity = p4r.Entity()
                out = entity.register_entry
                out.register_id = register.preamble.id
                out.index.index = i
                out.data.CopyFrom(p4d.P4Data(bitstring=canonical(cells[i])))
                yield entity

    def read_pre(self, e: p4r.PacketReplicationEngineEntry) -> Iterator[p4r.Entity]:
        which = e.WhichOneof("type")
        if which == "multicast_group_entry":
            ident = e.multicast_group_entry.multicast_group_id
            found = [g for i, g in self.groups.items() if not ident or i == ident]
        elif which == "clone_session_entry":
            ident = e.clone_session_entry.session_id
            found = [c for i, c in self.clones.items() if not ident or i == ident]
        else:
            raise EntityError(
                INVALID_ARGUMENT,
                "packet_replication_engine_entry is empty "
                "(valid: multicast_group_entry, clone_session_entry)",
            )
        return self.encode_pre(which, found)

    @staticmethod
    def encode_pre(which: str, found: list[Any]) -> Iterator[p4r.Entity]:
        for message in found:
            entity = p4r.Entity()
            getattr(entity.packet_replication_engine_entry, which).CopyFrom(message)
            yield entity
