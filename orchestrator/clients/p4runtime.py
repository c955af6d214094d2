"""A P4Runtime client for one switch, the same for BMv2 and the softswitch."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from finsy.proto import p4i, p4r, p4r_grpc

from orchestrator.clients.calls import Calls, Pending
from orchestrator.clients.channel import TlsFiles, connection_problem, open_channel
from orchestrator.clients.encoding import canonical
from orchestrator.clients.failures import Inquiry, RefusedUpdates
from orchestrator.clients.p4info import Counted, Schema
from orchestrator.clients.writing import BATCH, MOST_DETAILS, RefusedWrite, Writable, write_all
from orchestrator.errors import MastershipLost, SwitchError
from orchestrator.model.entries import TableEntry

_MESSAGE_LIMIT = 512 << 20
"""BMv2 answers a Read with one message: about 100 bytes an entry."""
_DROPS = "dropped-"
_TARGET = "target"
_NOBODY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_ARBITRATION_SECONDS = 10.0
_CALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class InstalledEntry:
    """An entry as read back, with its direct counter (None when the table has none)."""

    graph: str
    entry: TableEntry
    packets: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class PacketIn:
    """A packet that the switch sent up, with its metadata by name."""

    payload: bytes
    metadata: dict[str, int]


class SwitchClient:
    """Primary controller of one switch while the context is open.

    `election_id` (128 bits) is the leader's, from its term; without one it comes from the clock, below
    every leader's, so the one that came last is the primary and ids of crashed runs never clash. A
    session that was primary once and is not any more never writes again, even if the switch would let
    it. `role` is the one that it is primary of (P4Runtime, 5; "": the default role, which alone loads
    pipelines). With `primary=False` it only reads: it takes no part in the election, so whoever is
    primary stays it; `listening` hears packets as well. A low `election_id` is for those who would
    rather fail than push another controller aside. `may_write` is asked before every batch and raises
    what forbids it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        device_id: int,
        *,
        tls: TlsFiles | None = None,
        primary: bool = True,
        role: str = "",
        election_id: int | None = None,
        may_write: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.device_id = device_id
        self.reads_only = not primary
        self._role = role
        self._hears = False
        self._backup_will_do = False
        self.connect_seconds = _ARBITRATION_SECONDS
        self.config_seconds = _CALL_SECONDS
        self.schema: Schema | None = None
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
            ("grpc.max_metadata_size", MOST_DETAILS),
        ]
        self.tls = tls
        self._channel = open_channel(address, tls, options)
        self._stub = p4r_grpc.P4RuntimeStub(self._channel)
        self._raw_write = self._channel.unary_unary(
            "/p4.v1.P4Runtime/Write", response_deserializer=p4r.WriteResponse.FromString
        )
        self._election = time.time_ns() if election_id is None else election_id
        self._requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
        self._packets: queue.SimpleQueue[p4r.PacketIn] = queue.SimpleQueue()
        self._primary = threading.Event()
        self._answered = threading.Event()
        self._failure = ""
        self._unreachable = False
        self._deposed = False
        self._loading = False
        self._calls = Calls(lambda why: SwitchError(f"{name}: {why}"))
        self._leads = may_write
        self.is_broken = False
        self.on_break: Callable[[], None] | None = None
        """Called, in a thread of its own, when the stream ends that was open."""

    def reading(self) -> Self:
        """This session, before it is opened, as one that only reads."""
        self.reads_only = True
        return self

    def listening(self, role: str = "") -> Self:
        """This session, before it is opened, as one that hears packets and only reads.

        It is primary of a role of its own (P4Runtime, 5), beside the controller; a certificate that may
        only listen has one role, its common name. A switch without roles (BMv2) takes it for another
        controller; then it listens if there is no other, and none is pushed aside.
        """
        self.reads_only = True
        self._hears = True
        self._role = role or f"listener-{secrets.token_hex(4)}"
        self._election = 1
        return self

    def standing_by(self, election_id: int) -> Self:
        """This session, before it is opened, as primary or as backup, whichever it comes to."""
        self._election = election_id
        self._backup_will_do = True
        return self

    @property
    def is_primary(self) -> bool:
        """Whether the switch now takes this session's writes and sends it packets."""
        return self._primary.is_set()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Become primary; SwitchError when the switch does not answer or another one stays primary."""
        if self.reads_only and not self._hears:
            self._reach()
            return
        request = p4r.StreamMessageRequest()
        if self._role:
            request.arbitration.role.name = self._role
        request.arbitration.device_id = self.device_id
        request.arbitration.election_id.CopyFrom(self._election_id())
        self._requests.put(request)
        stream = self._stub.StreamChannel(iter(self._requests.get, None))
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()
        if not self._answered.wait(_ARBITRATION_SECONDS) or self._unreachable:
            self._give_up()
        self._check_not_ended()
        if not self._primary.is_set() and not self._backup_will_do:
            failure = self._failure or "another controller is primary"  # closing writes its own
            self.close()
            raise SwitchError(f"{self.name}: {failure}")

    def _reach(self) -> None:
        """Ask for something small: without a stream nothing else would say that nobody is there.

        Any answer will do. (Watching the channel's connectivity instead leaves a traceback of gRPC's
        thread when the channel is closed meanwhile.)
        """
        try:
            method: Any = self._stub.Capabilities
            request = p4r.CapabilitiesRequest()
            self._calls.answer(method.future(request, timeout=self.connect_seconds))
        except grpc.RpcError as error:
            if error.code() in _NOBODY:  # type: ignore[attr-defined]
                self._give_up()

    def _give_up(self) -> NoReturn:
        """SwitchError that says why there is no connection."""
        failure = self._failure
        self.close()
        told = connection_problem(self.address, self.tls) or failure
        raise SwitchError(f"{self.name}: {told or f'no answer from {self.address}'}")

    def end(self, why: str) -> None:
        """Another thread knows that the switch is dead: what waits for it, or would, fails at once.

        While it loads a pipeline a switch may be silent for long: that is waited for.
        """
        if not self._loading:
            self._calls.end(why)
            self._answered.set()

    def _check_not_ended(self) -> None:
        if self._calls.ended:
            self.close()
            raise SwitchError(f"{self.name}: {self._calls.ended}")

    def close(self) -> None:
        """Give up being primary and close the connection."""
        self._requests.put(None)
        self._channel.close()

    def _listen(self, stream: Iterable[p4r.StreamMessageResponse]) -> None:
        try:
            for response in stream:
                kind = response.WhichOneof("update")
                if kind == "arbitration":
                    if response.arbitration.status.code == grpc.StatusCode.OK.value[0]:
                        self._primary.set()
                    else:
                        self._deposed = self._deposed or self._primary.is_set()
                        self._primary.clear()
                        self._failure = self._why_not(response.arbitration)
                    self._answered.set()
                elif kind == "packet":
                    self._packets.put(response.packet)
        except grpc.RpcError as error:
            self._failure = f"{self.address}: {error.details()}"  # type: ignore[attr-defined]
            self._unreachable = error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
            self._deposed = self._deposed or self._primary.is_set()
            self._primary.clear()
            self._answered.set()
        self.is_broken = True
        if self.on_break is not None:
            self.on_break()

    def _why_not(self, arbitration: p4r.MasterArbitrationUpdate) -> str:
        """Why this session is not primary of its role."""
        told = f"another controller is primary (the switch says: {arbitration.status.message})"
        if arbitration.role.name != self._role:
            return f"{told}, and this switch knows no roles, so only that one hears packets"
        return told

    def _election_id(self) -> p4r.Uint128:
        return p4r.Uint128(high=self._election >> 64, low=self._election & ((1 << 64) - 1))

    def _packet_in(self, packet: p4r.PacketIn) -> PacketIn:
        names = self._metadata("packet_in")
        values = {
            names.get(m.metadata_id, str(m.metadata_id)): int.from_bytes(m.value, "big")
            for m in packet.metadata
        }
        return PacketIn(packet.payload, values)

    def _metadata(self, header: str) -> dict[int, str]:
        """Fields of a controller header of the pipeline, by number; empty where nothing is known."""
        if self.schema is None:
            return {}
        return {
            metadata.id: metadata.name
            for declared in self.schema.p4info.controller_packet_metadata
            if declared.preamble.name == header
            for metadata in declared.metadata
        }

    # -- pipeline ------------------------------------------------------------------------------

    def use(self, p4info: p4i.P4Info) -> None:
        """Speak the names of this P4Info."""
        self.schema = Schema.of(p4info)

    def drops(self) -> dict[str, int]:
        """What a softswitch has dropped outside its pipeline, by reason; others do not say."""
        return {
            key.removeprefix(_DROPS).replace("-", "_"): int(value)
            for key, value in self._told().items()
            if key.startswith(_DROPS)
        }

    def target(self) -> str:
        """The name of its target, as a softswitch tells; empty where a switch does not say."""
        return self._told().get(_TARGET, "")

    def _told(self) -> dict[str, str]:
        """What a switch says of itself beside its capabilities: P4Runtime has no field for it."""
        try:
            _, call = self._stub.Capabilities.with_call(
                p4r.CapabilitiesRequest(), timeout=self.connect_seconds
            )
        except grpc.RpcError:
            return {}  # a switch need not have this call
        return {str(key): str(value) for key, value in call.trailing_metadata() or ()}

    def pipeline_cookie(self) -> int | None:
        """Cookie of the running pipeline, None when there is none. Also loads its P4Info."""
        request = p4r.GetForwardingPipelineConfigRequest(
            device_id=self.device_id,
            response_type=p4r.GetForwardingPipelineConfigRequest.P4INFO_AND_COOKIE,
        )
        try:
            config = self._config(request)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:  # type: ignore[attr-defined]
                return None
            raise self._translate(error, "reading the pipeline") from error
        if not config.p4info.tables:
            return None
        self.use(config.p4info)
        return config.cookie.cookie

    def pipeline_config(self) -> p4r.ForwardingPipelineConfig | None:
        """P4Info, device config (empty where a switch keeps it to itself) and cookie; None: none."""
        request = p4r.GetForwardingPipelineConfigRequest(device_id=self.device_id)
        try:
            config = self._config(request)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:  # type: ignore[attr-defined]
                return None
            raise self._translate(error, "reading the pipeline") from error
        if not config.p4info.tables:
            return None
        self.use(config.p4info)
        return config

    def _config(self, request: p4r.GetForwardingPipelineConfigRequest) -> Any:
        method: Any = self._stub.GetForwardingPipelineConfig
        return self._calls.answer(method.future(request, timeout=self.config_seconds)).config

    def set_pipeline(self, p4info: p4i.P4Info, device_config: bytes, cookie: int) -> None:
        """Load and start a pipeline: every entry of the switch is gone after it."""
        self._may_write()
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=self.device_id,
            role=self._role,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
        )
        request.election_id.CopyFrom(self._election_id())
        request.config.p4info.CopyFrom(p4info)
        request.config.p4_device_config = device_config
        request.config.cookie.cookie = cookie
        self._loading = True
        try:
            self._stub.SetForwardingPipelineConfig(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:  # type: ignore[attr-defined]
                raise self._lost() from error
            raise self._translate(error, "loading the pipeline") from error
        finally:
            self._loading = False
        self.use(p4info)

    # -- entries -------------------------------------------------------------------------------

    def write(
        self,
        updates: Iterable[Writable],
        *,
        batch: int = BATCH,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write all updates in batches, several in flight; how many. A batch of 1 keeps the order.

        WriteRefused says in words which updates failed and why; those after them were not tried.
        """
        self._may_write()
        taken, refused = self._send(updates, batch, progress)
        if refused and refused[0].error.code() is grpc.StatusCode.PERMISSION_DENIED:  # type: ignore[attr-defined]
            raise self._lost() from refused[0].error
        if refused:
            inquiry = Inquiry(
                self.schema, self.read_entities, lambda few: self._send(few, len(few))[1]
            )
            failures = inquiry.failures(refused)
            if not failures:
                raise self._translate(
                    refused[0].error,
                    f"writing {len(refused[0].updates)} updates (which one failed is not told; if "
                    "any, one that inserts what was there before, or deletes what was not)",
                ) from refused[0].error
            raise RefusedUpdates(self.name, failures, self.schema) from refused[0].error
        return taken

    def _send(
        self,
        updates: Iterable[Writable],
        batch: int,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[int, list[RefusedWrite]]:
        head = p4r.WriteRequest(device_id=self.device_id, role=self._role)
        head.election_id.CopyFrom(self._election_id())
        start = head.SerializeToString()

        def send(parts: bytes | memoryview) -> Pending[p4r.WriteResponse]:
            self._may_write()
            return Pending(
                self._calls, self._raw_write.future(start + parts, timeout=_CALL_SECONDS)
            )

        return write_all(
            send,
            updates,
            batch=batch,
            progress=progress,
        )

    def _may_write(self) -> None:
        if self.reads_only:
            raise SwitchError(f"{self.name}: this session was opened for reading only")
        if self._deposed or not self._primary.is_set():
            raise self._lost()
        if self._leads is not None:
            self._leads()

    def _lost(self) -> MastershipLost:
        self._deposed = True
        return MastershipLost(
            f"{self.name}: this controller is not primary any more, so it writes nothing: "
            f"{self._failure or 'another one is'}"
        )

    def read_entities(self, *wanted: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        request = p4r.ReadRequest(device_id=self.device_id, entities=wanted)
        try:
            for response in self._read(request):
                yield from response.entities
        except grpc.RpcError as error:
            raise self._translate(error, "reading") from error

    def _read(self, request: p4r.ReadRequest) -> Iterator[p4r.ReadResponse]:
        return self._calls.stream(self._stub.Read(request, timeout=_CALL_SECONDS))

    def counted(self) -> Iterator[Counted]:
        """What all entries have counted, in one call."""
        assert self.schema is not None, "read or set the pipeline first"
        everything = p4r.Entity()
        everything.table_entry.counter_data.SetInParent()
        for entity in self.read_entities(everything):
            yield self.schema.counted(entity.table_entry)

    def entries(self, table: str = "") -> Iterator[InstalledEntry]:
        """All entries of one table or of every table, with counters."""
        assert self.schema is not None, "read or set the pipeline first"
        names = [table] if table else list(self.schema.tables)
        for name in names:
            request = p4r.ReadRequest(device_id=self.device_id)
            wanted = request.entities.add().table_entry
            wanted.table_id = self.schema.table(name).id
            wanted.counter_data.SetInParent()
            if self.schema.table(name).metered:
                wanted.meter_config.SetInParent()
            try:
                for response in self._read(request):
                    for entity in response.entities:
                        yield self._installed(entity.table_entry)
            except grpc.RpcError as error:
                raise self._translate(error, f"reading table {name}") from error

    def _installed(self, message: p4r.TableEntry) -> InstalledEntry:
        assert self.schema is not None
        graph, entry = self.schema.decode(message)
        counted = message.HasField("counter_data")
        return InstalledEntry(
            graph,
            entry,
            message.counter_data.packet_count if counted else None,
            message.counter_data.byte_count if counted else None,
        )

    # -- packets -------------------------------------------------------------------------------

    def packet_in(self, timeout_s: float) -> PacketIn | None:
        """The next packet sent up, or None after the time-out."""
        try:
            packet = (
                self._packets.get(timeout=timeout_s) if timeout_s else self._packets.get_nowait()
            )
        except queue.Empty:
            return None
        return self._packet_in(packet)

    def packet_out(self, frame: bytes, egress_port: int) -> None:
        """Have the switch send a frame out of a port. What it does not send it tells nobody."""
        self._may_write()
        request = p4r.StreamMessageRequest()
        request.packet.payload = frame
        for ident, name in self._metadata("packet_out").items():
            value = egress_port if name == "egress_port" else 0
            request.packet.metadata.add(metadata_id=ident, value=canonical(value))
        self._requests.put(request)

    # -- errors --------------------------------------------------------------------------------

    def _translate(self, error: grpc.RpcError, doing: str) -> SwitchError:
        code = error.code().name  # type: ignore[attr-defined]
        return SwitchError(f"{self.name}: {doing}: {code}: {error.details()}")  # type: ignore[attr-defined]
