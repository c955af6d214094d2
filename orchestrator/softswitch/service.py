"""The P4Runtime service of one device, behaving as BMv2's server (p4lang/PI) does.

One thread a call (grpc's pool); a stream has a second one that reads it. What executes packets is
an `Engine`, of which no more is known than its protocol.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from finsy.proto import p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import any_pb2

from orchestrator.errors import ReportedError, SwitchError
from orchestrator.softswitch.arbitration import Arbiter, ControllerStream
from orchestrator.softswitch.engine import Engine
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.secrecy import withheld
from servernf.host.authority import Authority

API_VERSION = "1.4.0"
DROPS = "dropped-"
"""Trailing metadata of Capabilities: `dropped-REASON`, how much was dropped outside the pipeline."""
READ_CHUNK = 1000
"""Entities in one ReadResponse: 500,000 entries must not be one message."""
DETAILS_LIMIT = 6000
"""Bytes of error details below which every gRPC client accepts them."""

_CODES = {c.value[0]: c for c in grpc.StatusCode}
_STATUS_KEY = "grpc-status-details-bin"
_LOG = logging.getLogger(__name__)


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort returns")


class P4RuntimeService(p4r_grpc.P4RuntimeServicer):
    """The P4Runtime service of one device."""

    def __init__(self, engine: Engine, authority: Authority | None = None) -> None:
        self.engine = engine
        self.authority = authority or Authority()
        self.arbiter = Arbiter(engine.device_id)
        self.config: p4r.ForwardingPipelineConfig | None = None
        self.saved: p4r.ForwardingPipelineConfig | None = None
        self.config_lock = threading.Lock()
        self.stream_faults = 0
        """Streams that ended by a fault of this server."""
        engine.connect(self)

    def packet_in(self, packet: p4r.PacketIn) -> None:
        self.arbiter.to_primaries(p4r.StreamMessageResponse(packet=packet))

    def digest(self, digest: p4r.DigestList) -> None:
        self.arbiter.to_primaries(p4r.StreamMessageResponse(digest=digest))

    def idle_timeout(self, notification: p4r.IdleTimeoutNotification) -> None:
        self.arbiter.to_primaries(p4r.StreamMessageResponse(idle_timeout_notification=notification))

    def check_device(self, request: Any, context: grpc.ServicerContext) -> None:
        if request.device_id != self.engine.device_id:
            _refuse(
                context,
                grpc.StatusCode.NOT_FOUND,
                f"device {request.device_id} is not here; this is device {self.engine.device_id}",
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
        if not self.engine.configured:
            _refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"No forwarding pipeline config set for device {self.engine.device_id}",
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
            self.engine.write(request.updates, lambda: self.check_primary(request, context))
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
            entities = self.engine.read(request.entities)
            if self.config is not None:
                may_write = self.authority.may_write(context)
                entities = withheld(entities, self.config.p4info, may_write=may_write)
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
            self.refusing(self.engine.verify, request.config, context)
            return p4r.SetForwardingPipelineConfigResponse()
        with self.config_lock:
            if action == kind.COMMIT:
                if self.saved is None:
                    _refuse(
                        context,
                        grpc.StatusCode.FAILED_PRECONDITION,
                        "COMMIT needs a config saved before with VERIFY_AND_SAVE",
                    )
                self.commit(self.saved)
                return p4r.SetForwardingPipelineConfigResponse()
            self.refusing(self.engine.save, request.config, context)
            if action == kind.VERIFY_AND_SAVE:
                self.saved = request.config
            elif action == kind.VERIFY_AND_COMMIT:
                self.saved = None
                self.check_primary(request, context)  # verifying took its time
                self.commit(request.config)
            elif action == kind.RECONCILE_AND_COMMIT:
                self.saved = None
                self.refusing(lambda config: self.engine.reconcile(), request.config, context)
                self.remember(request.config)
        return p4r.SetForwardingPipelineConfigResponse()

    def refusing(
        self,
        call: Callable[[p4r.ForwardingPipelineConfig], None],
        config: p4r.ForwardingPipelineConfig,
        context: grpc.ServicerContext,
    ) -> None:
        """Have the engine do something with a configuration; what is wrong with that is the answer."""
        try:
            call(config)
        except ReportedError as e:
            _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(e)[:DETAILS_LIMIT])

    def commit(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Put in force what the engine has saved, which is `config`."""
        self.saved = None
        self.engine.commit()
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
        # P4Runtime has no field for what a device is, nor for what it loses outside its pipeline;
        # metadata harms nobody.
        drops = self.drops().items()
        context.set_trailing_metadata(
            (
                ("target", self.engine.target),
                *((f"{DROPS}{reason.replace('_', '-')}", str(n)) for reason, n in drops),
            )
        )
        return p4r.CapabilitiesResponse(p4runtime_api_version=API_VERSION)

    def drops(self) -> dict[str, int]:
        """Frames and stream messages dropped so far beside the pipeline, by reason."""
        counts = dict(self.engine.drops())
        counts["stream_without_primary"] = self.arbiter.dropped
        counts["stream_queue_full"] = self.arbiter.overflowed
        counts["stream_fault"] = self.stream_faults
        return {reason: n for reason, n in counts.items() if n}

    # ------------------------------------------------------------------ stream

    def StreamChannel(
        self,
        request_iterator: Iterator[p4r.StreamMessageRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[p4r.StreamMessageResponse]:
        connection = ControllerStream(
            self.authority.refusal(context), self.authority.listening_role(context)
        )
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
        self, requests: Iterator[p4r.StreamMessageRequest], connection: ControllerStream
    ) -> None:
        try:
            for request in requests:
                self.stream_request(request, connection)
        except EntityError as e:
            connection.failure = (_CODES[e.code], e.message)
        except grpc.RpcError as e:
            # The client has gone: its stream ends without a last word.
            _LOG.debug("stream %s: %s", connection.ident, e)
        except Exception:
            self.stream_faults += 1
            _LOG.exception("stream %s ends", connection.ident)
            connection.failure = (grpc.StatusCode.INTERNAL, "fault of the server; see its log")
        connection.queue.put(None)

    def stream_request(
        self, request: p4r.StreamMessageRequest, connection: ControllerStream
    ) -> None:
        which = request.WhichOneof("update")
        if which == "arbitration":
            if request.arbitration.device_id != self.engine.device_id:
                code = (
                    rpc_code.NOT_FOUND
                    if connection.election_id is None
                    else rpc_code.FAILED_PRECONDITION
                )
                raise EntityError(
                    code,
                    f"device {request.arbitration.device_id} is not here; "
                    f"this is device {self.engine.device_id}",
                )
            self.arbiter.arbitrate(connection, request.arbitration)
        elif which is None or self.arbiter.primary(connection.role) is not connection:
            return
        elif connection.refusal:
            error = p4r.StreamError(
                canonical_code=rpc_code.PERMISSION_DENIED, message=connection.refusal
            )
            _name_request(error, request)
            connection.send(p4r.StreamMessageResponse(error=error))
        elif which == "packet":
            self.packet_out(request, connection)
        elif which == "digest_ack":
            self.engine.ack_digest(request.digest_ack)

    def packet_out(self, request: p4r.StreamMessageRequest, connection: ControllerStream) -> None:
        try:
            self.engine.packet_out(request.packet)
        except SwitchError as e:
            error = p4r.StreamError(canonical_code=rpc_code.INVALID_ARGUMENT, message=str(e))
            _name_request(error, request)
            connection.send(p4r.StreamMessageResponse(error=error))


def _name_request(error: p4r.StreamError, request: p4r.StreamMessageRequest) -> None:
    """Say which message a stream error is of (P4Runtime, stream error reporting)."""
    if request.HasField("packet"):
        error.packet_out.packet_out.CopyFrom(request.packet)
    elif request.HasField("digest_ack"):
        error.digest_list_ack.digest_list_ack.CopyFrom(request.digest_ack)


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
