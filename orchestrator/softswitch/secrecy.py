"""What clients do not see: sampling keys, which tell a sender what is watched."""

from __future__ import annotations

from collections.abc import Iterator

from finsy.proto import p4i, p4r

SAMPLING_KEYS = frozenset({"key0", "key1"})
"""An action with these parameters takes a sampling secret: who may only read sees nothing of it."""
WRITE_ONLY = "@write_only"
"""Annotates an action whose parameters nobody reads: a witness's keys are not its controller's."""


def withheld(
    entities: Iterator[p4r.Entity], p4info: p4i.P4Info, *, may_write: bool
) -> Iterator[p4r.Entity]:
    """The entities with zeros in place of what a client does not see; keys and counters stay."""
    secret = {
        action.preamble.id
        for action in p4info.actions
        if WRITE_ONLY in action.preamble.annotations
        or (not may_write and {param.name for param in action.params} >= SAMPLING_KEYS)
    }
    if not secret:
        yield from entities
    for entity in entities:
        if any(action.action_id in secret for action in _actions(entity)):
            shown = p4r.Entity()
            shown.CopyFrom(entity)
            for action in _actions(shown):
                for param in action.params if action.action_id in secret else ():
                    param.value = b"\0"
            yield shown
        else:
            yield entity


def _actions(entity: p4r.Entity) -> list[p4r.Action]:
    """Every action call in an entity."""
    if entity.HasField("action_profile_member"):
        return [entity.action_profile_member.action]
    if not entity.HasField("table_entry"):
        return []
    called = entity.table_entry.action
    several = called.action_profile_action_set.action_profile_actions
    return [called.action, *(each.action for each in several)]
