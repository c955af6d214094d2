"""All entities of a loaded pipeline: updates and reads go to the kind they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entities.action_profiles import Groups, Members
from orchestrator.softswitch.entities.base import DELETE, INSERT, MODIFY, ById, Entities, Operation
from orchestrator.softswitch.entities.counters import CounterEntities
from orchestrator.softswitch.entities.digests import DigestEntities
from orchestrator.softswitch.entities.direct_counters import DirectCounters
from orchestrator.softswitch.entities.direct_meters import DirectMeters
from orchestrator.softswitch.entities.meters import Meters
from orchestrator.softswitch.entities.registers import Registers
from orchestrator.softswitch.entities.replication import ReplicationEntities
from orchestrator.softswitch.entities.tables import TableEntities
from orchestrator.softswitch.entities.value_sets import ValueSets
from orchestrator.softswitch.entity_errors import EntityError
from orchestrator.softswitch.ir import MAX_BITS
from orchestrator.softswitch.state.pipeline import PipelineState


class EntityStore:
    """Raises SwitchError when P4Info is not that of the pipeline's program."""

    def __init__(self, state: PipelineState, p4info: p4i.P4Info) -> None:
        _check_widths(p4info)
        problems: list[str] = []
        self.profiles = ById(
            "action profile",
            (state.profile_store(info) for info in p4info.action_profiles),
        )
        self.tables = TableEntities(p4info, state, self.profiles, problems)
        self.meters = Meters(p4info, state.meters, problems)
        self.value_sets = ValueSets(p4info, state.value_sets, problems)
        digests = DigestEntities(p4info, state, problems)
        self.digests = digests.by_id
        counters = CounterEntities(p4info, state.counters, problems)
        self.registers = Registers(p4info, state.registers, state.program, problems)
        has_tables = bool(self.tables.by_id)
        if problems and not (has_tables and all(p.startswith("table ") for p in problems)):
            raise SwitchError(
                "P4Info does not belong to the BMv2 JSON:\n  " + "\n  ".join(problems)
            )
        self.ages = any(t.ages for t in self.tables.by_id.values())
        self.kinds: dict[str, Entities[Any, Any, Any]] = {
            "table_entry": self.tables,
            "counter_entry": counters,
            "direct_counter_entry": DirectCounters(self.tables.by_id),
            "meter_entry": self.meters,
            "direct_meter_entry": DirectMeters(self.tables.by_id),
            "register_entry": self.registers,
            "action_profile_member": Members(self.profiles, self.tables.users()),
            "action_profile_group": Groups(self.profiles),
            "packet_replication_engine_entry": ReplicationEntities(
                state.groups, state.clone_sessions
            ),
            "value_set_entry": self.value_sets,
            "digest_entry": digests,
        }

    def decode(self, update: p4r.Update) -> Operation:
        """Check an update; the operation applies it under the lock."""
        kind = update.entity.WhichOneof("entity")
        if kind == "table_entry":  # checks the type itself: the default entry has only MODIFY
            return self.tables.decode(update.type, update.entity.table_entry)
        if update.type not in (INSERT, MODIFY, DELETE):
            raise EntityError(
                rpc_code.INVALID_ARGUMENT,
                "update type is not set (valid: INSERT, MODIFY, DELETE)",
            )
        if kind is None:
            raise EntityError(rpc_code.INVALID_ARGUMENT, "update has no entity")
        if kind not in self.kinds:
            raise EntityError(
                rpc_code.UNIMPLEMENTED, f"writes of {kind} are not implemented by softswitch"
            )
        return self.kinds[kind].decode(update.type, getattr(update.entity, kind))

    def decoded(self, updates: Iterable[p4r.Update]) -> list[Operation | EntityError]:
        """What applies each update, or what is wrong with it; nothing is changed."""
        out: list[Operation | EntityError] = []
        for update in updates:
            try:
                out.append(self.decode(update))
            except EntityError as error:
                out.append(error)
        return out

    def apply(self, operations: Iterable[Operation | EntityError]) -> list[EntityError | None]:
        """Apply what was decoded, each on its own, and publish it; under the lock. What was refused."""
        errors: list[EntityError | None] = []
        for operation in operations:
            if isinstance(operation, EntityError):
                errors.append(operation)
                continue
            try:
                operation[0](*operation[1])
                errors.append(None)
            except EntityError as error:
                errors.append(error)
        self.commit()
        return errors

    def commit(self) -> None:
        """Publish what a batch changed; under the lock, once a batch."""
        self.tables.commit()

    def read(self, entity: p4r.Entity) -> Iterator[p4r.Entity]:
        """All entities that a read request's entity selects; to be called under the lock."""
        kind = entity.WhichOneof("entity")
        if kind is None:
            raise EntityError(rpc_code.INVALID_ARGUMENT, "read request has an empty entity")
        if kind not in self.kinds:
            raise EntityError(
                rpc_code.UNIMPLEMENTED, f"reads of {kind} are not implemented by softswitch"
            )
        return self.kinds[kind].read(getattr(entity, kind))

    def timed_out(self, now: int) -> list[p4r.TableEntry]:
        """Entries whose idle timeout has passed and of which nobody was told yet."""
        return list(self.tables.timed_out(now))

    def snapshot(self) -> Iterator[p4r.Update]:
        """Updates that bring a store without entries to this one's state, in a valid order."""
        tables = self.tables.by_id.values()
        inserted = [
            p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
            p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
        ]
        for table in tables:
            if table.immutable:
                continue
            asked = p4r.TableEntry(table_id=table.id)
            if table.counter_id:
                asked.counter_data.SetInParent()
            if table.meter_id:
                asked.meter_config.SetInParent()
            inserted.append(p4r.Entity(table_entry=asked))
        for replicated in (
            p4r.PacketReplicationEngineEntry(multicast_group_entry=p4r.MulticastGroupEntry()),
            p4r.PacketReplicationEngineEntry(clone_session_entry=p4r.CloneSessionEntry()),
        ):
            inserted.append(p4r.Entity(packet_replication_engine_entry=replicated))
        inserted.append(p4r.Entity(digest_entry=p4r.DigestEntry()))
        yield from self._updates(INSERT, inserted)
        for table in tables:
            miss = table.table.miss
            if table.const_default or table.profile is not None:
                continue
            if (miss.a, miss.args) != table.default or miss.extra is not None:
                yield p4r.Update(type=MODIFY, entity=table.encode(miss))
        modified: list[p4r.Entity] = []
        for meter in self.meters.by_id.values():
            for index in meter.cells.cells:
                cell = p4r.MeterEntry(meter_id=meter.id, index=p4r.Index(index=index))
                modified.append(p4r.Entity(meter_entry=cell))
        for ident in self.value_sets.by_id:
            modified.append(p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=ident)))
        for ident in self.registers.by_id:
            modified.append(p4r.Entity(register_entry=p4r.RegisterEntry(register_id=ident)))
        yield from self._updates(MODIFY, modified)

    def _updates(
        self, kind: p4r.Update.Type.ValueType, asked: list[p4r.Entity]
    ) -> Iterator[p4r.Update]:
        for entity in asked:
            for read_entity in self.read(entity):
                yield p4r.Update(type=kind, entity=read_entity)


def _check_widths(p4info: p4i.P4Info) -> None:
    """P4Info comes with the program, from whom that comes: no width in it is believed either."""
    groups = [
        ("controller header", h.preamble.name, h.metadata)
        for h in p4info.controller_packet_metadata
    ]
    groups += [("action", a.preamble.name, a.params) for a in p4info.actions]
    groups += [("value set", v.preamble.name, v.match) for v in p4info.value_sets]
    for kind, name, fields in groups:
        for field in fields:
            if not 1 <= field.bitwidth <= MAX_BITS:
                raise SwitchError(
                    f"P4Info: {kind} {name}: width {field.bitwidth} of '{field.name}' is out of "
                    f"range (1 to {MAX_BITS})"
                )
