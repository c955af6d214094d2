"""Trajectories: the samples of all trusted points, put together by label."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.model import ids
from orchestrator.observation.at_once import at_once
from servernf.wire.nsh import decode

_LINGER_S = 0.5


@dataclass(frozen=True, slots=True)
class SeenSample:
    """One sample: a packet seen at a trusted point; `device_us` is that device's own clock.

    `si` and `ttl` are those of the tag as it arrived; 0 at the ingress switch and (`ttl`) in a worker.
    """

    label: int
    graph_id: int
    device: str
    what: str
    device_us: int
    spi: int
    si: int
    ttl: int
    length: int


def collect(
    switches: list[SwitchClient],
    workers: list[WorkerClient],
    *,
    seconds: float,
    enough: Callable[[dict[int, list[SeenSample]]], bool],
    begin: Callable[[], None] = lambda: None,
) -> dict[int, list[SeenSample]]:
    """Listen to all trusted points for up to `seconds`, or until `enough`; samples by label.

    `begin` is called once all are being listened to.

    Points of a label are in the order of the service path: SI falls along the way, the tag's TTL from
    switch to switch; a worker's clock orders its NFs. Clocks of different devices are not compared.
    """
    seen: dict[int, list[SeenSample]] = defaultdict(list)
    deadline = time.monotonic() + seconds
    cursors = [_newest(worker) for worker in workers]
    begin()

    def poll() -> None:
        for switch in switches:
            for point in _switch_points(switch):
                seen[point.label].append(point)
        for index, worker in enumerate(workers):
            points, cursors[index] = _worker_points(worker, cursors[index])
            for point in points:
                seen[point.label].append(point)

    while time.monotonic() < deadline:
        poll()
        if enough(seen):
            break
        time.sleep(0.02)
    # What the last devices saw of these packets is still on its way; a busy worker answers late.
    time.sleep(_LINGER_S)
    poll()
    return {label: sorted(points, key=_order) for label, points in seen.items()}


def _order(point: SeenSample) -> tuple[int, int, int]:
    return (-(point.si or 256), -point.ttl, point.device_us)


def _switch_points(switch: SwitchClient) -> Iterator[SeenSample]:
    while (packet := switch.packet_in(0.0)) is not None:
        data = packet.metadata
        yield SeenSample(
            data["label"],
            ids.PATH.graph(data["spi"]),
            switch.name,
            f"port {data['ingress_port']}",
            data["timestamp_us"],
            data["spi"],
            data["si"],
            tagged[0].ttl if (tagged := decode(packet.payload)) else 0,
            len(packet.payload),
        )


def _newest(worker: WorkerClient) -> int:
    """The cursor behind the samples that are there already; a call gives at most 1000 of them."""
    cursor = 0
    while True:
        samples, cursor = worker.samples(cursor)
        if not samples:
            return cursor


def _worker_points(worker: WorkerClient, cursor: int) -> tuple[list[SeenSample], int]:
    samples, cursor = worker.samples(cursor)
    points = [
        SeenSample(
            sample.label,
            ids.PATH.graph(sample.spi),
            worker.name,
            f"{sample.nf.partition('/')[2] or sample.nf} {sample.direction}",
            sample.timestamp_us,
            sample.spi,
            sample.si,
            0,
            sample.length,
        )
        for sample in samples
    ]
    return points, cursor


def open_all(stack: ExitStack, sessions: list[SwitchClient] | list[WorkerClient]) -> None:
    """Open many sessions at once."""
    for _ in at_once(stack.enter_context, sessions):
        pass
