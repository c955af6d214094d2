"""A worker's configuration: immutable tables, swapped as a whole between two batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from servernf.python.network_function import NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.runtime.load import NfTimes
from servernf.python.watched import Watch

Process = Callable[[PacketView, str, int], str | None]


class NfTally:
    """How many packets an NF has been called with, and for how long: instances that follow each other
    share it."""

    __slots__ = ("packets", "times")

    def __init__(self) -> None:
        self.packets = 0
        self.times = NfTimes()


class Instance:
    """An NF instance. Only the tally and the NF's own state ever change."""

    __slots__ = ("config_json", "graph", "name", "nf", "tally", "type_name", "watchers", "watching")

    def __init__(self, name: str, type_name: str, config_json: str, nf: NetworkFunction) -> None:
        self.name = name
        self.graph = graph_of(name)
        self.type_name = type_name
        self.config_json = config_json
        self.nf = nf
        self.tally = NfTally()
        self.watching: NetworkFunction | None = None
        """Stands for the NF while its state moves, or is followed."""
        self.watchers: tuple[Watch, ...] = ()
        """Whom it tells."""

    def runs(self, type_name: str, config_json: str) -> bool:
        """Whether it is this configuration that it runs: the same text."""
        return self.type_name == type_name and self.config_json == config_json

    def follow(self, before: Instance) -> bool:
        """Be the next configuration of another instance: counters go on; whether its state does."""
        self.tally = before.tally
        self.nf.drops = before.nf.drops
        return self.nf.continue_from(before.nf)


@dataclass(frozen=True, slots=True)
class SampledLabels:
    """Which labels of a graph are sampled: PRF(key0, key1, label) < threshold."""

    key0: int = field(repr=False)
    key1: int = field(repr=False)
    threshold: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToNf:
    """Next hop: an NF of this worker and the port that is entered."""

    nf: str
    port: str


@dataclass(frozen=True, slots=True)
class Out:
    """Next hop: out of the worker. `peer` says which NF, when it is one of another worker."""

    dst_mac: int
    spi: int
    si: int
    peer: Peer | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """An NF of another worker: the worker's API address, and where the NF is entered."""

    worker: str
    nf: str
    port: str
    out_port: str


@dataclass(frozen=True, slots=True)
class WorkerTables:
    """A *path* is spi << 8 | si. Classifiers: (NF, path, port left) -> next hop."""

    instances: Mapping[str, Instance] = field(default_factory=dict[str, Instance])
    manifests: Mapping[str, SampledLabels] = field(default_factory=dict[str, SampledLabels])
    entries: Mapping[int, ToNf] = field(default_factory=dict[int, ToNf])
    classifiers: Mapping[tuple[str, int, str], ToNf | Out] = field(
        default_factory=dict[tuple[str, int, str], ToNf | Out]
    )


class CompiledExit:
    """A compiled next hop out of the worker: the bytes that it puts into the tag."""

    __slots__ = ("ethernet", "path")

    def __init__(self, out: Out, core_mac: int) -> None:
        self.ethernet = out.dst_mac.to_bytes(6, "big") + core_mac.to_bytes(6, "big") + b"\x89\x4f"
        self.path = (out.spi << 8 | out.si).to_bytes(4, "big")


class CompiledCall:
    """A compiled NF call: what to call by which port, and what follows by the port left."""

    __slots__ = ("emitted", "instance", "next", "path", "port", "process", "tally")

    def __init__(self, instance: Instance, port: str, path: int, process: Process) -> None:
        self.instance = instance
        self.path = path
        self.tally = instance.tally
        self.process = process
        self.emitted = instance.nf.emitted
        self.port = port
        self.next: dict[str, CompiledCall | CompiledExit] = {}


def called_by(instance: Instance) -> Process:
    """What an instance is called by."""
    return (instance.watching or instance.nf).process


def compile_steps(
    tables: WorkerTables, core_mac: int, process_of: Callable[[Instance], Process] = called_by
) -> dict[int, CompiledCall]:
    """The first step of every path, linked to those that follow."""
    compiled: dict[tuple[int, str, str], CompiledCall] = {}
    processes = {name: process_of(instance) for name, instance in tables.instances.items()}

    def step(path: int, target: ToNf) -> CompiledCall:
        key = (path, target.nf, target.port)
        if key not in compiled:
            instance = tables.instances[target.nf]
            compiled[key] = made = CompiledCall(instance, target.port, path, processes[target.nf])
            for port in instance.nf.ports:
                following = tables.classifiers.get((target.nf, path, port))
                if isinstance(following, ToNf):
                    made.next[port] = step(path, following)
                elif following is not None:
                    made.next[port] = CompiledExit(following, core_mac)
        return compiled[key]

    return {path: step(path, target) for path, target in tables.entries.items()}


def graph_of(name: str) -> str:
    """The graph of an instance name, "GRAPH/NF"."""
    return name.rpartition("/")[0]


def path_text(path: int) -> str:
    """`SPI 4097, SI 254`."""
    return f"SPI {path >> 8}, SI {path & 0xFF}"
