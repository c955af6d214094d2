"""The packet replication engine: multicast groups and clone sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from finsy.proto import p4r, rpc_code

from orchestrator.softswitch.entities.base import DELETE, INSERT, Entities, Operation
from orchestrator.softswitch.entity_errors import EntityError, listed

MAX_CLONE_SESSION = 32767
FIRST_RESERVED_GROUP = 1 << 15
"""PI keeps multicast groups from here on for clone sessions."""

Copies = tuple[tuple[int, int], ...]
"""(port, instance) of each copy."""
ReplicaEntry = p4r.MulticastGroupEntry | p4r.CloneSessionEntry


class ReplicaLists:
    """Multicast groups, or clone sessions: as written, and `live` as packets use them."""

    def __init__(self, word: str, field: str, live: dict[int, Copies]) -> None:
        self.word = word
        self.field = field
        self.live = live
        self.written: dict[int, ReplicaEntry] = {}

    def apply(self, kind: int, ident: int, e: ReplicaEntry, copies: Copies) -> None:
        what = f"{self.word} {ident}"
        if kind == INSERT and ident in self.written:
            raise EntityError(
                rpc_code.ALREADY_EXISTS, f"{what} exists; use MODIFY to change its replicas"
            )
        if kind != INSERT and ident not in self.written:
            existing = listed(map(str, sorted(self.written)))
            raise EntityError(rpc_code.NOT_FOUND, f"{what} does not exist (existing: {existing})")
        if kind == DELETE:
            del self.written[ident], self.live[ident]
        else:
            self.written[ident] = e
            self.live[ident] = copies


class ReplicationEntities(Entities[p4r.PacketReplicationEngineEntry, ReplicaLists, ReplicaEntry]):
    def __init__(self, groups: dict[int, Copies], clone_sessions: dict[int, Copies]) -> None:
        self.groups = ReplicaLists("multicast group", "multicast_group_entry", groups)
        self.clones = ReplicaLists("clone session", "clone_session_entry", clone_sessions)

    def lists(self, e: p4r.PacketReplicationEngineEntry) -> ReplicaLists:
        which = e.WhichOneof("type")
        for lists in (self.groups, self.clones):
            if lists.field == which:
                return lists
        raise EntityError(
            rpc_code.INVALID_ARGUMENT,
            "packet_replication_engine_entry is empty "
            "(valid: multicast_group_entry, clone_session_entry)",
        )

    def decode(self, kind: int, e: p4r.PacketReplicationEngineEntry) -> Operation:
        if self.lists(e) is self.groups:
            return self.decode_group(kind, e.multicast_group_entry)
        return self.decode_clone(kind, e.clone_session_entry)

    def decode_group(self, kind: int, e: p4r.MulticastGroupEntry) -> Operation:
        ident = e.multicast_group_id
        what = f"multicast group {ident}"
        if ident == 0:
            raise EntityError(rpc_code.INVALID_ARGUMENT, f"{what}: 0 is no group (valid: 1..32767)")
        if ident >= FIRST_RESERVED_GROUP:
            raise EntityError(
                rpc_code.OUT_OF_RANGE, f"{what}: the id is too high (valid: 1..32767)"
            )
        copies = () if kind == DELETE else decode_replicas(what, e.replicas)
        return self.groups.apply, (kind, ident, e, copies)

    def decode_clone(self, kind: int, e: p4r.CloneSessionEntry) -> Operation:
        ident = e.session_id
        what = f"clone session {ident}"
        if not 0 < ident <= MAX_CLONE_SESSION:
            raise EntityError(
                rpc_code.INVALID_ARGUMENT, f"{what}: the id is not in 1..{MAX_CLONE_SESSION}"
            )
        if e.class_of_service:
            raise EntityError(rpc_code.UNIMPLEMENTED, f"{what}: class_of_service must be 0")
        if e.packet_length_bytes:
            raise EntityError(
                rpc_code.UNIMPLEMENTED,
                f"{what}: packet_length_bytes must be 0 (truncation of clones is not implemented)",
            )
        copies = () if kind == DELETE else decode_replicas(what, e.replicas)
        return self.clones.apply, (kind, ident, e, copies)

    def chosen(self, e: p4r.PacketReplicationEngineEntry) -> list[ReplicaLists]:
        return [self.lists(e)]

    def select(self, of: ReplicaLists, e: p4r.PacketReplicationEngineEntry) -> list[ReplicaEntry]:
        ident = (
            e.multicast_group_entry.multicast_group_id
            if of is self.groups
            else e.clone_session_entry.session_id
        )
        return [written for i, written in of.written.items() if ident in (0, i)]

    def encode(
        self, of: ReplicaLists, item: ReplicaEntry, e: p4r.PacketReplicationEngineEntry
    ) -> p4r.Entity:
        entity = p4r.Entity()
        out: Any = getattr(entity.packet_replication_engine_entry, of.field)
        out.CopyFrom(item)
        return entity


def decode_replicas(what: str, replicas: Iterable[p4r.Replica]) -> Copies:
    """Checked replicas in BMv2's order: by instance, then by port."""
    out: list[tuple[int, int]] = []
    for r in replicas:
        which = r.WhichOneof("port_kind")
        if which is None:
            raise EntityError(rpc_code.INVALID_ARGUMENT, f"{what}: a replica has no port")
        old = r.egress_port  # pyright: ignore[reportDeprecated]
        out.append((int.from_bytes(r.port, "big") if which == "port" else old, r.instance))
    double = sorted({r for r in out if out.count(r) > 1})
    if double:
        raise EntityError(
            rpc_code.INVALID_ARGUMENT,
            f"{what}: replica (port {double[0][0]}, instance {double[0][1]}) is given twice",
        )
    return tuple(sorted(out, key=lambda r: (r[1], r[0])))
