"""What a switch returned, in the form in which we write it: equal entities are equal bytes.

Switches answer with fields in another order, longer byte strings, or counters; replicas of a group
have no order at all.
"""

from __future__ import annotations

from finsy.proto import p4r


def identify(entity: p4r.Entity) -> tuple[bytes, bytes]:
    """(identity, serialised Entity) of what a switch returned; the message is changed.

    Both are those of `Schema.identified` for the same entry. Of what can be modified, counters and
    meters' counters are no part of the state that is asked for.
    """
    kind = entity.WhichOneof("entity")
    if kind == "table_entry":
        entry = entity.table_entry
        _canonical_entry(entry)
        key = p4r.TableEntry(
            table_id=entry.table_id,
            match=entry.match,
            priority=entry.priority,
            is_default_action=entry.is_default_action,
        )
        return _bytes(key), _bytes(entity)
    if kind == "packet_replication_engine_entry":
        replication = entity.packet_replication_engine_entry
        copy = p4r.PacketReplicationEngineEntry()
        if replication.HasField("multicast_group_entry"):
            group = replication.multicast_group_entry
            _canonical_replicas(group)
            copy.multicast_group_entry.multicast_group_id = group.multicast_group_id
        else:
            session = replication.clone_session_entry
            _canonical_replicas(session)
            copy.clone_session_entry.session_id = session.session_id
        return _bytes(p4r.Entity(packet_replication_engine_entry=copy)), _bytes(entity)
    raise ValueError(f"entities of kind {kind} are not compared")


def _bytes(message: p4r.Entity | p4r.TableEntry) -> bytes:
    return message.SerializeToString(deterministic=True)


def _canonical_entry(entry: p4r.TableEntry) -> None:
    entry.ClearField("counter_data")
    entry.ClearField("meter_counter_data")
    entry.ClearField("time_since_last_hit")
    entry.ClearField("is_const")
    ids = [match.field_id for match in entry.match]
    if ids != sorted(ids):
        entry.match.sort(key=lambda match: match.field_id)
    for match in entry.match:
        kind = match.WhichOneof("field_match_type")
        if kind == "exact":
            match.exact.value = _shortest(match.exact.value)
        elif kind == "lpm":
            match.lpm.value = _shortest(match.lpm.value)
        elif kind == "ternary":
            match.ternary.value = _shortest(match.ternary.value)
            match.ternary.mask = _shortest(match.ternary.mask)
        elif kind == "range":
            match.range.low = _shortest(match.range.low)
            match.range.high = _shortest(match.range.high)
        elif kind == "optional":
            match.optional.value = _shortest(match.optional.value)
    params = entry.action.action.params if entry.action.HasField("action") else ()
    for param in params:
        param.value = _shortest(param.value)


def _canonical_replicas(entry: p4r.MulticastGroupEntry | p4r.CloneSessionEntry) -> None:
    """Ports by number, and in order: a switch may name them either way (P4Runtime, 9.5)."""
    for replica in entry.replicas:
        if replica.WhichOneof("port_kind") == "port":
            # BMv2 knows only the older of the two ways to name a port, so that is what we write.
            replica.egress_port = int.from_bytes(replica.port, "big")  # pyright: ignore[reportDeprecated]
    entry.replicas.sort(key=lambda replica: (replica.instance, replica.egress_port))  # pyright: ignore[reportDeprecated]


def _shortest(value: bytes) -> bytes:
    """P4Runtime's canonical byte string (8.4)."""
    return value.lstrip(b"\0") or b"\0" if value[:1] == b"\0" else value
