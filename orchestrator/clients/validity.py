"""Whether an entry is one that its table could hold (P4Runtime 9.1), told before a switch is asked."""

from __future__ import annotations

from finsy.proto import p4i

from orchestrator.clients.p4info import Schema, TableInfo, short
from orchestrator.model.entries import Between, Exact, Key, Lpm, Meter, TableEntry, Ternary

MAX_ORIGIN = 4096
"""Characters of an entry's provenance."""
_MOST_PRIORITY = (1 << 31) - 1
_KIND_OF = {Exact: "EXACT", Lpm: "LPM", Ternary: "TERNARY", Between: "RANGE"}
_Params = tuple[tuple[str, int], ...]


class Validity:
    """Checks entries of a pipeline; what many entries share is looked at once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fixed = {short(t.preamble.name) for t in schema.p4info.tables if t.is_const_table}
        only_default = p4i.ActionRef.DEFAULT_ONLY
        self._allowed = {
            short(t.preamble.name): {
                schema.action_by_id(ref.id) for ref in t.action_refs if ref.scope != only_default
            }
            for t in schema.p4info.tables
        }
        self._params: dict[tuple[str, _Params], str] = {}

    def problem(self, entry: TableEntry) -> str:
        """What is wrong with an entry and what would be valid; empty when nothing is."""
        table = self._schema.tables.get(entry.table)
        if table is None or entry.table in self._fixed:
            return "no entry can be put into this table"
        return (
            self._action_problem(entry)
            or _keys_problem(table, entry)
            or _priority_problem(table, entry.priority)
            or _meter_problem(table, entry.meter)
            or ("" if len(entry.origin) <= MAX_ORIGIN else "its provenance is too long")
        )

    def _action_problem(self, entry: TableEntry) -> str:
        allowed = self._allowed[entry.table]
        if entry.action not in allowed:
            return f"action {entry.action} is none of {', '.join(sorted(allowed))}"
        problem = self._params.get((entry.action, entry.params))
        if problem is None:
            fields = self._schema.actions[entry.action].params
            problem = ""
            if sorted(name for name, _ in entry.params) != sorted(fields):
                problem = f"action {entry.action} takes {', '.join(fields) or 'no parameters'}"
            for name, value in entry.params if not problem else ():
                if value >> fields[name].bits:
                    problem = f"parameter {name} is {value}, of more than {fields[name].bits} bits"
            self._params[entry.action, entry.params] = problem
        return problem


def _keys_problem(table: TableInfo, entry: TableEntry) -> str:
    names = [name for name, _ in entry.keys]
    if len(names) != len(set(names)):
        return "a key is given twice"
    for name, key in entry.keys:
        field = table.keys[name]
        kind = "EXACT" if field.kind == "OPTIONAL" else field.kind
        if _KIND_OF[type(key)] != kind:
            return f"key {name} is matched as {_KIND_OF[type(key)]}, and the table asks {kind}"
        if text := _key_problem(key, field.bits):
            return f"key {name} {text}"
    for name, field in table.keys.items():
        if field.kind == "EXACT" and name not in names:
            return f"key {name} is missing"
    return ""


def _key_problem(key: Key, bits: int) -> str:
    """P4Runtime 9.1.1; a key that asks nothing is left out."""
    most = (1 << bits) - 1
    if max(key) > most:
        return f"has more than {bits} bits"
    if isinstance(key, Lpm):
        host = bits - key.length
        if not 0 < key.length <= bits or key.value & ((1 << host) - 1):
            return f"is no prefix of {bits} bits"
    elif isinstance(key, Ternary) and (not key.mask or key.value & ~key.mask):
        return "has bits outside its mask, or no mask"
    elif isinstance(key, Between) and (key.low > key.high or (key.low, key.high) == (0, most)):
        return "is an empty range, or all of it"
    return ""


def _priority_problem(table: TableInfo, priority: int) -> str:
    if table.needs_priority and not 0 < priority <= _MOST_PRIORITY:
        return f"priority is {priority}, valid are 1 to {_MOST_PRIORITY}"
    if not table.needs_priority and priority:
        return f"priority is {priority}, and the table takes none"
    return ""


def _meter_problem(table: TableInfo, meter: Meter | None) -> str:
    if meter is None:
        return ""
    if not table.metered:
        return "it has a meter, and the table has none"
    if min(meter) < 0 or max(meter) >= 1 << 62:
        return "its meter's rates are out of range"
    return ""
