"""Typed view of p4c's BMv2 JSON, and the refusal of what softswitch does not do.

`read_program` turns the JSON into frozen dataclasses and reports *every*
unsupported feature at once, by name and place, so that a program either runs
as it would on BMv2's simple_switch or does not load. Expressions and primitive
arguments stay JSON objects: `codegen` walks them once and refuses unknown
operators there.

Source of the format: p4lang/behavioral-model, docs/JSON_format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.hashes import ALGORITHMS, STATEFUL

Json = Any

PRIMITIVES = frozenset(
    {
        "assign",
        "assign_VL",
        "assign_header",
        "assign_header_stack",
        "assign_union",
        "assign_union_stack",
        "add_header",
        "add_header_fast",
        "remove_header",
        "mark_to_drop",
        "drop",
        "exit",
        "no_op",
        "push",
        "pop",
        "clone_ingress_pkt_to_egress",
        "clone_egress_pkt_to_egress",
        "recirculate",
        "resubmit",
        "modify_field_with_hash_based_offset",
        "modify_field_rng_uniform",
        "count",
        "register_read",
        "register_write",
        "truncate",
        "execute_meter",
        "generate_digest",
        "log_msg",
        "assert",
        "assume",
        "_jump",
        "_jump_if_zero",
    }
)
HASHES = frozenset({*ALGORITHMS, *STATEFUL})
MATCH_KINDS = frozenset({"exact", "lpm", "ternary", "range", "optional", "valid"})
PARSER_OPS = frozenset({"extract", "extract_VL", "set", "verify", "shift", "advance", "primitive"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a header type; `width` in bits (a varbit's is its maximum)."""

    name: str
    width: int
    signed: bool
    varbit: bool = False
    saturating: bool = False


@dataclass(frozen=True, slots=True)
class HeaderType:
    name: str
    fields: tuple[Field, ...]

    @property
    def fixed_bits(self) -> int:
        """Width without the varbit field, in bits."""
        return sum(f.width for f in self.fields if not f.varbit)

    @property
    def varbit(self) -> Field | None:
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
    """A header union: at most one of `members` (headers) is valid."""

    name: str
    members: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class ConstEntry:
    """An entry of `const entries`; `matches` holds one tuple a key field."""

    matches: tuple[tuple[int, ...], ...]
    action_id: int
    args: tuple[int, ...]
    priority: int


@dataclass(frozen=True, slots=True)
class Table:
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


@dataclass(frozen=True, slots=True)
class ActionCall:
    """An action run without a table."""

    name: str
    action: Action
    next: str | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    name: str
    init: str | None
    tables: Mapping[str, Table]
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
class CounterArray:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class MeterArray:
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
class ValueSet:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class RegisterArray:
    name: str
    size: int
    width: int


@dataclass(frozen=True, slots=True)
class Program:
    headers: Mapping[str, Header]
    stacks: Mapping[str, Stack]
    unions: Mapping[str, Union]
    union_stacks: Mapping[str, UnionStack]
    union_of: Mapping[str, Union]
    init_state: str | None
    states: Mapping[str, ParseState]
    deparse_order: tuple[str, ...]
    deparse_primitives: tuple[Json, ...]
    ingress: Pipeline
    egress: Pipeline
    calculations: Mapping[str, Calculation]
    checksums: tuple[Checksum, ...]
    counters: Mapping[str, CounterArray]
    registers: Mapping[str, RegisterArray]
    meters: Mapping[str, MeterArray]
    learn_lists: Mapping[int, LearnList]
    profiles: Mapping[str, ActionProfile]
    value_sets: Mapping[str, ValueSet]
    field_lists: Mapping[int, tuple[tuple[str, str], ...]]
    errors: Mapping[str, int]
    raw: Json

    def tables(self) -> Iterable[Table]:
        yield from self.ingress.tables.values()
        yield from self.egress.tables.values()

    def profile_actions(self, profile: str) -> list[str]:
        """Names of the actions of all tables that share a profile: the numbers of members'."""
        tables = [t for t in self.tables() if t.profile == profile]
        return list(dict.fromkeys(a.name for t in tables for a in t.actions))

    def field(self, header: str, name: str) -> Field:
        for f in self.headers[header].type.fields:
            if f.name == name:
                return f
        raise UnsupportedFeature(f"BMv2 JSON: header {header} has no field '{name}'")


class _Reader:
    def __init__(self, raw: Json) -> None:
        self.raw = raw
        self.problems: list[str] = []

    def refuse(self, where: str, what: str, valid: str = "") -> None:
        self.problems.append(f"{where}: {what}" + (f" ({valid})" if valid else ""))

    def refuse_sections(self) -> None:
        for item in _list(self.raw, "extern_instances"):
            self.refuse(
                f"extern_instances.{item.get('name')}",
                f"extern '{item.get('type')}': custom externs are not implemented",
            )

    def header_types(self) -> dict[str, HeaderType]:
        types: dict[str, HeaderType] = {}
        for t in self.raw["header_types"]:
            fixed = sum(f[1] for f in t["fields"] if f[1] != "*")
            fields: list[Field] = []
            for f in t["fields"]:
                if f[1] == "*":
                    width = t.get("max_length", 0) * 8 - fixed
                    fields.append(Field(f[0], width, False, True))
                else:
                    signed = bool(f[2]) if len(f) > 2 else False
                    saturating = bool(f[3]) if len(f) > 3 else False
                    fields.append(Field(f[0], f[1], signed, False, saturating))
            if t.get("length_exp"):
                self.refuse(f"header_types.{t['name']}", "P4_14 length expressions")
            types[t["name"]] = HeaderType(t["name"], tuple(fields))
        return types

    def actions(self) -> dict[int, Action]:
        out: dict[int, Action] = {}
        for a in self.raw["actions"]:
            for prim in a["primitives"]:
                if prim["op"] not in PRIMITIVES:
                    self.refuse(
                        f"actions.{a['name']}",
                        f"primitive '{prim['op']}' is not implemented",
                        "implemented: " + ", ".join(sorted(PRIMITIVES)),
                    )
            params = tuple(Param(p["name"], p["bitwidth"]) for p in a["runtime_data"])
            out[a["id"]] = Action(a["id"], a["name"], params, tuple(a["primitives"]))
        return out

    def table(self, t: Json, actions: Mapping[int, Action], headers: Mapping[str, Header]) -> Table:
        where = f"tables.{t['name']}"
        kind = t.get("type", "simple")
        if kind not in ("simple", "indirect", "indirect_ws"):
            self.refuse(where, f"implementation '{kind}'", "simple, indirect, indirect_ws")
        keys: list[Key] = []
        for k in t["key"]:
            if k["match_type"] not in MATCH_KINDS:
                self.refuse(
                    where, f"match kind '{k['match_type']}'", ", ".join(sorted(MATCH_KINDS))
                )
            target = k["target"]
            header, field = (target, "$valid$") if isinstance(target, str) else target
            if not isinstance(header, str):
                self.refuse(where, "a header picked at run time as key")
                continue
            width = 1
            if field != "$valid$":
                found = [f for f in headers[header].type.fields if f.name == field]
                width = found[0].width
                if found[0].varbit:
                    self.refuse(where, f"varbit {header}.{field} as key")
            mask = None if k.get("mask") is None else int(k["mask"], 16)
            match = "exact" if k["match_type"] == "valid" else k["match_type"]
            keys.append(Key(k.get("name", f"{header}.{field}"), match, header, field, width, mask))
        default: Json = t.get("default_entry") or {}
        entries: list[ConstEntry] = []
        for e in _list(t, "entries"):
            matches: list[tuple[int, ...]] = []
            for m in _list(e, "match_key"):
                matches.append(_const_match(m))
            entry: Json = e["action_entry"]
            entries.append(
                ConstEntry(
                    tuple(matches),
                    entry["action_id"],
                    tuple(int(v, 16) for v in _list(entry, "action_data")),
                    e.get("priority", 0),
                )
            )
        return Table(
            name=t["name"],
            keys=tuple(keys),
            kind=t["match_type"],
            actions=tuple(actions[i] for i in t["action_ids"]),
            next_tables=t["next_tables"],
            base_next=t.get("base_default_next"),
            default_action=default.get("action_id", -1),
            default_args=tuple(int(v, 16) for v in _list(default, "action_data")),
            const_default=bool(default.get("action_const", False)),
            size=t["max_size"],
            with_counters=bool(t["with_counters"]),
            entries=tuple(entries),
            profile=t.get("action_profile") if kind != "simple" else None,
            selects=kind == "indirect_ws",
            ages=bool(t.get("support_timeout")),
            meter=t.get("direct_meters") or None,
        )

    def parser(self) -> tuple[str | None, dict[str, ParseState]]:
        parsers = self.raw["parsers"]
        if not parsers:
            return None, {}
        states: dict[str, ParseState] = {}
        for s in parsers[0]["parse_states"]:
            where = f"parser.{s['name']}"
            for op in s["parser_ops"]:
                if op["op"] not in PARSER_OPS:
                    self.refuse(where, f"parser operation '{op['op']}'")
                if op["op"] == "primitive":
                    inner = op["parameters"][0]["op"]
                    if inner not in PRIMITIVES:
                        self.refuse(where, f"primitive '{inner}' is not implemented")
                if op["op"] in ("extract", "extract_VL"):
                    kind = op["parameters"][0]["type"]
                    if kind not in ("regular", "stack", "union_stack"):
                        self.refuse(where, f"extraction to a {kind}")
            transitions: list[Transition] = []
            for t in s["transitions"]:
                if t["type"] == "default":
                    transitions.append(Transition(None, None, t["next_state"]))
                elif t["type"] == "hexstr":
                    mask = None if t["mask"] is None else int(t["mask"], 16)
                    transitions.append(Transition(int(t["value"], 16), mask, t["next_state"]))
                elif t["type"] == "parse_vset":
                    mask = None if t["mask"] is None else int(t["mask"], 16)
                    transitions.append(Transition(None, mask, t["next_state"], t["value"]))
                else:
                    self.refuse(where, f"transition on '{t['type']}'")
            states[s["name"]] = ParseState(
                s["name"], tuple(s["parser_ops"]), tuple(s["transition_key"]), tuple(transitions)
            )
        return parsers[0]["init_state"], states

    def unions(self, headers: Mapping[int, str]) -> tuple[dict[str, Union], dict[str, UnionStack]]:
        unions: dict[str, Union] = {}
        by_id: dict[int, Union] = {}
        for u in _list(self.raw, "header_unions"):
            union = Union(u["name"], tuple(headers[i] for i in u["header_ids"]))
            unions[u["name"]] = by_id[u["id"]] = union
        stacks = {
            s["name"]: UnionStack(s["name"], tuple(by_id[i] for i in s["header_union_ids"]))
            for s in _list(self.raw, "header_union_stacks")
        }
        return unions, stacks

    def read(self) -> Program:
        raw = self.raw
        self.refuse_sections()
        types = self.header_types()
        headers: dict[str, Header] = {}
        by_id: dict[int, str] = {}
        for i, h in enumerate(raw["headers"]):
            if h["header_type"] not in types:
                raise UnsupportedFeature(
                    f"BMv2 JSON: headers.{h['name']}: no header type '{h['header_type']}'"
                )
            headers[h["name"]] = Header(h["name"], types[h["header_type"]], h["metadata"], i)
            by_id[h["id"]] = h["name"]
        stacks: dict[str, Stack] = {}
        for s in _list(raw, "header_stacks"):
            stacks[s["name"]] = Stack(
                s["name"], types[s["header_type"]], tuple(by_id[i] for i in s["header_ids"])
            )
        unions, union_stacks = self.unions(by_id)
        actions = self.actions()
        pipelines: dict[str, Pipeline] = {}
        for p in raw["pipelines"]:
            pipelines[p["name"]] = Pipeline(
                p["name"],
                p["init_table"],
                {t["name"]: self.table(t, actions, headers) for t in p["tables"]},
                {
                    c["name"]: Conditional(
                        c["name"], c["expression"], c["true_next"], c["false_next"]
                    )
                    for c in p["conditionals"]
                },
                {
                    c["name"]: ActionCall(c["name"], actions[c["action_id"]], c.get("next_node"))
                    for c in _list(p, "action_calls")
                },
            )
        if set(pipelines) != {"ingress", "egress"}:
            self.refuse(
                "pipelines", f"found {sorted(pipelines)}, only v1model's ingress and egress"
            )
        init_state, states = self.parser()
        calculations: dict[str, Calculation] = {}
        for c in raw["calculations"]:
            if c["algo"] not in HASHES:
                self.refuse(
                    f"calculations.{c['name']}",
                    f"algorithm '{c['algo']}' is not implemented",
                    "implemented: " + ", ".join(sorted(HASHES)),
                )
            calculations[c["name"]] = Calculation(c["name"], c["algo"], tuple(c["input"]))
        profiles: dict[str, ActionProfile] = {}
        for a in (a for p in raw["pipelines"] for a in _list(p, "action_profiles")):
            selector: Json = a.get("selector")
            name = None
            if selector:
                # A calculation of the generator's like any other; '$' keeps its name its own.
                name = f"$selector${a['name']}"
                if selector["algo"] not in HASHES:
                    self.refuse(
                        f"action_profiles.{a['name']}",
                        f"algorithm '{selector['algo']}' is not implemented",
                        "implemented: " + ", ".join(sorted(HASHES)),
                    )
                calculations[name] = Calculation(name, selector["algo"], tuple(selector["input"]))
            profiles[a["name"]] = ActionProfile(a["name"], a.get("max_size", 0), name)
        checksums: list[Checksum] = []
        for c in raw["checksums"]:
            if c["type"] != "generic":
                self.refuse(f"checksums.{c['name']}", f"type '{c['type']}'", "generic")
                continue
            checksums.append(
                Checksum(
                    c["name"],
                    c["target"][0],
                    c["target"][1],
                    c["calculation"],
                    c.get("if_cond"),
                    c.get("verify", True),
                    c.get("update", True),
                )
            )
        field_lists: dict[int, tuple[tuple[str, str], ...]] = {}
        for fl in _list(raw, "field_lists"):
            elements: list[tuple[str, str]] = []
            for e in _list(fl, "elements"):
                if e["type"] == "field":
                    elements.append((e["value"][0], e["value"][1]))
                elif e["type"] == "header":
                    for f in headers[e["value"]].type.fields:
                        elements.append((e["value"], f.name))
                else:
                    self.refuse(f"field_lists.{fl['name']}", f"element '{e['type']}'")
            field_lists[fl["id"]] = tuple(elements)
        if self.problems:
            raise UnsupportedFeature(
                "BMv2 JSON uses what softswitch does not implement:\n  "
                + "\n  ".join(self.problems)
            )
        return Program(
            headers=headers,
            stacks=stacks,
            unions=unions,
            union_stacks=union_stacks,
            union_of={h: u for u in unions.values() for h in u.members},
            init_state=init_state,
            states=states,
            deparse_order=tuple(raw["deparsers"][0]["order"]) if raw["deparsers"] else (),
            deparse_primitives=tuple(_list(raw["deparsers"][0], "primitives"))
            if raw["deparsers"]
            else (),
            ingress=pipelines["ingress"],
            egress=pipelines["egress"],
            calculations=calculations,
            checksums=tuple(checksums),
            counters={
                c["name"]: CounterArray(c["name"], c["size"])
                for c in raw["counter_arrays"]
                if not c["is_direct"]
            },
            registers={
                r["name"]: RegisterArray(r["name"], r["size"], r["bitwidth"])
                for r in raw["register_arrays"]
            },
            meters={
                m["name"]: MeterArray(
                    m["name"],
                    m.get("size", 0),
                    m["type"] == "packets",
                    m.get("binding") if m["is_direct"] else None,
                    tuple(m["result_target"]) if m["is_direct"] else None,
                )
                for m in _list(raw, "meter_arrays")
            },
            learn_lists={
                d["id"]: LearnList(d["id"], d["name"], tuple(d["elements"]))
                for d in _list(raw, "learn_lists")
            },
            profiles=profiles,
            value_sets={
                v["name"]: ValueSet(v["name"], v.get("max_size", 0))
                for v in _list(raw, "parse_vsets")
            },
            field_lists=field_lists,
            errors=dict(raw.get("errors") or []),
            raw=raw,
        )


def _list(node: Json, name: str) -> list[Json]:
    """A JSON array that may be absent."""
    return node.get(name) or []


def _const_match(m: Json) -> tuple[int, ...]:
    """(value,), (value, prefix length), (value, mask) or (low, high)."""
    kind = m["match_type"]
    if kind == "valid":
        return (int(bool(m["key"])),)
    if kind == "lpm":
        return (int(m["key"], 16), m["prefix_length"])
    if kind in ("ternary", "optional"):
        return (int(m["key"], 16), int(m["mask"], 16))
    if kind == "range":
        return (int(m["start"], 16), int(m["end"], 16))
    return (int(m["key"], 16),)


def read_program(raw: Json) -> Program:
    """Read p4c's BMv2 JSON; raises `UnsupportedFeature` naming all that is refused."""
    if not isinstance(raw, dict) or "pipelines" not in raw:
        raise UnsupportedFeature("BMv2 JSON: no 'pipelines' section: not p4c-bm2-ss output")
    return _Reader(raw).read()
