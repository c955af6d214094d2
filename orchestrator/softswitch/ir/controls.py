"""Actions, tables and the graphs of ingress and egress, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.ir.node import MAX_BITS, Json, JsonNode
from orchestrator.softswitch.ir.objects import (
    VALID,
    ObjectIds,
    Objects,
    add,
    read_algorithm,
    read_inputs,
    resolve,
)
from orchestrator.softswitch.ir.operands import Operands
from orchestrator.softswitch.ir.parser import check_jumps
from orchestrator.softswitch.ir.program import (
    Action,
    ActionCall,
    ActionProfile,
    Calculation,
    Conditional,
    ConstEntry,
    ControlGraph,
    Key,
    P4Table,
    Param,
)

MAX_NODES = 4096
"""Tables, conditionals and calls of one pipeline."""
MAX_PRIMITIVES = 4096
MAX_KEYS = 256
MAX_ENTRIES = 65_536
HIT, MISS = "__HIT__", "__MISS__"


def read_actions(root: JsonNode, objects: Objects) -> dict[int, Action]:
    actions: dict[int, Action] = {}
    ids = ObjectIds("action")
    for a in root.list("actions"):
        ident, name = ids.take(a), a["name"].name()
        params = tuple(
            Param(p["name"].name(), p["bitwidth"].integer(1, MAX_BITS))
            for p in a.list("runtime_data", most=MAX_KEYS)
        )
        operands = Operands(objects, params)
        primitives = [
            operands.primitive(p, f"actions.{name}")
            for p in a.list("primitives", most=MAX_PRIMITIVES)
        ]
        check_jumps(a, primitives)
        actions[ident] = Action(ident, name, params, tuple(primitives))
    return actions


@dataclass(slots=True)
class Controls:
    """Reads pipelines; `profiles` are the action profiles of all of them."""

    objects: Objects
    actions: Mapping[int, Action]
    profiles: dict[str, ActionProfile] = field(default_factory=dict[str, ActionProfile])

    def pipeline(self, node: JsonNode) -> ControlGraph:
        for profile in node.list("action_profiles"):
            selector = profile.get("selector")
            size = profile.get("max_size")
            count = 0 if size is None else size.integer(-1)
            add(
                profile,
                "action profile",
                self.profiles,
                self._profile(profile["name"], count, selector),
            )
        tables: dict[str, P4Table] = {}
        conditionals: dict[str, Conditional] = {}
        calls: dict[str, ActionCall] = {}
        nodes = [node.list(s, MAX_NODES) for s in ("tables", "conditionals", "action_calls")]
        names: dict[str, str] = {}
        for section in nodes:
            for each in section:
                add(each, "control node", names, each["name"].name())
        for t in nodes[0]:
            table = self.table(t, names)
            tables[table.name] = table
        for c in nodes[1]:
            conditional = self.conditional(c, names)
            conditionals[conditional.name] = conditional
        for c in nodes[2]:
            action = self._action(c["action_id"])
            if action.params:
                raise c["action_id"].wrong(f"action {action.name} has parameters")
            name = c["name"].name()
            calls[name] = ActionCall(name, action, _next(c.get("next_node"), names))
        init = _next(node.get("init_table"), names)
        return ControlGraph(node["name"].name(), init, tables, conditionals, calls)

    def _profile(self, node: JsonNode, size: int, selector: JsonNode | None) -> ActionProfile:
        name = node.name()
        if selector is None:
            return ActionProfile(name, size, None)
        # A calculation of the generator's like any other; '$' keeps its name its own.
        calculation = f"$selector${name}"
        algo = read_algorithm(selector, self.objects, f"action_profiles.{name}")
        inputs = read_inputs(selector["input"], self.objects)
        self.objects.calculations[calculation] = Calculation(calculation, algo, inputs)
        return ActionProfile(name, size, calculation)

    def _action(self, node: JsonNode) -> Action:
        ident = node.integer()
        if ident not in self.actions:
            raise node.unknown("action with id")
        return self.actions[ident]

    def conditional(self, c: JsonNode, names: Mapping[str, str]) -> Conditional:
        true, false = c.get("true_next"), c.get("false_next")
        if "true_next" not in c.value and "false_next" not in c.value:
            raise c.wrong("'true_next' and 'false_next' are missing, one at least is expected")
        info = c.get("source_info")
        text = None if info is None else info.get("source_fragment")
        return Conditional(
            c["name"].name(),
            Operands(self.objects).value(c["expression"]),
            _next(true, names),
            _next(false, names),
            "" if text is None else text.text(),
        )

    # ----------------------------------------------------------------- tables

    def table(self, t: JsonNode, names: Mapping[str, str]) -> P4Table:
        name, where = t["name"].name(), f"tables.{t['name'].name()}"
        kind = "simple" if t.get("type") is None else t["type"].name()
        if kind not in ("simple", "indirect", "indirect_ws"):
            self.objects.refuse(where, f"implementation '{kind}'", "simple, indirect, indirect_ws")
        keys = tuple(self._key(k, where) for k in t.list("key", most=MAX_KEYS))
        if sum(k.kind == "lpm" for k in keys) > 1:
            raise t["key"].wrong("a second lpm key")
        t["match_type"].name()
        actions = self._actions(t)
        profile = self._profile_of(t, kind)
        default, args = (
            (None, ())
            if t.get("default_entry") is None
            else self._call(t["default_entry"], actions)
        )
        meter = t.get("direct_meters")
        entries = tuple(self._entry(e, keys, actions) for e in t.list("entries", MAX_ENTRIES))
        if profile is not None and entries:
            raise t["entries"].wrong("a table with an action profile has no const entries")
        return P4Table(
            name=name,
            keys=keys,
            kind=t["match_type"].name(),
            actions=actions,
            next_tables=self._next_tables(t, actions, names),
            base_next=_next(t.get("base_default_next"), names),
            default_action=-1 if default is None else default.id,
            default_args=args,
            const_default=default is not None and _flag(t["default_entry"], "action_const"),
            size=_size(t),
            with_counters=_flag(t, "with_counters"),
            entries=entries,
            profile=profile,
            selects=kind == "indirect_ws",
            ages=_flag(t, "support_timeout"),
            meter=None if meter is None else self._meter(meter),
        )

    def _key(self, k: JsonNode, where: str) -> Key:
        kind = k["match_type"].name()
        kinds = self.objects.architecture.match_kinds
        if kind not in kinds:
            self.objects.refuse(where, f"match kind '{kind}'", ", ".join(sorted(kinds)))
        target = k["target"]
        label = k.get("name")
        if kind == "valid" or isinstance(target.value, str):
            header, field_ = resolve(target, "header", self.objects.headers).name, VALID
            name = header if label is None else label.name()
        else:
            first = target if isinstance(target.value, dict) else target.items(2)[0]
            if isinstance(first.value, dict):
                raise UnsupportedFeature(
                    f"BMv2 JSON: {where}: a header picked at run time as key is not implemented"
                )
            self.objects.value_field(target)
            header, field_ = self.objects.field(target)
            name = f"{header}.{field_}" if label is None else label.name()
        width = 1 if field_ == VALID else self.objects.headers[header].type.by_name[field_].width
        given = k.get("mask")
        mask = None if given is None else given.hexadecimal((width + 7) // 8 * 8)
        return Key(name, "exact" if kind == "valid" else kind, header, field_, width, mask)

    def _actions(self, t: JsonNode) -> tuple[Action, ...]:
        """By id; older compilers wrote names, of which the first action counts."""
        if t.get("action_ids") is not None:
            actions = tuple(self._action(i) for i in t["action_ids"].items())
        else:
            first: dict[str, Action] = {}
            for action in self.actions.values():
                first.setdefault(action.name, action)
            actions = tuple(resolve(n, "action", first) for n in t["actions"].items())
        if len({a.name for a in actions}) != len(actions):
            raise t.wrong("two actions of one name")
        return actions

    def _profile_of(self, t: JsonNode, kind: str) -> str | None:
        """The action profile; older compilers declared it with its table."""
        if kind == "simple":
            return None
        if t.get("action_profile") is not None:
            profile = resolve(t["action_profile"], "action profile", self.profiles)
        elif t.get("act_prof_name") is not None:
            name = t["act_prof_name"].name()
            if name in self.profiles:
                raise t["act_prof_name"].wrong(f"there are two action profiles {name}")
            selector = t["selector"] if kind == "indirect_ws" else None
            profile = self._profile(t["act_prof_name"], 0, selector)
            self.profiles[name] = profile
        else:
            raise t.wrong("'action_profile' is missing")
        if kind == "indirect_ws" and profile.selector is None:
            raise t.wrong(f"action profile {profile.name} has no selector")
        return profile.name

    def _meter(self, node: JsonNode) -> str:
        meter = resolve(node, "direct meter array", self.objects.meters)
        if meter.target is None:
            raise node.wrong(f"meter {meter.name} is no direct one")
        return meter.name

    @staticmethod
    def _next_tables(
        t: JsonNode, actions: tuple[Action, ...], names: Mapping[str, str]
    ) -> dict[str, str | None]:
        given = dict(t["next_tables"].members())
        action_names = {a.name for a in actions}
        for key, node in given.items():
            if key not in action_names and key not in (HIT, MISS):
                raise node.wrong("no action of the table")
        following = {
            key: _next(None if node.value is None else node, names) for key, node in given.items()
        }
        if HIT in following or MISS in following:
            if set(following) != {HIT, MISS}:
                raise t["next_tables"].wrong(f"{HIT} and {MISS} are expected, and nothing else")
        elif missing := action_names - set(following):
            raise t["next_tables"].wrong(f"'{min(missing)}' is missing")
        return following

    def _call(self, node: JsonNode, actions: tuple[Action, ...]) -> tuple[Action, tuple[int, ...]]:
        """`action_id` and `action_data` of an entry."""
        action = self._action(node["action_id"])
        if action not in actions:
            raise node["action_id"].wrong(f"action {action.name} is none of the table's")
        data = node.list("action_data")
        if len(data) != len(action.params):
            raise node.wrong(
                f"action {action.name} has {len(action.params)} parameters, not {len(data)}"
            )
        # A negative argument is the bits that it has in the parameter.
        args = [
            d.hexadecimal(p.width, signed=True) & ((1 << p.width) - 1)
            for d, p in zip(data, action.params, strict=True)
        ]
        return action, tuple(args)

    def _entry(self, e: JsonNode, keys: tuple[Key, ...], actions: tuple[Action, ...]) -> ConstEntry:
        parts = e["match_key"].items(len(keys))
        kinds = self.objects.architecture.match_kinds
        matches = tuple(_const_match(m, key, kinds) for m, key in zip(parts, keys, strict=True))
        action, args = self._call(e["action_entry"], actions)
        priority = e.get("priority")
        return ConstEntry(matches, action.id, args, 0 if priority is None else priority.integer())


def _next(node: JsonNode | None, names: Mapping[str, str]) -> str | None:
    return None if node is None else resolve(node, "control node", names)


def _flag(node: JsonNode, key: str) -> bool:
    flag = node.get(key)
    return flag is not None and flag.flag()


def _size(t: JsonNode) -> int:
    """Number of entries; a table of const entries has as many as there are."""
    size = t.get("max_size")
    if size is not None:
        return size.integer()
    if t.get("entries") is None:
        raise t.wrong("'max_size' is missing")
    return len(t["entries"].items())


def _const_match(m: JsonNode, key: Key, kinds: tuple[str, ...]) -> tuple[int, ...]:
    """(value,), (value, prefix length), (value, mask) or (low, high)."""
    kind = m["match_type"].one_of(kinds)
    if ("exact" if kind == "valid" else kind) != key.kind:
        raise m["match_type"].wrong(f"{kind} where the key is {key.kind}")
    bits = key.width
    if kind == "valid":
        return (int(m["key"].flag()),)
    if kind == "range":
        low, high = m["start"].hexadecimal(bits), m["end"].hexadecimal(bits)
        if low > high:
            raise m.wrong("the start of the range is above its end")
        return (low, high)
    value = m["key"].hexadecimal(bits)
    if kind == "lpm":
        return (value, m["prefix_length"].integer(0, bits))
    if kind in ("ternary", "optional"):
        return (value, m["mask"].hexadecimal((bits + 7) // 8 * 8))
    return (value,)


def read_pipelines(root: JsonNode, controls: Controls) -> dict[str, ControlGraph]:
    """The architecture's controls, in its order."""
    pipelines: dict[str, ControlGraph] = {}
    ids = ObjectIds("pipeline")
    for p in root["pipelines"].items(most=16):
        ids.take(p)
        add(p, "pipeline", pipelines, controls.pipeline(p))
    names: Json = sorted(pipelines)
    architecture = controls.objects.architecture
    if set(pipelines) != set(architecture.controls):
        valid = " and ".join(architecture.controls)
        controls.objects.refuse("pipelines", f"found {names}, only {architecture.name}'s {valid}")
    seen: set[str] = set()
    for pipe in pipelines.values():
        for table in pipe.tables:
            if table in seen:
                raise root["pipelines"].wrong(f"there are two tables {table}")
            seen.add(table)
    return {name: pipelines[name] for name in architecture.controls if name in pipelines}
