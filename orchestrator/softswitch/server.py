"""P4Runtime over gRPC for a `SoftSwitch`, behaving as BMv2's server (p4lang/PI) does.

One thread a call (grpc's pool); a stream has a second one that reads it. The
switch's lock is held only while a decoded batch is applied.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
from finsy.proto import p4i, p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import any_pb2

from orchestrator.authority import DEFAULT_WRITERS, Authority
from orchestrator.errors import OrchestratorError, SwitchError
from orchestrator.softswitch.arbitration import (
    MAX_CONNECTIONS,
    MAX_UNDECIDED,
    Arbiter,
    Connection,
)
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.ir import MAX_CONFIG, check_size
from orchestrator.softswitch.secrecy import withheld
from orchestrator.softswitch.switch import Pipeline, SoftSwitch
from orchestrator.softswitch.verifier import Verifier

API_VERSION = "1.4.0"
CALL_THREADS = 16
"""Threads beside those that streams may take."""
TICK_S = 0.1
"""How often digests and idle timeouts are looked at; their timeouts are no finer."""
DROPS = "dropped-"
"""Trailing metadata of Capabilities: `dropped-REASON`, how much was dropped outside the pipeline."""
READ_CHUNK = 1000
"""Entities in one ReadResponse: 500,000 entries must not be one message."""
REQUEST_LIMIT = MAX_CONFIG + (16 << 20)
"""Bytes of a request: a program and its P4Info; writes come in batches far smaller."""
RESPONSE_LIMIT = 256 << 20
DETAILS_LIMIT = 6000
"""Bytes of error details below which every gRPC client accepts them."""

_CODES = {c.value[0]: c for c in grpc.StatusCode}
_STATUS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the server; with `ca`, clients must show a certificate of it.

    `writers` are the common names of those that may change the device then; all others only read.
    """

    cert: Path
    key: Path
    ca: Path | None = None
    writers: tuple[str, ...] = DEFAULT_WRITERS


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort returns")


class P4RuntimeService(p4r_grpc.P4RuntimeServicer):
    """The P4Runtime service of one device."""

    def __init__(
        self,
        switch: SoftSwitch,
        authority: Authority | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self.switch = switch
        self.authority = authority or Authority()
        self.verifier = verifier
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

    def check_writer(self, request: Any, context: grpc.ServicerContext) -> None:
        """Refuse whoever has not the right to write, or not now."""
        if refusal := self.authority.refusal(context):
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, refusal)
        self.check_primary(request, context)

    def check_primary(self, request: Any, context: grpc.ServicerContext) -> None:
        if refusal := self.arbiter.refusal(request):
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, refusal)

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
        self.check_writer(request, context)
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
            if not self.authority.may_write(context) and self.config is not None:
                entities = withheld(entities, self.config.p4info)
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
        self.check_writer(request, context)
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
        if action == kind.VERIFY:
            # Nothing changes, so nobody waits for it.
            self.verify(request.config, context)
            return p4r.SetForwardingPipelineConfigResponse()
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
            pipeline = self.prepare(request.config, context)
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

    def verify(self, config: p4r.ForwardingPipelineConfig, context: grpc.ServicerContext) -> None:
        """Whether a configuration would be taken; in a process of its own where there is one."""
        if self.verifier is None:
            self.prepare(config, context)
            return
        try:
            check_size(config.p4_device_config)
            self.verifier.check(config)
        except SwitchError as e:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(e)[:DETAILS_LIMIT])

    def prepare(
        self, config: p4r.ForwardingPipelineConfig, context: grpc.ServicerContext
    ) -> Pipeline:
        try:
            return self.switch.prepare(config)
        except OrchestratorError as e:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(e)[:DETAILS_LIMIT])

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
        connection = Connection(self.authority.refusal(context))
        self.arbiter.enter(connection)
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


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            return probe.connect_ex(path) == 0
        except OSError:  # the path is too long
            return False


class P4RuntimeServer:
    """A listening gRPC server on HOST:PORT or unix:PATH (`address`, with the real port for port 0)."""

    def __init__(
        self,
        switch: SoftSwitch,
        address: str,
        tls: TlsFiles | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        certified = tls is not None and tls.ca is not None
        authority = Authority.of(tls.writers if tls else (), certified=certified)
        self.service = P4RuntimeService(switch, authority, verifier)
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="p4runtime-tick", daemon=True)
        self.server = grpc.server(
            ThreadPoolExecutor(
                max_workers=MAX_CONNECTIONS + MAX_UNDECIDED + CALL_THREADS,
                thread_name_prefix="p4runtime",
            ),
            options=(
                ("grpc.max_receive_message_length", REQUEST_LIMIT),
                ("grpc.max_send_message_length", RESPONSE_LIMIT),
                # Two switches on one address is a mistake to report, not to share.
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", 1 << 20),
            ),
        )
        p4r_grpc.add_P4RuntimeServicer_to_server(self.service, self.server)
        self.address = self._listen(address, tls)

    def _listen(self, address: str, tls: TlsFiles | None) -> str:
        unix = address.startswith("unix:")
        host, _, rest = address.partition(":") if unix else address.rpartition(":")
        if not host or not rest:
            raise SwitchError(f"cannot listen on '{address}': HOST:PORT or unix:PATH is expected")
        if unix and _is_served(rest):
            # gRPC would unlink the socket of a running server.
            raise SwitchError(f"cannot listen on {address}: in use")
        try:
            if tls is None:
                bound = self.server.add_insecure_port(address)
            else:
                bound = self.server.add_secure_port(address, self._credentials(tls))
        except RuntimeError as e:
            why = "no folder for it, or longer than 107 bytes" if unix else "in use or not local"
            raise SwitchError(f"cannot listen on {address}: {why}") from e
        if not bound:
            raise SwitchError(f"cannot listen on '{address}': HOST:PORT or unix:PATH is expected")
        return address if unix else f"{host}:{bound}"

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
            self.service.arbiter.end_idle()

    def stop(self, grace: float = 0.5) -> None:
        """Stop listening; open streams end after `grace` seconds at most."""
        self._stopped.set()
        self.server.stop(grace).wait()
        if self._ticker.is_alive():
            self._ticker.join()

    def preload(self, program: bytes, p4info: p4i.P4Info) -> None:
        """Install a pipeline at start, as if a controller had committed it."""
        config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=program)
        self.service.install(config, self.service.switch.prepare(config))
