"""A switch's pipeline with all that is on it, as bytes, and back again.

Blind spots: counters, meters' fill levels and registers start anew; multicast groups and clone sessions
are left out where a switch cannot list them (BMv2, which keeps them when a pipeline is loaded anew).
What a witness's CLE has told the switch is not looked at: its keys are not the provider's to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from finsy.proto import p4i, p4r

from orchestrator.deployment.drivers import PipelineDriver
from orchestrator.errors import SwitchError
from orchestrator.model.manifest import WITNESS_TABLES

_LENGTH = 8


def save(device: PipelineDriver) -> bytes:
    """The running pipeline and its entities; empty when the switch runs none or does not give it."""
    config = device.pipeline_config()
    if config is None or not config.p4_device_config:
        return b""
    saved = p4r.ReadResponse()
    for wanted in _kinds(config.p4info):
        with suppress(SwitchError):
            saved.entities.extend(device.read_entities(wanted))
    head = config.SerializeToString()
    return len(head).to_bytes(_LENGTH) + head + saved.SerializeToString()


def restore(device: PipelineDriver, saved: bytes) -> None:
    """Load a saved pipeline and write what was on it."""
    end = _LENGTH + int.from_bytes(saved[:_LENGTH])
    config = p4r.ForwardingPipelineConfig.FromString(saved[_LENGTH:end])
    entities = p4r.ReadResponse.FromString(saved[end:]).entities
    device.set_pipeline(config.p4info, config.p4_device_config, config.cookie.cookie)
    replicated = [e for e in entities if e.HasField("packet_replication_engine_entry")]
    for entity in replicated:
        with suppress(SwitchError):  # only a switch that keeps them beyond its pipeline has them
            device.write([p4r.Update(type=p4r.Update.DELETE, entity=entity)])
    device.write([_made(entity) for entity in replicated])
    # Members before groups before entries, each kind in a Write of its own: one may be reordered.
    for kind in ("action_profile_member", "action_profile_group", "table_entry"):
        device.write([_made(entity) for entity in entities if entity.HasField(kind)])


def _made(entity: p4r.Entity) -> p4r.Update:
    kind = p4r.Update.INSERT
    if entity.HasField("table_entry") and entity.table_entry.is_default_action:
        kind = p4r.Update.MODIFY
    return p4r.Update(type=kind, entity=entity)


def _kinds(p4info: p4i.P4Info) -> Iterator[p4r.Entity]:
    """Wildcards for all that a controller writes, in the order in which one refers to another."""
    wanted = p4r.Entity()
    engine = wanted.packet_replication_engine_entry
    engine.multicast_group_entry.SetInParent()
    yield wanted
    wanted = p4r.Entity()
    wanted.packet_replication_engine_entry.clone_session_entry.SetInParent()
    yield wanted
    for profile in p4info.action_profiles:
        yield p4r.Entity(
            action_profile_member=p4r.ActionProfileMember(action_profile_id=profile.preamble.id)
        )
    for profile in p4info.action_profiles:
        if profile.with_selector:
            yield p4r.Entity(
                action_profile_group=p4r.ActionProfileGroup(action_profile_id=profile.preamble.id)
            )
    for table in p4info.tables:
        if table.is_const_table or table.preamble.name.partition(".")[2] in WITNESS_TABLES:
            continue  # its program makes its entries
        for default in (True, False) if not table.const_default_action_id else (False,):
            entry = p4r.TableEntry(table_id=table.preamble.id, is_default_action=default)
            yield p4r.Entity(table_entry=entry)
