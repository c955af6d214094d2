# Generated from agent.proto by `python -m servernf.proto.generate`. Do not edit.
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Cgroup(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CGROUP_NONE: _ClassVar[Cgroup]
    CGROUP_V1: _ClassVar[Cgroup]
    CGROUP_V2: _ClassVar[Cgroup]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STARTING: _ClassVar[WorkerState]
    WORKER_RUNNING: _ClassVar[WorkerState]
    WORKER_RESTARTING: _ClassVar[WorkerState]
    WORKER_FAILED: _ClassVar[WorkerState]
CGROUP_NONE: Cgroup
CGROUP_V1: Cgroup
CGROUP_V2: Cgroup
WORKER_STARTING: WorkerState
WORKER_RUNNING: WorkerState
WORKER_RESTARTING: WorkerState
WORKER_FAILED: WorkerState

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopWorkerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WorkerList(_message.Message):
    __slots__ = ("workers",)
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ...) -> None: ...

class WorkerName(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("api_version", "name", "version", "time_us", "boot_id", "cpus", "pins", "memory_bytes", "cgroup", "nics", "runtimes", "workers", "warnings", "restarts")
    API_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CGROUP_FIELD_NUMBER: _ClassVar[int]
    NICS_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    api_version: int
    name: str
    version: str
    time_us: int
    boot_id: str
    cpus: _containers.RepeatedCompositeFieldContainer[Cpu]
    pins: bool
    memory_bytes: int
    cgroup: Cgroup
    nics: _containers.RepeatedCompositeFieldContainer[Nic]
    runtimes: _containers.RepeatedScalarFieldContainer[str]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    restarts: bool
    def __init__(self, api_version: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., time_us: _Optional[int] = ..., boot_id: _Optional[str] = ..., cpus: _Optional[_Iterable[_Union[Cpu, _Mapping]]] = ..., pins: _Optional[bool] = ..., memory_bytes: _Optional[int] = ..., cgroup: _Optional[_Union[Cgroup, str]] = ..., nics: _Optional[_Iterable[_Union[Nic, _Mapping]]] = ..., runtimes: _Optional[_Iterable[str]] = ..., workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., restarts: _Optional[bool] = ...) -> None: ...

class Cpu(_message.Message):
    __slots__ = ("number", "numa_node")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    number: int
    numa_node: int
    def __init__(self, number: _Optional[int] = ..., numa_node: _Optional[int] = ...) -> None: ...

class Nic(_message.Message):
    __slots__ = ("name", "mac", "mtu", "carrier", "bits_per_second", "driver", "numa_node")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    CARRIER_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    mac: int
    mtu: int
    carrier: bool
    bits_per_second: int
    driver: str
    numa_node: int
    def __init__(self, name: _Optional[str] = ..., mac: _Optional[int] = ..., mtu: _Optional[int] = ..., carrier: _Optional[bool] = ..., bits_per_second: _Optional[int] = ..., driver: _Optional[str] = ..., numa_node: _Optional[int] = ...) -> None: ...

class WorkerSpec(_message.Message):
    __slots__ = ("name", "core", "runtime", "mac", "macvlan_on", "interface", "memory_bytes", "cpu")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CORE_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    MACVLAN_ON_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    name: str
    core: int
    runtime: str
    mac: int
    macvlan_on: str
    interface: str
    memory_bytes: int
    cpu: int
    def __init__(self, name: _Optional[str] = ..., core: _Optional[int] = ..., runtime: _Optional[str] = ..., mac: _Optional[int] = ..., macvlan_on: _Optional[str] = ..., interface: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., cpu: _Optional[int] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("spec", "state", "reason", "interface", "api", "pid", "cpu", "restarts", "since_us", "log")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    spec: WorkerSpec
    state: WorkerState
    reason: str
    interface: str
    api: str
    pid: int
    cpu: int
    restarts: int
    since_us: int
    log: str
    def __init__(self, spec: _Optional[_Union[WorkerSpec, _Mapping]] = ..., state: _Optional[_Union[WorkerState, str]] = ..., reason: _Optional[str] = ..., interface: _Optional[str] = ..., api: _Optional[str] = ..., pid: _Optional[int] = ..., cpu: _Optional[int] = ..., restarts: _Optional[int] = ..., since_us: _Optional[int] = ..., log: _Optional[str] = ...) -> None: ...
