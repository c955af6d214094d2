"""Prometheus: a network's health as series, read anew at every scrape."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.errors import InputError, NetworkError
from orchestrator.observation.health import CoreReading, DeviceReading, Reading
from orchestrator.observation.liveness import DOWN, SUSPECT, UP
from orchestrator.observation.telemetry import DELAYS, deployment_delays
from orchestrator.targets import profile_of
from servernf.wire.instances import base_name

LOOPBACK = "127.0.0.1"

_TIMES = ("timed", "timed_ns", "delay_p50_ns", "delay_p99_ns")
_DELAY_HELP = {
    "synthesis_delay_s": "Compiling and placing the graph",
    "launch_delay_s": "Configuring and chaining the NFs of the servers",
    "offloading_installation_delay_s": "Installing entries on the devices",
}


class NetworkCollector(Collector):
    """Series of one network. Scrapes within `fresh_s` seconds share a reading."""

    def __init__(
        self, network: str, read: Callable[[], Reading], folder: Path, *, fresh_s: float = 1.0
    ) -> None:
        self._network = network
        self._read = read
        self._folder = folder
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._last: tuple[float, Reading, float] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All series."""
        reading, seconds = self._reading()
        yield _gauge("scrape_seconds", "Time that reading the network took", (), [((), seconds)])
        yield from self._devices(reading.devices)
        yield from self._cores(reading.cores)
        yield from self._conditions(reading)
        yield from self._graphs(reading)

    def _reading(self) -> tuple[Reading, float]:
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > self._fresh_s:
                reading = self._read()
                done = time.monotonic()
                self._last = (done, reading, done - now)
            return self._last[1], self._last[2]

    def _devices(self, devices: tuple[DeviceReading, ...]) -> Iterator[Metric]:
        net = self._network
        yield _gauge(
            "device_up",
            "Whether the device answers and runs a pipeline",
            ("network", "device", "kind", "target"),
            [((net, s.name, s.kind, s.target), float(not s.problem)) for s in devices],
        )
        tables = [
            (s.name, name, use)
            for s in devices
            for name, use in s.tables.items()
            if use.entries  # a thousand devices have a hundred thousand tables, few in use
        ]
        labels = ("network", "device", "table")
        for name, text, field in (
            ("table_entries", "Entries in the table", "entries"),
            ("table_size", "Entries that the table holds", "size"),
        ):
            values = [((net, sw, table), float(getattr(use, field))) for sw, table, use in tables]
            yield _gauge(name, text, labels, values)
        for name, text, field in (
            ("table_hit_packets", "Packets that hit the table's present entries", "packets"),
            ("table_hit_bytes", "Bytes that hit the table's present entries", "bytes"),
        ):
            values = [((net, sw, table), float(getattr(use, field))) for sw, table, use in tables]
            yield _counter(name, text, labels, values)
        yield _counter(
            "device_received_frames",
            "Frames that have come in by a port",
            ("network", "device", "port"),
            [((net, s.name, str(port)), float(n)) for s in devices for port, n in s.ports.items()],
        )
        most = [
            ((net, s.name), float(profile.packets_per_second))
            for s in devices
            if (profile := profile_of(s.target)) is not None
        ]
        yield _gauge(
            "device_packets_per_second_limit",
            "What was measured that the device's target carries",
            ("network", "device"),
            most,
        )
        yield _counter(
            "device_dropped_frames",
            "Frames and stream messages that a softswitch has dropped outside its pipeline",
            ("network", "device", "reason"),
            [((net, s.name, reason), float(n)) for s in devices for reason, n in s.drops.items()],
        )
        yield _counter(
            "nf_rule_packets",
            "Packets that hit entries of an NF on a device, by action",
            ("network", "device", "graph", "nf", "action"),
            [((net, s.name, *key), float(n)) for s in devices for key, (n, _) in s.nfs.items()],
        )
        for name, text, index in (
            ("traffic_packets", "Packets that a traffic of a graph admitted", 0),
            ("traffic_bytes", "Bytes that a traffic of a graph admitted", 1),
        ):
            yield _counter(
                name,
                text,
                ("network", "device", "graph", "traffic"),
                [
                    ((net, s.name, *key), float(sums[index]))
                    for s in devices
                    for key, sums in s.traffic.items()
                ],
            )

    def _cores(self, cores: tuple[CoreReading, ...]) -> Iterator[Metric]:
        def labels(core: CoreReading) -> tuple[str, ...]:
            return (self._network, core.server, core.name)

        place = ("network", "device", "core")
        yield _gauge(
            "core_up",
            "Whether the core's worker answers",
            place,
            [(labels(c), float(not c.problem)) for c in cores],
        )
        yield _gauge(
            "core_planned_load",
            "The share of the core's cycles that placement expects to be used",
            place,
            [(labels(c), c.planned) for c in cores if c.planned is not None],
        )
        for name, text, key in (
            ("core_received_frames", "Frames that the worker has received", "frames_in"),
            ("core_sent_frames", "Frames that the worker has sent", "frames_out"),
        ):
            yield _counter(
                name, text, place, [(labels(c), float(c.metrics.get(key, 0))) for c in cores]
            )
        yield _counter(
            "core_dropped_frames",
            "Frames that the worker itself has dropped",
            (*place, "reason"),
            [
                ((*labels(c), name.removeprefix("drop.")), float(value))
                for c in cores
                for name, value in c.metrics.items()
                if name.startswith("drop.")
            ],
        )
        for name, text, key, unit in (
            ("core_busy_seconds", "CPU time of the worker's data path", "busy_ns", 1e9),
            ("core_batches", "Batches of frames that the worker has taken", "batches", 1),
            (
                "core_full_batches",
                "Batches that have not emptied the receive queue",
                "full_batches",
                1,
            ),
        ):
            told = [(labels(c), c.metrics[key] / unit) for c in cores if key in c.metrics]
            yield _counter(name, text, place, told)
        yield _gauge(
            "core_receive_queue_ratio",
            "Share of the receive queue's memory that is in use",
            place,
            [
                (labels(c), c.metrics["receive_queue_bytes"] / limit)
                for c in cores
                if (limit := c.metrics.get("receive_queue_limit"))
            ],
        )
        yield from self._delays(cores)
        counts: dict[tuple[str, ...], float] = {}
        states: dict[tuple[str, ...], float] = {}
        for core in cores:
            for name, value in core.metrics.items():
                graph, slash, rest = name.partition("/")
                nf, dot, what = rest.partition(".")
                if not slash or not dot or what in _TIMES:
                    continue
                counted = what in ("packets", "drops", "alerts") or what.startswith("drop.")
                kept = counts if counted else states
                # Its configurations, beside each other while an update drains, share their counters.
                series = (*labels(core), graph, base_name(nf), what)
                kept[series] = max(float(value), kept.get(series, 0.0))
        nf_labels = (*place, "graph", "nf", "what")
        yield _counter(
            "nf_worker_events", "Packets, drops and alerts of an NF", nf_labels, counts.items()
        )
        yield _gauge(
            "nf_worker_state", "State of an NF: mappings, connections", nf_labels, states.items()
        )

    def _delays(self, cores: tuple[CoreReading, ...]) -> Iterator[Metric]:
        """How long timed packets were in NFs: all of them together, and of the last ones quantiles."""
        delays: dict[str, dict[tuple[str, ...], float]] = {what: {} for what in _TIMES}
        for core in cores:
            for name, value in core.metrics.items():
                graph, slash, rest = name.partition("/")
                nf, _, what = rest.rpartition(".")
                if slash and what in _TIMES:
                    place = (self._network, core.server, core.name)
                    delays[what][(*place, graph, base_name(nf))] = float(value)
        labels = ("network", "device", "core", "graph", "nf")
        yield _counter(
            "nf_timed_packets", "Packets that were timed", labels, delays["timed"].items()
        )
        yield _counter(
            "nf_timed_seconds",
            "How long they were in the NF",
            labels,
            [(at, ns / 1e9) for at, ns in delays["timed_ns"].items()],
        )
        yield _gauge(
            "nf_delay_seconds",
            "How long of the last timed packets so many were in the NF at most",
            (*labels, "quantile"),
            [
                ((*at, quantile), ns / 1e9)
                for what, quantile in (("delay_p50_ns", "0.5"), ("delay_p99_ns", "0.99"))
                for at, ns in delays[what].items()
            ],
        )

    def _conditions(self, reading: Reading) -> Iterator[Metric]:
        labels = ("network", "device", "kind")
        conditions = sorted(reading.conditions.items())
        yield _gauge(
            "condition",
            "1 for the state that the device, worker or link is in, 0 for the others",
            (*labels, "state"),
            [
                ((self._network, s.name, s.kind, state), float(condition.state == state))
                for s, condition in conditions
                for state in (UP, SUSPECT, DOWN)
            ],
        )
        yield _gauge(
            "condition_since_seconds",
            "Since when it has been in that state, seconds since 1970",
            labels,
            [((self._network, s.name, s.kind), condition.since) for s, condition in conditions],
        )

    def _graphs(self, reading: Reading) -> Iterator[Metric]:
        net = self._network
        yield _gauge(
            "graph_info",
            "A deployed graph; always 1",
            ("network", "graph", "owner", "deployed_at"),
            [
                ((net, d.bundle.graph, d.bundle.owner, d.deployed_at), 1.0)
                for d in reading.deployed.values()
            ],
        )
        yield _gauge(
            "traffic_planned_latency_seconds",
            "The latency that placement expects of a traffic",
            ("network", "graph", "traffic"),
            [
                ((net, d.bundle.graph, traffic), us / 1e6)
                for d in reading.deployed.values()
                for traffic, us in d.bundle.plan.latency_us.items()
            ],
        )
        delays = deployment_delays(self._folder, net)
        for name in DELAYS:
            values = [
                ((net, g), float(measured[name]))
                for g, measured in delays.items()
                if name in measured
            ]
            text = f"{_DELAY_HELP[name]} (last deployment)"
            yield _gauge(f"{name.removesuffix('_s')}_seconds", text, ("network", "graph"), values)
        yield _gauge(
            "global_reconfiguration_delay_seconds",
            "From the command to the graph running (last deployment)",
            ("network", "graph"),
            [
                ((net, g), sum(float(measured.get(name, 0)) for name in DELAYS))
                for g, measured in delays.items()
            ],
        )


def _gauge(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = GaugeMetricFamily(f"orchestrator_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _counter(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = CounterMetricFamily(f"orchestrator_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def exposition(collector: Collector) -> str:
    """The series as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def serve(collector: Collector, listen: str) -> tuple[str, WSGIServer]:
    """Serve `/metrics` in the background; the address with the real port, and the server."""
    given, colon, port = listen.rpartition(":")
    host = given or LOOPBACK  # to be seen from elsewhere is asked for: 0.0.0.0:9500
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--listen '{listen}': HOST:PORT is expected, as 127.0.0.1:9500 or :9500")
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), registry=registry)
    except OSError as error:
        raise NetworkError(f"--listen {listen}: {error.strerror}") from error
    return f"{host}:{server.server_port}", server
