# Generated from vnf.proto by `python -m servernf.proto.generate`. Do not edit.
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChainingProtocolsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChainingProtocolsResponse(_message.Message):
    __slots__ = ("protocols",)
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    protocols: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocols: _Optional[_Iterable[str]] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("spi", "si", "in_port", "out_port", "flow_space")
    SPI_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    IN_PORT_FIELD_NUMBER: _ClassVar[int]
    OUT_PORT_FIELD_NUMBER: _ClassVar[int]
    FLOW_SPACE_FIELD_NUMBER: _ClassVar[int]
    spi: int
    si: int
    in_port: str
    out_port: str
    flow_space: FlowSpace
    def __init__(self, spi: _Optional[int] = ..., si: _Optional[int] = ..., in_port: _Optional[str] = ..., out_port: _Optional[str] = ..., flow_space: _Optional[_Union[FlowSpace, _Mapping]] = ...) -> None: ...

class FlowSpace(_message.Message):
    __slots__ = ("src", "dst", "protocol", "src_port", "dst_port")
    SRC_FIELD_NUMBER: _ClassVar[int]
    DST_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SRC_PORT_FIELD_NUMBER: _ClassVar[int]
    DST_PORT_FIELD_NUMBER: _ClassVar[int]
    src: str
    dst: str
    protocol: str
    src_port: str
    dst_port: str
    def __init__(self, src: _Optional[str] = ..., dst: _Optional[str] = ..., protocol: _Optional[str] = ..., src_port: _Optional[str] = ..., dst_port: _Optional[str] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("nf", "exit")
    NF_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    nf: NfHop
    exit: ExitHop
    def __init__(self, nf: _Optional[_Union[NfHop, _Mapping]] = ..., exit: _Optional[_Union[ExitHop, _Mapping]] = ...) -> None: ...

class NfHop(_message.Message):
    __slots__ = ("name", "port", "worker", "out_port", "dst_mac", "spi", "si")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    OUT_PORT_FIELD_NUMBER: _ClassVar[int]
    DST_MAC_FIELD_NUMBER: _ClassVar[int]
    SPI_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    name: str
    port: str
    worker: str
    out_port: str
    dst_mac: int
    spi: int
    si: int
    def __init__(self, name: _Optional[str] = ..., port: _Optional[str] = ..., worker: _Optional[str] = ..., out_port: _Optional[str] = ..., dst_mac: _Optional[int] = ..., spi: _Optional[int] = ..., si: _Optional[int] = ...) -> None: ...

class ExitHop(_message.Message):
    __slots__ = ("dst_mac", "spi", "si")
    DST_MAC_FIELD_NUMBER: _ClassVar[int]
    SPI_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    dst_mac: int
    spi: int
    si: int
    def __init__(self, dst_mac: _Optional[int] = ..., spi: _Optional[int] = ..., si: _Optional[int] = ...) -> None: ...

class ServiceChainRequest(_message.Message):
    __slots__ = ("nf", "scope", "next")
    NF_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    nf: str
    scope: Scope
    next: _containers.RepeatedCompositeFieldContainer[Hop]
    def __init__(self, nf: _Optional[str] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., next: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ...) -> None: ...

class ServiceChainResponse(_message.Message):
    __slots__ = ("mac", "nfs")
    MAC_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    mac: int
    nfs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mac: _Optional[int] = ..., nfs: _Optional[_Iterable[str]] = ...) -> None: ...

class StateScope(_message.Message):
    __slots__ = ("key", "of", "buckets", "inside", "outside", "without")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    INSIDE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FIELD_NUMBER: _ClassVar[int]
    key: str
    of: int
    buckets: _containers.RepeatedScalarFieldContainer[int]
    inside: str
    outside: str
    without: _containers.RepeatedCompositeFieldContainer[AddressSpace]
    def __init__(self, key: _Optional[str] = ..., of: _Optional[int] = ..., buckets: _Optional[_Iterable[int]] = ..., inside: _Optional[str] = ..., outside: _Optional[str] = ..., without: _Optional[_Iterable[_Union[AddressSpace, _Mapping]]] = ...) -> None: ...

class AddressSpace(_message.Message):
    __slots__ = ("inside", "outside")
    INSIDE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_FIELD_NUMBER: _ClassVar[int]
    inside: str
    outside: str
    def __init__(self, inside: _Optional[str] = ..., outside: _Optional[str] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("phase", "id", "destination", "nfs", "scope", "variant", "secret", "destination_name")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS: _ClassVar[TransferRequest.Phase]
        BEGIN: _ClassVar[TransferRequest.Phase]
        FINISH: _ClassVar[TransferRequest.Phase]
        ABORT: _ClassVar[TransferRequest.Phase]
        ADOPT: _ClassVar[TransferRequest.Phase]
    STATUS: TransferRequest.Phase
    BEGIN: TransferRequest.Phase
    FINISH: TransferRequest.Phase
    ABORT: TransferRequest.Phase
    ADOPT: TransferRequest.Phase
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAME_FIELD_NUMBER: _ClassVar[int]
    phase: TransferRequest.Phase
    id: str
    destination: str
    nfs: _containers.RepeatedScalarFieldContainer[str]
    scope: StateScope
    variant: str
    secret: bytes
    destination_name: str
    def __init__(self, phase: _Optional[_Union[TransferRequest.Phase, str]] = ..., id: _Optional[str] = ..., destination: _Optional[str] = ..., nfs: _Optional[_Iterable[str]] = ..., scope: _Optional[_Union[StateScope, _Mapping]] = ..., variant: _Optional[str] = ..., secret: _Optional[bytes] = ..., destination_name: _Optional[str] = ...) -> None: ...

class TransferResponse(_message.Message):
    __slots__ = ("state", "records", "bytes", "rounds", "held", "forwarded", "late", "pause_us", "markers", "marker", "waited_us")
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    PAUSE_US_FIELD_NUMBER: _ClassVar[int]
    MARKERS_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    WAITED_US_FIELD_NUMBER: _ClassVar[int]
    state: str
    records: int
    bytes: int
    rounds: int
    held: int
    forwarded: int
    late: int
    pause_us: int
    markers: int
    marker: int
    waited_us: int
    def __init__(self, state: _Optional[str] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ..., rounds: _Optional[int] = ..., held: _Optional[int] = ..., forwarded: _Optional[int] = ..., late: _Optional[int] = ..., pause_us: _Optional[int] = ..., markers: _Optional[int] = ..., marker: _Optional[int] = ..., waited_us: _Optional[int] = ...) -> None: ...

class ExpectStateRequest(_message.Message):
    __slots__ = ("id", "secret", "source", "nfs", "scope")
    ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    secret: bytes
    source: str
    nfs: _containers.RepeatedScalarFieldContainer[str]
    scope: StateScope
    def __init__(self, id: _Optional[str] = ..., secret: _Optional[bytes] = ..., source: _Optional[str] = ..., nfs: _Optional[_Iterable[str]] = ..., scope: _Optional[_Union[StateScope, _Mapping]] = ...) -> None: ...

class ExpectStateResponse(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class PushStateRequest(_message.Message):
    __slots__ = ("id", "open", "chunk", "release", "late", "pull", "follow", "delta", "secret")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    id: str
    open: OpenTransfer
    chunk: StateChunk
    release: Release
    late: PulledFrames
    pull: int
    follow: OpenTransfer
    delta: StateDelta
    secret: bytes
    def __init__(self, id: _Optional[str] = ..., open: _Optional[_Union[OpenTransfer, _Mapping]] = ..., chunk: _Optional[_Union[StateChunk, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., late: _Optional[_Union[PulledFrames, _Mapping]] = ..., pull: _Optional[int] = ..., follow: _Optional[_Union[OpenTransfer, _Mapping]] = ..., delta: _Optional[_Union[StateDelta, _Mapping]] = ..., secret: _Optional[bytes] = ...) -> None: ...

class StateDelta(_message.Message):
    __slots__ = ("nfs",)
    NFS_FIELD_NUMBER: _ClassVar[int]
    nfs: _containers.RepeatedCompositeFieldContainer[NfDelta]
    def __init__(self, nfs: _Optional[_Iterable[_Union[NfDelta, _Mapping]]] = ...) -> None: ...

class NfDelta(_message.Message):
    __slots__ = ("nf", "batches", "gone", "groups")
    NF_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    nf: str
    batches: _containers.RepeatedScalarFieldContainer[bytes]
    gone: _containers.RepeatedCompositeFieldContainer[GoneRecords]
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nf: _Optional[str] = ..., batches: _Optional[_Iterable[bytes]] = ..., gone: _Optional[_Iterable[_Union[GoneRecords, _Mapping]]] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class GoneRecords(_message.Message):
    __slots__ = ("table", "keys")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    table: str
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, table: _Optional[str] = ..., keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class OpenTransfer(_message.Message):
    __slots__ = ("nfs", "scope", "variant")
    NFS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    nfs: _containers.RepeatedCompositeFieldContainer[NfStatus]
    scope: StateScope
    variant: str
    def __init__(self, nfs: _Optional[_Iterable[_Union[NfStatus, _Mapping]]] = ..., scope: _Optional[_Union[StateScope, _Mapping]] = ..., variant: _Optional[str] = ...) -> None: ...

class StateChunk(_message.Message):
    __slots__ = ("nf", "groups", "batches")
    NF_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    nf: str
    groups: _containers.RepeatedScalarFieldContainer[int]
    batches: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, nf: _Optional[str] = ..., groups: _Optional[_Iterable[int]] = ..., batches: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: bool
    def __init__(self, commit: _Optional[bool] = ...) -> None: ...

class PulledFrames(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, frames: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PushStateResponse(_message.Message):
    __slots__ = ("records", "frames", "held", "waited_us", "promoted")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    WAITED_US_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    records: int
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    held: int
    waited_us: int
    promoted: bool
    def __init__(self, records: _Optional[int] = ..., frames: _Optional[_Iterable[bytes]] = ..., held: _Optional[int] = ..., waited_us: _Optional[int] = ..., promoted: _Optional[bool] = ...) -> None: ...

class ReplicateRequest(_message.Message):
    __slots__ = ("destination", "nfs", "scope", "variant", "phase", "id", "every", "secret", "destination_name")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS: _ClassVar[ReplicateRequest.Phase]
        START: _ClassVar[ReplicateRequest.Phase]
        STOP: _ClassVar[ReplicateRequest.Phase]
        PROMOTE: _ClassVar[ReplicateRequest.Phase]
    STATUS: ReplicateRequest.Phase
    START: ReplicateRequest.Phase
    STOP: ReplicateRequest.Phase
    PROMOTE: ReplicateRequest.Phase
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAME_FIELD_NUMBER: _ClassVar[int]
    destination: str
    nfs: _containers.RepeatedScalarFieldContainer[str]
    scope: StateScope
    variant: str
    phase: ReplicateRequest.Phase
    id: str
    every: int
    secret: bytes
    destination_name: str
    def __init__(self, destination: _Optional[str] = ..., nfs: _Optional[_Iterable[str]] = ..., scope: _Optional[_Union[StateScope, _Mapping]] = ..., variant: _Optional[str] = ..., phase: _Optional[_Union[ReplicateRequest.Phase, str]] = ..., id: _Optional[str] = ..., every: _Optional[int] = ..., secret: _Optional[bytes] = ..., destination_name: _Optional[str] = ...) -> None: ...

class ReplicateResponse(_message.Message):
    __slots__ = ("state", "records", "pushes", "behind", "dropped", "left_out", "why")
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    PUSHES_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    state: str
    records: int
    pushes: int
    behind: int
    dropped: int
    left_out: int
    why: str
    def __init__(self, state: _Optional[str] = ..., records: _Optional[int] = ..., pushes: _Optional[int] = ..., behind: _Optional[int] = ..., dropped: _Optional[int] = ..., left_out: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class VariantsRequest(_message.Message):
    __slots__ = ("operation", "nf")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    NF_FIELD_NUMBER: _ClassVar[int]
    operation: str
    nf: str
    def __init__(self, operation: _Optional[str] = ..., nf: _Optional[str] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("performance", "accuracy", "resources")
    PERFORMANCE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    performance: int
    accuracy: int
    resources: int
    def __init__(self, performance: _Optional[int] = ..., accuracy: _Optional[int] = ..., resources: _Optional[int] = ...) -> None: ...

class VariantsResponse(_message.Message):
    __slots__ = ("variants",)
    class VariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Variant
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Variant, _Mapping]] = ...) -> None: ...
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    variants: _containers.MessageMap[str, Variant]
    def __init__(self, variants: _Optional[_Mapping[str, Variant]] = ...) -> None: ...

class MarkLastInTransitRequest(_message.Message):
    __slots__ = ("source", "scope", "marker", "first_path")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    FIRST_PATH_FIELD_NUMBER: _ClassVar[int]
    source: str
    scope: Scope
    marker: int
    first_path: int
    def __init__(self, source: _Optional[str] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., marker: _Optional[int] = ..., first_path: _Optional[int] = ...) -> None: ...

class MarkLastInTransitResponse(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: int
    def __init__(self, paths: _Optional[int] = ...) -> None: ...

class MetricsRequest(_message.Message):
    __slots__ = ("nf",)
    NF_FIELD_NUMBER: _ClassVar[int]
    nf: str
    def __init__(self, nf: _Optional[str] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("metrics", "timestamp_us")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.ScalarMap[str, int]
    timestamp_us: int
    def __init__(self, metrics: _Optional[_Mapping[str, int]] = ..., timestamp_us: _Optional[int] = ...) -> None: ...

class ReportMetricsRequest(_message.Message):
    __slots__ = ("nf", "milliseconds", "packets")
    NF_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    nf: str
    milliseconds: int
    packets: int
    def __init__(self, nf: _Optional[str] = ..., milliseconds: _Optional[int] = ..., packets: _Optional[int] = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("graph", "nfs", "remove", "manifest", "remove_manifest")
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    REMOVE_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    graph: str
    nfs: _containers.RepeatedCompositeFieldContainer[NfConfig]
    remove: _containers.RepeatedScalarFieldContainer[str]
    manifest: Manifest
    remove_manifest: bool
    def __init__(self, graph: _Optional[str] = ..., nfs: _Optional[_Iterable[_Union[NfConfig, _Mapping]]] = ..., remove: _Optional[_Iterable[str]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., remove_manifest: _Optional[bool] = ...) -> None: ...

class NfConfig(_message.Message):
    __slots__ = ("name", "type", "config_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    config_json: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., config_json: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("key0", "key1", "threshold")
    KEY0_FIELD_NUMBER: _ClassVar[int]
    KEY1_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    key0: int
    key1: int
    threshold: int
    def __init__(self, key0: _Optional[int] = ..., key1: _Optional[int] = ..., threshold: _Optional[int] = ...) -> None: ...

class ConfigureResponse(_message.Message):
    __slots__ = ("created", "replaced", "unchanged", "removed", "continued")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FIELD_NUMBER: _ClassVar[int]
    created: _containers.RepeatedScalarFieldContainer[str]
    replaced: _containers.RepeatedScalarFieldContainer[str]
    unchanged: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    continued: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, created: _Optional[_Iterable[str]] = ..., replaced: _Optional[_Iterable[str]] = ..., unchanged: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ..., continued: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveGraphRequest(_message.Message):
    __slots__ = ("graph",)
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    graph: str
    def __init__(self, graph: _Optional[str] = ...) -> None: ...

class RemoveGraphResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, removed: _Optional[_Iterable[str]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Status(_message.Message):
    __slots__ = ("name", "version", "mac", "api", "interface", "cpu", "uptime_us", "nfs", "paths", "sampled_graphs", "nf_types", "frames_in", "witnessed_graphs", "certified", "replications")
    class ReplicationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ReplicateResponse
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ReplicateResponse, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    UPTIME_US_FIELD_NUMBER: _ClassVar[int]
    NFS_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    NF_TYPES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_IN_FIELD_NUMBER: _ClassVar[int]
    WITNESSED_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    REPLICATIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    mac: int
    api: str
    interface: str
    cpu: int
    uptime_us: int
    nfs: _containers.RepeatedCompositeFieldContainer[NfStatus]
    paths: _containers.RepeatedCompositeFieldContainer[PathStatus]
    sampled_graphs: _containers.RepeatedScalarFieldContainer[str]
    nf_types: _containers.RepeatedScalarFieldContainer[str]
    frames_in: int
    witnessed_graphs: _containers.RepeatedScalarFieldContainer[str]
    certified: str
    replications: _containers.MessageMap[str, ReplicateResponse]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., mac: _Optional[int] = ..., api: _Optional[str] = ..., interface: _Optional[str] = ..., cpu: _Optional[int] = ..., uptime_us: _Optional[int] = ..., nfs: _Optional[_Iterable[_Union[NfStatus, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[PathStatus, _Mapping]]] = ..., sampled_graphs: _Optional[_Iterable[str]] = ..., nf_types: _Optional[_Iterable[str]] = ..., frames_in: _Optional[int] = ..., witnessed_graphs: _Optional[_Iterable[str]] = ..., certified: _Optional[str] = ..., replications: _Optional[_Mapping[str, ReplicateResponse]] = ...) -> None: ...

class NfStatus(_message.Message):
    __slots__ = ("name", "type", "config_digest", "packets", "drops")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    config_digest: str
    packets: int
    drops: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., config_digest: _Optional[str] = ..., packets: _Optional[int] = ..., drops: _Optional[int] = ...) -> None: ...

class PathStatus(_message.Message):
    __slots__ = ("spi", "si", "nf", "in_port", "out_port", "next")
    SPI_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    NF_FIELD_NUMBER: _ClassVar[int]
    IN_PORT_FIELD_NUMBER: _ClassVar[int]
    OUT_PORT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    spi: int
    si: int
    nf: str
    in_port: str
    out_port: str
    next: Hop
    def __init__(self, spi: _Optional[int] = ..., si: _Optional[int] = ..., nf: _Optional[str] = ..., in_port: _Optional[str] = ..., out_port: _Optional[str] = ..., next: _Optional[_Union[Hop, _Mapping]] = ...) -> None: ...

class WitnessRequest(_message.Message):
    __slots__ = ("graph", "epochs", "headers", "state")
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    graph: str
    epochs: _containers.RepeatedCompositeFieldContainer[KeyEpoch]
    headers: int
    state: bool
    def __init__(self, graph: _Optional[str] = ..., epochs: _Optional[_Iterable[_Union[KeyEpoch, _Mapping]]] = ..., headers: _Optional[int] = ..., state: _Optional[bool] = ...) -> None: ...

class KeyEpoch(_message.Message):
    __slots__ = ("number", "key0", "key1", "threshold", "flows")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KEY0_FIELD_NUMBER: _ClassVar[int]
    KEY1_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    number: int
    key0: int
    key1: int
    threshold: int
    flows: int
    def __init__(self, number: _Optional[int] = ..., key0: _Optional[int] = ..., key1: _Optional[int] = ..., threshold: _Optional[int] = ..., flows: _Optional[int] = ...) -> None: ...

class WitnessResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadSamplesRequest(_message.Message):
    __slots__ = ("cursor", "limit")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    limit: int
    def __init__(self, cursor: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadSamplesResponse(_message.Message):
    __slots__ = ("samples", "cursor", "lost")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    cursor: int
    lost: int
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., cursor: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("graph", "nf", "worker", "label", "spi", "si", "direction", "port", "timestamp_us", "spent_ns", "length", "digest", "reason")
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    NF_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SPI_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    SPENT_NS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    graph: str
    nf: str
    worker: str
    label: int
    spi: int
    si: int
    direction: str
    port: str
    timestamp_us: int
    spent_ns: int
    length: int
    digest: bytes
    reason: str
    def __init__(self, graph: _Optional[str] = ..., nf: _Optional[str] = ..., worker: _Optional[str] = ..., label: _Optional[int] = ..., spi: _Optional[int] = ..., si: _Optional[int] = ..., direction: _Optional[str] = ..., port: _Optional[str] = ..., timestamp_us: _Optional[int] = ..., spent_ns: _Optional[int] = ..., length: _Optional[int] = ..., digest: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("cursor", "graphs", "follow")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    graphs: _containers.RepeatedScalarFieldContainer[str]
    follow: bool
    def __init__(self, cursor: _Optional[int] = ..., graphs: _Optional[_Iterable[str]] = ..., follow: _Optional[bool] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events", "cursor", "lost")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    cursor: int
    lost: int
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., cursor: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("timestamp_us", "nf", "type", "packet", "drop", "alert", "nat", "suppressed")
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    NF_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PACKET_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    ALERT_FIELD_NUMBER: _ClassVar[int]
    NAT_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSED_FIELD_NUMBER: _ClassVar[int]
    timestamp_us: int
    nf: str
    type: str
    packet: EventPacket
    drop: DropEvent
    alert: AlertEvent
    nat: NatEvent
    suppressed: SuppressedEvent
    def __init__(self, timestamp_us: _Optional[int] = ..., nf: _Optional[str] = ..., type: _Optional[str] = ..., packet: _Optional[_Union[EventPacket, _Mapping]] = ..., drop: _Optional[_Union[DropEvent, _Mapping]] = ..., alert: _Optional[_Union[AlertEvent, _Mapping]] = ..., nat: _Optional[_Union[NatEvent, _Mapping]] = ..., suppressed: _Optional[_Union[SuppressedEvent, _Mapping]] = ...) -> None: ...

class EventPacket(_message.Message):
    __slots__ = ("ether_type", "source", "destination", "protocol", "source_port", "destination_port", "icmp_type", "icmp_code", "length", "ttl")
    ETHER_TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_PORT_FIELD_NUMBER: _ClassVar[int]
    ICMP_TYPE_FIELD_NUMBER: _ClassVar[int]
    ICMP_CODE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    ether_type: int
    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    icmp_type: int
    icmp_code: int
    length: int
    ttl: int
    def __init__(self, ether_type: _Optional[int] = ..., source: _Optional[str] = ..., destination: _Optional[str] = ..., protocol: _Optional[int] = ..., source_port: _Optional[int] = ..., destination_port: _Optional[int] = ..., icmp_type: _Optional[int] = ..., icmp_code: _Optional[int] = ..., length: _Optional[int] = ..., ttl: _Optional[int] = ...) -> None: ...

class DropEvent(_message.Message):
    __slots__ = ("reason", "rule")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    rule: str
    def __init__(self, reason: _Optional[str] = ..., rule: _Optional[str] = ...) -> None: ...

class AlertEvent(_message.Message):
    __slots__ = ("signature_id", "signature", "rule", "blocked", "hostname", "url", "rrname")
    SIGNATURE_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    RRNAME_FIELD_NUMBER: _ClassVar[int]
    signature_id: int
    signature: str
    rule: str
    blocked: bool
    hostname: str
    url: str
    rrname: str
    def __init__(self, signature_id: _Optional[int] = ..., signature: _Optional[str] = ..., rule: _Optional[str] = ..., blocked: _Optional[bool] = ..., hostname: _Optional[str] = ..., url: _Optional[str] = ..., rrname: _Optional[str] = ...) -> None: ...

class NatEvent(_message.Message):
    __slots__ = ("event", "protocol", "inside_ip", "inside_port", "outside_ip", "outside_port")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    INSIDE_IP_FIELD_NUMBER: _ClassVar[int]
    INSIDE_PORT_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_IP_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_PORT_FIELD_NUMBER: _ClassVar[int]
    event: int
    protocol: int
    inside_ip: str
    inside_port: int
    outside_ip: str
    outside_port: int
    def __init__(self, event: _Optional[int] = ..., protocol: _Optional[int] = ..., inside_ip: _Optional[str] = ..., inside_port: _Optional[int] = ..., outside_ip: _Optional[str] = ..., outside_port: _Optional[int] = ...) -> None: ...

class SuppressedEvent(_message.Message):
    __slots__ = ("kind", "count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    count: int
    def __init__(self, kind: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
