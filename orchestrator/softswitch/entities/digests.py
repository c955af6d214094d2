"""Digests: their configuration as an entity; `state.digests` has the queue itself."""

from __future__ import annotations

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.base import ById, Entities, Operation, in_program
from orchestrator.softswitch.state.digests import DigestQueue
from orchestrator.softswitch.state.pipeline import PipelineState


class DigestEntities(Entities[p4r.DigestEntry, DigestQueue, p4r.DigestEntry]):
    def __init__(self, p4info: p4i.P4Info, state: PipelineState, problems: list[str]) -> None:
        learns = {d.name: d.id for d in state.program.learn_lists.values()}
        self.by_id: ById[DigestQueue] = ById("digest", (), rpc_code.NOT_FOUND)
        for info, list_id in in_program("digest", p4info.digests, learns, problems):
            queue = DigestQueue(info, p4info.type_info, state.clock, state.send_digest)
            self.by_id[queue.id] = queue
            state.digest_queues[list_id] = queue

    def decode(self, kind: int, e: p4r.DigestEntry) -> Operation:
        return self.by_id[e.digest_id].decode(kind, e)

    def chosen(self, e: p4r.DigestEntry) -> list[DigestQueue]:
        return self.by_id.chosen(e.digest_id)

    def select(self, of: DigestQueue, e: p4r.DigestEntry) -> list[p4r.DigestEntry]:
        if of.config is not None:
            return [of.config]
        if e.digest_id:
            raise of.error(rpc_code.NOT_FOUND, "it is not configured; INSERT configures it")
        return []

    def encode(self, of: DigestQueue, item: p4r.DigestEntry, e: p4r.DigestEntry) -> p4r.Entity:
        return p4r.Entity(digest_entry=item)
