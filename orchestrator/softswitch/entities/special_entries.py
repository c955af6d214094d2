"""Entries of a table with an action profile, a direct meter or idle timeouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.actions import Call
from orchestrator.softswitch.entities.base import INSERT, Operation
from orchestrator.softswitch.entities.counters import Count
from orchestrator.softswitch.entities.table_entries import (
    PLAIN,
    Provenance,
    TableEntries,
    provenance,
)
from orchestrator.softswitch.entity_errors import EntityError
from orchestrator.softswitch.ir.program import P4Table
from orchestrator.softswitch.state.meters import (
    MeterConfig,
    RunningMeter,
    decode_meter_config,
    encode_meter_config,
)
from orchestrator.softswitch.state.pipeline import PipelineState
from orchestrator.softswitch.state.profiles import MANUAL, Member, ProfileStore, SelectorGroup
from orchestrator.softswitch.state.tables import MatchTable, Rich, StoredEntry


@dataclass(frozen=True, slots=True)
class Details:
    """What an entry is to have, checked.

    With a profile, `action` names its members or groups and is resolved when
    the write is applied; `action_set` are the decoded actions of a one-shot.
    Without, `call` is what to run. `meter` is (config,) when it was given.
    """

    call: Call
    action: p4r.TableAction | None
    action_set: tuple[Call, ...]
    extra: Provenance | None
    count: Count | None
    ttl_ns: int
    meter: tuple[MeterConfig | None] | None


class SpecialEntries(TableEntries):
    def __init__(
        self,
        info: p4i.Table,
        p4info: p4i.P4Info,
        program: P4Table,
        table: MatchTable,
        touched: set[MatchTable],
        profile: ProfileStore | None,
        state: PipelineState,
    ) -> None:
        super().__init__(info, p4info, program, table, touched, profile)
        actions = state.program.profile_actions(program.profile) if program.profile else ()
        self.numbers = {name: i for i, name in enumerate(actions)}  # as generated code does
        self.state = state

    # ---------------------------------------------------------------- decoding

    def decode_entry(self, kind: int, e: p4r.TableEntry) -> Operation:
        match = self.match.decode(e)
        details = self.decode_details(e)
        return (self.insert_details if kind == INSERT else self.modify_details), (match, details)

    def decode_details(self, e: p4r.TableEntry) -> Details:
        count = self.decode_counter(e)
        meter: tuple[MeterConfig | None] | None = None
        if e.HasField("meter_config"):
            meter = (decode_meter_config(f"table {self.name}: meter_config", e.meter_config),)
        extra, ttl = provenance(e), e.idle_timeout_ns
        if self.profile is None:
            call = self.actions.decode(e.action, False)
            return Details(call, None, (), extra, count, ttl, meter)
        action_set = self.decode_profile_action(self.profile, e.action)
        return Details((0, ()), e.action, action_set, extra, count, ttl, meter)

    def decode_profile_action(
        self, profile: ProfileStore, action: p4r.TableAction
    ) -> tuple[Call, ...]:
        """Check what does not depend on the profile's state; the actions of a one-shot."""
        which = action.WhichOneof("type")
        if which == "action_profile_action_set":
            if not profile.with_selector:
                raise self.no_selector("an action set", profile)
            actions = action.action_profile_action_set
            profile.check_action_set(actions)
            return tuple(self.decode_member(a.action) for a in actions.action_profile_actions)
        if which == "action_profile_group_id" and not profile.with_selector:
            raise self.no_selector("a group", profile)
        if which not in ("action_profile_member_id", "action_profile_group_id"):
            valid = "action_profile_member_id"
            if profile.with_selector:
                valid += ", action_profile_group_id, action_profile_action_set"
            raise self.invalid(
                f"action type '{which or 'unset'}'; its actions are in action profile "
                f"{profile.name} (valid: {valid})"
            )
        return ()

    def no_selector(self, what: str, profile: ProfileStore) -> EntityError:
        return self.invalid(
            f"{what} needs a selector, but {profile.name} is an action profile "
            "(valid: action_profile_member_id)"
        )

    def decode_member(self, action: p4r.Action) -> Call:
        """(number in the profile, arguments) of a member's action."""
        index, args = self.actions.decode_call(action, False)
        return self.numbers[self.program.actions[index].name], args

    # ---------------------------------------------------------------- applying

    def target(self, profile: ProfileStore, d: Details) -> Member | SelectorGroup:
        """The member or group that an entry is to refer to."""
        action = d.action
        assert action is not None
        which = action.WhichOneof("type")
        if which == "action_profile_action_set":
            return profile.one_shot(action.action_profile_action_set, d.action_set)
        profile.claim(MANUAL)
        if which == "action_profile_member_id":
            return profile.member(action.action_profile_member_id, rpc_code.INVALID_ARGUMENT)
        return profile.group(action.action_profile_group_id, rpc_code.INVALID_ARGUMENT)

    def insert_details(self, match: Any, d: Details) -> None:
        self.check_room(match)
        index, args = d.call
        if self.profile is not None:
            args = self.target(self.profile, d)
            self.profile.take(args)
        entry = self.table.make(index, args)
        self.apply_details(entry, d, new=True)
        self.table.add(match, entry)
        self.touched.add(self.table)

    def modify_details(self, match: Any, d: Details) -> None:
        entry = self.existing(match)
        if self.profile is not None:
            old = entry.args
            entry.args = self.target(self.profile, d)
            self.profile.take(entry.args)
            self.profile.drop(old)
        else:
            entry.a, entry.args = d.call
        self.apply_details(entry, d, new=False)
        self.table.changed(entry, counted=d.count is not None)

    def apply_details(self, entry: StoredEntry, d: Details, new: bool) -> None:
        entry.extra = d.extra
        if d.count is not None:
            entry.n, entry.b = d.count
        if not isinstance(entry, Rich):
            return
        if new or entry.ttl_ns != d.ttl_ns:
            entry.ts = self.state.now()
        entry.ttl_ns = d.ttl_ns
        if d.meter is not None:
            self.configure_meter(entry, d.meter[0])

    def configure_meter(self, entry: Rich, config: MeterConfig | None) -> None:
        if config is None:
            entry.meter = None
            return
        if entry.meter is None:
            name = self.program.meter
            assert name is not None
            packets = self.state.program.meters[name].packets
            entry.meter = RunningMeter(packets, self.state.now)
        entry.meter.configure(config)

    def set_meter(self, match: Any, config: MeterConfig | None) -> None:
        """The direct meter of an entry."""
        entry = self.existing(match)
        assert isinstance(entry, Rich)
        self.configure_meter(entry, config)
        self.table.changed(entry)

    def delete(self, match: Any) -> None:
        if self.profile is not None:
            self.profile.drop(self.existing(match).args)
        super().delete(match)

    # ----------------------------------------------------------------- reading

    def encode(self, entry: StoredEntry, asked: p4r.TableEntry = PLAIN) -> p4r.Entity:
        entity = super().encode(entry, asked)
        out = entity.table_entry
        if isinstance(entry, Rich):
            if asked.HasField("meter_config"):
                encode_meter(entry, out.meter_config)
            if asked.HasField("time_since_last_hit") and entry is not self.table.miss:
                idle = (self.state.now() - entry.ts) * 1000
                out.time_since_last_hit.elapsed_ns = idle
        return entity

    def encode_action(self, entry: StoredEntry, out: p4r.TableEntry) -> None:
        if self.profile is None:
            super().encode_action(entry, out)
        elif entry is not self.table.miss:
            encode_target(entry.args, out.action)


def encode_target(target: Member | SelectorGroup, out: p4r.TableAction) -> None:
    if isinstance(target, Member):
        out.action_profile_member_id = target.id
    elif target.one_shot is not None:
        out.action_profile_action_set.CopyFrom(target.one_shot)
    else:
        out.action_profile_group_id = target.id


def encode_meter(entry: Rich, out: p4r.MeterConfig) -> None:
    """The entry's meter, left unset if it has no configuration."""
    meter = entry.meter
    if meter is not None and meter.config is not None:
        encode_meter_config(meter.config, out)
