"""P4Runtime over gRPC for a `SoftSwitch`, behaving as BMv2's server (p4lang/PI) does.

One thread a call (grpc's pool); a stream has a second one that reads it. The
switch's lock is held only while a decoded batch is applied.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
from finsy.proto import p4i, p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import any_pb2

from orchestrator.errors import OrchestratorError, SwitchError
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.switch import Pipeline, SoftSwitch

API_VERSION = "1.4.0"
MAX_CONNECTIONS = 16
TICK_S = 0.1
"""How often digests and idle timeouts are looked at; their timeouts are no finer."""
DROPS = "dropped-"
"""Trailing metadata of Capabilities: `dropped-REASON`, how much was dropped outside the pipeline."""
MAX_QUEUED = 8192
"""Stream messages queued for one controller; more (it does not read) are dropped."""
READ_CHUNK = 1000
"""Entities in one ReadResponse: 500,000 entries must not be one message."""
MESSAGE_LIMIT = 256 << 20
DETAILS_LIMIT = 6000
"""Bytes of error details below which every gRPC client accepts them."""

_CODES = {c.value[0]: c for c in grpc.StatusCode}
_STATUS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server; with `ca`, clients must show a certificate of it."""

    cert: Path
    key: Path
    ca: Path | None = None


class Connection:
    """A controller's stream; `queue` feeds the thread that writes it, None ends it."""

    __slots__ = ("election_id", "failure", "ident", "queue", "role")

    _idents = itertools.count(1)

    def __init__(self) -> None:
        self.ident = next(self._idents)
        self.election_id: int | None = None
        self.role = ""
        self.queue: queue.SimpleQueue[p4r.StreamMessageResponse | None] = queue.SimpleQueue()
        self.failure: tuple[grpc.StatusCode, str] | None = None

    def send(self, message: p4r.StreamMessageResponse) -> bool:
        """Queue a message; False when the controller does not read and it is dropped."""
        if self.queue.qsize() >= MAX_QUEUED:
            return False
        self.queue.put(message)
        return True


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort returns")


class Arbiter:
    """Who is primary of each role: the stream with the highest election id (P4Runtime, 5).

    The empty role is the default one, with access to everything. Other roles
    may write and read everything too, but not set the pipeline; what they
    should leave alone is for controllers to agree on.
    """

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self.connections: list[Connection] = []
        self.lock = threading.Lock()
        self.dropped = 0
        """Stream messages for no primary."""
        self.overflowed = 0
        """Stream messages that a primary did not read in time."""

    def of_role(self, role: str) -> list[Connection]:
        """The role's streams, the primary first."""
        return [c for c in self.connections if c.role == role]

    def primary(self, role: str = "") -> Connection | None:
        return next((c for c in self.connections if c.role == role), None)

    def allows(self, request: Any) -> bool:
        """May this write through? Without any stream, only requests without an election id."""
        with self.lock:
            primary = self.primary(request.role)
            if primary is None:
                # Without any stream, requests without an election id or a role pass (as PI).
                return (
                    not request.HasField("election_id")
                    and not request.role
                    and not self.connections
                )
            wanted = request.election_id.high << 64 | request.election_id.low
            return primary.election_id == wanted

    def arbitrate(self, connection: Connection, m: p4r.MasterArbitrationUpdate) -> None:
        """Take a stream's election id in; tells the streams that need to know."""
        role = m.role.name
        election_id = m.election_id.high << 64 | m.election_id.low
        with self.lock:
            known = connection in self.connections
            if known and connection.role != role:
                raise EntityError(
                    rpc_code.FAILED_PRECONDITION,
                    f"this stream has role '{connection.role}' and cannot change to '{role}'; "
                    "open another stream",
                )
            if known and connection.election_id == election_id:
                self.notify(connection)
                return
            if any(
                c is not connection and c.election_id == election_id for c in self.of_role(role)
            ):
                raise EntityError(
                    rpc_code.INVALID_ARGUMENT,
                    f"election id {election_id} is in use by another controller of device "
                    f"{self.device_id}; choose another",
                )
            if not known and len(self.connections) >= MAX_CONNECTIONS:
                raise EntityError(
                    rpc_code.RESOURCE_EXHAUSTED,
                    f"{MAX_CONNECTIONS} controllers are connected, no more are accepted",
                )
            was_primary = known and self.primary(role) is connection
            if not known:
                connection.role = role
                self.connections.append(connection)
            connection.election_id = election_id
            self.connections.sort(key=lambda c: -(c.election_id or 0))
            if (self.primary(role) is connection) != was_primary:
                for c in self.of_role(role):
                    self.notify(c)
            else:
                self.notify(connection)

    def leave(self, connection: Connection) -> None:
        with self.lock:
            if connection not in self.connections:
                return
            was_primary = self.primary(connection.role) is connection
            self.connections.remove(connection)
            if was_primary:
                for c in self.of_role(connection.role):
                    self.notify(c)

    def notify(self, connection: Connection) -> None:
        primary = self.primary(connection.role)
        assert primary is not None
        assert primary.election_id is not None
        update = p4r.MasterArbitrationUpdate(device_id=self.device_id)
        if connection.role:
            update.role.name = connection.role
        update.election_id.high = primary.election_id >> 64
        update.election_id.low = primary.election_id & 0xFFFFFFFFFFFFFFFF
        if connection is primary:
            update.status.code = rpc_code.OK
            update.status.message = "Is primary"
        else:
            update.status.code = rpc_code.ALREADY_EXISTS
            update.status.message = "Is backup"
        connection.send(p4r.StreamMessageResponse(arbitration=update))

    def to_primary(self, message: p4r.StreamMessageResponse) -> None:
        with self.lock:
            roles = {c.role for c in self.connections}
            primaries = [p for role in roles if (p := self.primary(role)) is not None]
        if not primaries:
            self.dropped += 1
        for primary in primaries:
            if not primary.send(message):
                self.overflowed += 1


class P4RuntimeService(p4r_grpc.P4RuntimeServicer):
    """The P4Runtime service of one device."""

    def __init__(self, switch: SoftSwitch) -> None:
        self.switch = switch
        self.arbiter = Arbiter(switch.device_id)
        self.port_drops: Callable[[], Mapping[str, int]] = dict
        """What the ports' sockets have dropped, by reason."""
        self.config: p4r.ForwardingPipelineConfig | None = None
        self.saved: tuple[p4r.ForwardingPipelineConfig, Pipeline] | None = None
        self.config_lock = threading.Lock()
        switch.on_packet_in = self.packet_in
        switch.on_digest = self.digest
        switch.on_idle_timeout = self.idle_timeout

    def packet_in(self, packet: p4r.PacketIn) -> None:
        self.arbiter.to_primary(p4r.StreamMessageResponse(packet=packet))

    def digest(self, digest: p4r.DigestList) -> None:
        self.arbiter.to_primary(p4r.StreamMessageResponse(digest=digest))

    def idle_timeout(self, notification: p4r.IdleTimeoutNotification) -> None:
        self.arbiter.to_primary(p4r.StreamMessageResponse(idle_timeout_notification=notification))

    def check_device(self, request: Any, context: grpc.ServicerContext) -> None:
        if request.device_id != self.switch.device_id:
            _refuse(
                context,
                grpc.StatusCode.NOT_FOUND,
                f"device {request.device_id} is not here; this is device {self.switch.device_id}",
            )

    def check_primary(self, request: Any, context: grpc.ServicerContext) -> None:
        if not self.arbiter.allows(request):
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "Not primary")

    def check_config(self, context: grpc.ServicerContext) -> None:
        if self.switch.pipeline is None:
            _refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"No forwarding pipeline config set for device {self.switch.device_id}",
            )

    # ---------------------------------------------------------- write and read

    def Write(self, request: p4r.WriteRequest, context: grpc.ServicerContext) -> p4r.WriteResponse:
        self.check_device(request, context)
        self.check_primary(request, context)
        self.check_config(context)
        if request.atomicity != p4r.WriteRequest.CONTINUE_ON_ERROR:
            name = p4r.WriteRequest.Atomicity.Name(request.atomicity)
            _refuse(
                context,
                grpc.StatusCode.UNIMPLEMENTED,
                f"atomicity {name} is not implemented (valid: CONTINUE_ON_ERROR)",
            )
        try:
            # Once more, when it is its turn: a later primary may have read the tables by then.
            self.switch.write(request.updates, lambda: self.check_primary(request, context))
        except WriteError as e:
            status = write_status(e)
            context.set_trailing_metadata(((_STATUS_KEY, status.SerializeToString()),))
            _refuse(context, grpc.StatusCode.UNKNOWN, status.message)
        except SwitchError as e:
            _refuse(context, grpc.StatusCode.ABORTED, str(e))
        return p4r.WriteResponse()

    def Read(
        self, request: p4r.ReadRequest, context: grpc.ServicerContext
    ) -> Iterator[p4r.ReadResponse]:
        self.check_device(request, context)
        self.check_config(context)
        try:
            entities = self.switch.read(*request.entities)
            while True:
                chunk = list(itertools.islice(entities, READ_CHUNK))
                if not chunk:
                    break
                yield p4r.ReadResponse(entities=chunk)
        except EntityError as e:
            _refuse(context, _CODES[e.code], e.message)

    # ---------------------------------------------------------------- pipeline

    def SetForwardingPipelineConfig(
        self, request: p4r.SetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.SetForwardingPipelineConfigResponse:
        self.check_device(request, context)
        self.check_primary(request, context)
        kind = p4r.SetForwardingPipelineConfigRequest
        action = request.action
        if action == kind.UNSPECIFIED:
            _refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "action is not set (valid: VERIFY, VERIFY_AND_SAVE, VERIFY_AND_COMMIT, COMMIT, "
                "RECONCILE_AND_COMMIT)",
            )
        if request.role:
            _refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"role '{request.role}' cannot set the pipeline; only the default role can",
            )
        with self.config_lock:
            if action == kind.COMMIT:
                if self.saved is None:
                    _refuse(
                        context,
                        grpc.StatusCode.FAILED_PRECONDITION,
                        "COMMIT needs a config saved before with VERIFY_AND_SAVE",
                    )
                config, pipeline = self.saved
                self.saved = None
                self.install(config, pipeline)
                return p4r.SetForwardingPipelineConfigResponse()
            pipeline = self.verify(request.config, context)
            if action == kind.VERIFY_AND_SAVE:
                self.saved = (request.config, pipeline)
            elif action == kind.VERIFY_AND_COMMIT:
                self.saved = None
                self.check_primary(request, context)  # verifying took its time
                self.install(request.config, pipeline)
            elif action == kind.RECONCILE_AND_COMMIT:
                self.saved = None
                try:
                    self.switch.reconcile(pipeline, request.config.p4info)
                except SwitchError as e:
                    _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(e))
                self.remember(request.config)
        return p4r.SetForwardingPipelineConfigResponse()

    def verify(
        self, config: p4r.ForwardingPipelineConfig, context: grpc.ServicerContext
    ) -> Pipeline:
        try:
            program = json.loads(config.p4_device_config)
        except ValueError as e:
            _refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"p4_device_config is not JSON of p4c-bm2-ss: {e}",
            )
        try:
            pipeline = self.switch.build(program)
            # Only to see that the two belong together; installing makes its own.
            self.switch.entity_store(pipeline, config.p4info)
            return pipeline
        except OrchestratorError as e:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(e))
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as e:
            _refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"p4_device_config is malformed BMv2 JSON: {type(e).__name__}: {e}",
            )

    def install(self, config: p4r.ForwardingPipelineConfig, pipeline: Pipeline) -> None:
        self.switch.install(pipeline, config.p4info)
        self.remember(config)

    def remember(self, config: p4r.ForwardingPipelineConfig) -> None:
        kept = p4r.ForwardingPipelineConfig()
        kept.CopyFrom(config)
        self.config = kept

    def GetForwardingPipelineConfig(
        self, request: p4r.GetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.GetForwardingPipelineConfigResponse:
        self.check_device(request, context)
        response = p4r.GetForwardingPipelineConfigResponse()
        config = self.config
        if config is None:
            return response
        kind = p4r.GetForwardingPipelineConfigRequest
        wanted = request.response_type
        if wanted not in kind.ResponseType.values():
            _refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"response_type {wanted} is unknown (valid: {', '.join(kind.ResponseType.keys())})",
            )
        if wanted in (kind.ALL, kind.P4INFO_AND_COOKIE):
            response.config.p4info.CopyFrom(config.p4info)
        if wanted in (kind.ALL, kind.DEVICE_CONFIG_AND_COOKIE):
            response.config.p4_device_config = config.p4_device_config
        if config.HasField("cookie"):
            response.config.cookie.CopyFrom(config.cookie)
        return response

    def Capabilities(
        self, request: p4r.CapabilitiesRequest, context: grpc.ServicerContext
    ) -> p4r.CapabilitiesResponse:
        # P4Runtime has no entity for what a device loses outside its pipeline; metadata harms nobody.
        drops = self.drops().items()
        context.set_trailing_metadata(
            tuple((f"{DROPS}{reason.replace('_', '-')}", str(n)) for reason, n in drops)
        )
        return p4r.CapabilitiesResponse(p4runtime_api_version=API_VERSION)

    def drops(self) -> dict[str, int]:
        """Frames and stream messages dropped so far beside the pipeline, by reason."""
        found = dict(self.port_drops())
        found["stream_without_primary"] = self.arbiter.dropped
        found["stream_queue_full"] = self.arbiter.overflowed
        return {reason: n for reason, n in found.items() if n}

    # ------------------------------------------------------------------ stream

    def StreamChannel(
        self,
        request_iterator: Iterator[p4r.StreamMessageRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[p4r.StreamMessageResponse]:
        connection = Connection()
        reader = threading.Thread(
            target=self.read_stream,
            args=(request_iterator, connection),
            name=f"p4runtime-stream-{connection.ident}",
            daemon=True,
        )
        # A client that vanishes ends neither iterator by itself.
        context.add_callback(lambda: connection.queue.put(None))
        reader.start()
        try:
            while (message := connection.queue.get()) is not None:
                yield message
            if connection.failure is not None:
                _refuse(context, *connection.failure)
        finally:
            self.arbiter.leave(connection)

    def read_stream(
        self, requests: Iterator[p4r.StreamMessageRequest], connection: Connection
    ) -> None:
        try:
            for request in requests:
                self.stream_request(request, connection)
        except EntityError as e:
            connection.failure = (_CODES[e.code], e.message)
        except Exception:
            pass
        connection.queue.put(None)

    def stream_request(self, request: p4r.StreamMessageRequest, connection: Connection) -> None:
        which = request.WhichOneof("update")
        if which == "arbitration":
            if request.arbitration.device_id != self.switch.device_id:
                code = (
                    rpc_code.NOT_FOUND
                    if connection.election_id is None
                    else rpc_code.FAILED_PRECONDITION
                )
                raise EntityError(
                    code,
                    f"device {request.arbitration.device_id} is not here; "
                    f"this is device {self.switch.device_id}",
                )
            self.arbiter.arbitrate(connection, request.arbitration)
        elif which is None or self.arbiter.primary(connection.role) is not connection:
            return
        elif which == "packet":
            self.packet_out(request.packet, connection)
        elif which == "digest_ack":
            self.switch.ack_digest(request.digest_ack)

    def packet_out(self, packet: p4r.PacketOut, connection: Connection) -> None:
        switch = self.switch
        try:
            with switch.locked():
                frames = switch.packet_out(packet)
                if switch.transmit is not None:
                    switch.transmit(frames)
        except SwitchError as e:
            error = p4r.StreamError(
                canonical_code=rpc_code.INVALID_ARGUMENT,
                message=str(e),
                packet_out=p4r.PacketOutError(packet_out=packet),
            )
            connection.send(p4r.StreamMessageResponse(error=error))


def write_status(e: WriteError) -> rpc_status.Status:
    """google.rpc.Status with one p4.v1.Error an update, OK for those applied.

    It travels in the trailing metadata, of which gRPC clients accept 8 kB by
    default and fail without a word beyond: messages are shortened, then left
    out (codes stay), as far as that helps to stay below.
    """
    status = rpc_status.Status()
    for longest in (None, 160, 0):
        status = rpc_status.Status(code=rpc_code.UNKNOWN, message=str(e)[:2000])
        for failure in e.errors:
            detail = p4r.Error()
            if failure is not None:
                detail.canonical_code = failure.code
                detail.message = failure.message[:longest]
                detail.space = "softswitch"
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        if status.ByteSize() <= DETAILS_LIMIT:
            break
    return status


class P4RuntimeServer:
    """A listening gRPC server; `address` has the real port when 0 was asked for."""

    def __init__(self, switch: SoftSwitch, address: str, tls: TlsFiles | None = None) -> None:
        self.service = P4RuntimeService(switch)
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="p4runtime-tick", daemon=True)
        self.server = grpc.server(
            ThreadPoolExecutor(max_workers=2 * MAX_CONNECTIONS, thread_name_prefix="p4runtime"),
            options=(
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                # Two switches on one address is a mistake to report, not to share.
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", 1 << 20),
            ),
        )
        p4r_grpc.add_P4RuntimeServicer_to_server(self.service, self.server)
        host, _, port = address.rpartition(":")
        try:
            if tls is None:
                bound = self.server.add_insecure_port(address)
            else:
                bound = self.server.add_secure_port(address, self._credentials(tls))
        except RuntimeError as e:
            raise SwitchError(f"cannot listen on {address}: in use or not local") from e
        if not host or not bound:
            raise SwitchError(f"cannot listen on '{address}': HOST:PORT is expected")
        del port
        self.address = f"{host}:{bound}"

    @staticmethod
    def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
        def read(path: Path) -> bytes:
            try:
                return path.read_bytes()
            except OSError as e:
                raise SwitchError(f"TLS file {path}: {e.strerror}") from e

        pair = (read(tls.key), read(tls.cert))
        ca = None if tls.ca is None else read(tls.ca)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=ca, require_client_auth=ca is not None
        )

    def start(self) -> None:
        self.server.start()
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stopped.wait(TICK_S):
            self.service.switch.tick()

    def stop(self, grace: float = 0.5) -> None:
        """Stop listening; open streams end after `grace` seconds at most."""
        self._stopped.set()
        self.server.stop(grace).wait()
        if self._ticker.is_alive():
            self._ticker.join()

    def preload(self, program: bytes, p4info: p4i.P4Info) -> None:
        """Install a pipeline at start, as if a controller had committed it."""
        config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=program)
        try:
            pipeline = self.service.switch.build(json.loads(program))
        except ValueError as e:
            raise SwitchError(f"pipeline is not JSON of p4c-bm2-ss: {e}") from e
        self.service.install(config, pipeline)
