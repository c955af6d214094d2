"""How busy cores, NFs and switches are, from two readings; a switch beside what its target carries.

A core's share is CPU time of its data path. Its queue is told by batches: one that is full has not
emptied the receive queue. Of an NF one packet of each batch is timed (`servernf/python/runtime/load`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.model.topology import Topology
from orchestrator.observation.health import CoreReading, Reading
from orchestrator.targets import profile_of
from servernf.wire.instances import base_name


@dataclass(frozen=True, slots=True)
class NfLoad:
    """An NF on a core since the reading before: packets/s, and how long they were in it, us."""

    graph: str
    nf: str
    packets_per_second: float
    mean_us: float | None
    p50_us: float | None
    p99_us: float | None


@dataclass(frozen=True, slots=True)
class CoreLoad:
    """A core since the reading before; None is what its worker does not tell, or has no frames for."""

    name: str
    frames_per_second: float
    busy: float | None
    """Share of the CPU's time."""
    fill: float | None
    """Frames of a batch, in the mean."""
    full: float | None
    """Share of the batches that have not emptied the receive queue."""
    queue: float | None
    """Share of the receive queue's memory that is in use now."""
    queue_grown: float | None
    """By how much more of it than at the reading before."""
    lost_per_second: float
    """Frames for which the queue had no room."""
    planned: float | None
    nfs: tuple[NfLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchLoad:
    """Frames that came to a switch since the reading before; `most` of a second (0: not known)."""

    name: str
    packets_per_second: float
    most: int
    by_port: Mapping[int, float]
    lost_per_second: float

    @property
    def share(self) -> float | None:
        """Of the most that it carries."""
        return self.packets_per_second / self.most if self.most else None


_QUEUE_FULL = "receive_queue_full"


def core_loads(now: Reading, before: Reading) -> list[CoreLoad]:
    """Of the cores that both readings have."""
    seconds = now.at - before.at
    old = {core.name: core for core in before.cores if not core.problem}
    return [
        _core(core, old[core.name], seconds)
        for core in now.cores
        if not core.problem and core.name in old and seconds > 0
    ]


def switch_loads(topology: Topology, now: Reading, before: Reading) -> list[SwitchLoad]:
    """Of the devices with a pipeline that both readings have."""
    old = {device.name: device for device in before.devices if not device.problem}
    loads: list[SwitchLoad] = []
    for device in now.devices:
        then = old.get(device.name)
        if device.problem or then is None or device.at <= then.at:
            continue
        seconds = device.at - then.at
        by_port = {
            port: max(0, count - then.ports.get(port, 0)) / seconds
            for port, count in sorted(device.ports.items())
        }
        lost = device.drops.get(_QUEUE_FULL, 0) - then.drops.get(_QUEUE_FULL, 0)
        said = topology.switches[device.name].packets_per_second
        profile = None if said else profile_of(device.target)
        most = said or (profile.packets_per_second if profile else 0)
        loads.append(
            SwitchLoad(device.name, sum(by_port.values()), most, by_port, max(0, lost) / seconds)
        )
    return loads


def _core(core: CoreReading, then: CoreReading, seconds: float) -> CoreLoad:
    now, old = core.metrics, then.metrics

    def grown(name: str) -> int:
        return max(0, now.get(name, 0) - old.get(name, 0))

    batches = grown("batches")
    frames = grown("frames_in")
    queue, queued = _queue(now), _queue(old)
    return CoreLoad(
        core.name,
        frames / seconds,
        grown("busy_ns") / 1e9 / seconds if "busy_ns" in now and "busy_ns" in old else None,
        frames / batches if batches else None,
        grown("full_batches") / batches if batches else None,
        queue,
        None if queue is None or queued is None else queue - queued,
        grown(f"drop.{_QUEUE_FULL}") / seconds,
        core.planned,
        tuple(_nfs(now, old, seconds)),
    )


def _queue(metrics: Mapping[str, int]) -> float | None:
    limit = metrics.get("receive_queue_limit", 0)
    return metrics["receive_queue_bytes"] / limit if limit else None


def _nfs(now: Mapping[str, int], old: Mapping[str, int], seconds: float) -> Iterator[NfLoad]:
    """One of each NF: configurations that are beside each other during an update share their counts."""
    seen: set[tuple[str, str]] = set()
    for name, packets in now.items():
        graph, slash, rest = name.partition("/")
        nf, _, what = rest.rpartition(".")
        if not slash or what != "packets" or (graph, base_name(nf)) in seen:
            continue
        seen.add((graph, base_name(nf)))
        own = f"{graph}/{nf}"
        timed = now.get(f"{own}.timed", 0) - old.get(f"{own}.timed", 0)
        spent = now.get(f"{own}.timed_ns", 0) - old.get(f"{own}.timed_ns", 0)
        passed = max(0, packets - old.get(name, 0))
        yield NfLoad(
            graph,
            base_name(nf),
            passed / seconds,
            spent / timed / 1000 if timed > 0 else None,
            now[f"{own}.delay_p50_ns"] / 1000 if timed > 0 else None,
            now[f"{own}.delay_p99_ns"] / 1000 if timed > 0 else None,
        )
