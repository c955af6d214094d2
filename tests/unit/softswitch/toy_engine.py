"""An engine that executes nothing: it keeps entries, and what is sent out comes back in.

It knows of the softswitch what any engine may: the protocol and the words for a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from finsy.proto import p4r, rpc_code

from orchestrator.errors import SwitchError
from orchestrator.softswitch.engine import EngineEvents
from orchestrator.softswitch.entity_errors import EntityError, WriteError


class ToyEngine:
    """`calls` are the changes of pipeline and time that the server has asked for."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self.calls: list[str] = []
        self.entries: dict[bytes, p4r.Entity] = {}
        self.acked: list[int] = []
        self.events: EngineEvents | None = None
        self.saved = b""
        self.running = b""

    @property
    def target(self) -> str:
        return "toy"

    @property
    def configured(self) -> bool:
        return bool(self.running)

    def connect(self, events: EngineEvents) -> None:
        self.events = events

    def verify(self, config: p4r.ForwardingPipelineConfig) -> None:
        if not config.p4_device_config.startswith(b"toy"):
            raise SwitchError("not a toy's program")

    def save(self, config: p4r.ForwardingPipelineConfig) -> None:
        self.verify(config)
        self.saved = config.p4_device_config
        self.calls.append("save")

    def commit(self) -> None:
        self.entries.clear()
        self.running = self.saved
        self.calls.append("commit")

    def reconcile(self) -> None:
        self.running = self.saved
        self.calls.append("reconcile")

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        admit()
        errors: list[EntityError | None] = []
        for update in updates:
            key = update.entity.table_entry.SerializeToString()
            if key in self.entries:
                errors.append(EntityError(rpc_code.ALREADY_EXISTS, "the toy has it"))
                continue
            self.entries[key] = update.entity
            errors.append(None)
        if any(errors):
            raise WriteError(errors)

    def read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        for asked in entities:
            if asked.WhichOneof("entity") != "table_entry":
                raise EntityError(rpc_code.UNIMPLEMENTED, "toys have entries only")
            yield from list(self.entries.values())

    def packet_out(self, packet: p4r.PacketOut) -> None:
        if packet.payload == b"bug":
            raise ZeroDivisionError("a fault of the toy")
        if packet.metadata:
            raise SwitchError("a toy has no metadata")
        assert self.events is not None
        self.events.packet_in(p4r.PacketIn(payload=packet.payload))

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        self.acked.append(ack.list_id)

    def tick(self) -> None:
        self.calls.append("tick")

    def drops(self) -> Mapping[str, int]:
        return {"toy_box_full": 2}
