"""Actions of one table: between p4r.Action and (index, arguments)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entity_errors import EntityError, Named, listed
from orchestrator.softswitch.ir.program import P4Table
from orchestrator.softswitch.packetmeta import canonical
from orchestrator.softswitch.state.tables import StoredEntry

Call = tuple[int, tuple[int, ...]]
"""(index among the table's actions, arguments)"""


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


class ActionCodec(Named):
    word = "table"

    def __init__(self, info: p4i.Table, program: P4Table, p4info: p4i.P4Info) -> None:
        super().__init__(info.preamble)
        self.by_id: dict[int, ActionSpec] = {}
        self.by_index: dict[int, ActionSpec] = {}
        self.known = {a.preamble.id: a.preamble.name for a in p4info.actions}
        by_name = {a.preamble.name: a for a in p4info.actions}
        scopes = {r.id: r.scope for r in info.action_refs}
        for index, action in enumerate(program.actions):
            action_of = by_name.get(action.name)
            if action_of is None:
                continue
            ident = action_of.preamble.id
            params = tuple(ParamSpec(p.id, p.name, p.bitwidth) for p in action_of.params)
            if [p.width for p in params] != [p.width for p in action.params]:
                raise SwitchError(
                    f"P4Info: action {action.name} has parameters of {[p.width for p in params]} "
                    f"bits, in the BMv2 JSON of {[p.width for p in action.params]}"
                )
            spec = ActionSpec(ident, action.name, index, params, scopes.get(ident, 0))
            self.by_index[index] = spec
            if ident in scopes:
                self.by_id[ident] = spec

    def names(self) -> Iterator[str]:
        return (a.name for a in self.by_id.values())

    def decode(self, action: p4r.TableAction, default: bool) -> Call:
        """The checked action of an entry, or of the default entry."""
        kind = action.WhichOneof("type")
        if kind != "action":
            raise self.invalid(
                f"action type '{kind or 'unset'}'; the table has no action profile, set "
                "TableAction.action"
            )
        return self.decode_call(action.action, default)

    def decode_call(self, action: p4r.Action, default: bool) -> Call:
        spec = self.by_id.get(action.action_id)
        if spec is None:
            accepted = self.known.get(action.action_id)
            name = f"'{accepted}'" if accepted else f"id {action.action_id:#x}"
            raise self.invalid(
                f"action {name} is not an action of this table (valid: {listed(self.names())})"
            )
        if spec.scope == p4i.ActionRef.TABLE_ONLY and default:
            raise self.error(
                rpc_code.PERMISSION_DENIED,
                f"action '{spec.name}' is @tableonly, not a default action",
            )
        if spec.scope == p4i.ActionRef.DEFAULT_ONLY and not default:
            raise self.error(
                rpc_code.PERMISSION_DENIED,
                f"action '{spec.name}' is @defaultonly, not usable in an entry (valid: "
                + listed(
                    a.name for a in self.by_id.values() if a.scope != p4i.ActionRef.DEFAULT_ONLY
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
                raise self.invalid(
                    f"action '{spec.name}': parameter '{p.name}' {what}: it must fit "
                    f"{p.width} bits (largest: {(1 << p.width) - 1:#x})"
                )
            args.append(v)
        return spec.index, tuple(args)

    def bad_params(self, spec: ActionSpec, given: list[int]) -> EntityError:
        want = listed(f"{p.id} ({p.name}, {p.width} bits)" for p in spec.params)
        return self.invalid(
            f"action '{spec.name}' got parameter ids {sorted(given)}, it takes: {want}"
        )

    def encode(self, entry: StoredEntry, out: p4r.TableAction) -> None:
        spec = self.by_index.get(entry.a)
        if spec is not None:
            out.action.action_id = spec.id
            for p, v in zip(spec.params, entry.args, strict=False):
                out.action.params.add(param_id=p.id, value=canonical(v))
