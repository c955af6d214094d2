"""Metrics, logs, spans, pcapng. Oracles: Prometheus's own parser, tshark, OpenTelemetry's SDK."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from inspection_support import MANIFEST, campus
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.deployment.journal import Deployed
from orchestrator.errors import InputError
from orchestrator.observation import telemetry
from orchestrator.observation.frames import parse_packet
from orchestrator.observation.health import CoreReading, DeviceReading, Reading, TableUse
from orchestrator.observation.liveness import DOWN, SUSPECT, UP, Condition, Subject
from orchestrator.observation.metrics import NetworkCollector, exposition, serve
from orchestrator.observation.pcapng import INBOUND, OUTBOUND, PcapngWriter
from servernf.wire.nsh import Tag, encode

pytestmark = pytest.mark.slow

NEEDS_TSHARK = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark: not installed")
DELAYS = {"synthesis_delay_s": 0.5, "launch_delay_s": 0.25, "offloading_installation_delay_s": 1.0}


def reading() -> Reading:
    leaf = DeviceReading(
        "leaf1",
        "switch",
        "bmv2",
        "",
        {"acl.ipv4": TableUse(3, 100, 70, 7000)},
        {("campus_edge", "edge_acl", "deny"): (7, 700)},
        {("campus_edge", "web"): (50, 5000)},
        drops={"stream_queue_full": 5},
    )
    core = CoreReading(
        "server1",
        0,
        ("campus_edge",),
        "",
        {
            "frames_in": 9,
            "drop.nsh_ttl": 2,
            "campus_edge/edge_nat.mappings": 4,
            "campus_edge/edge_nat.packets": 70,
            "campus_edge/edge_nat~2.packets": 71,
        },
        0.25,
    )
    dead = DeviceReading("leaf2", "switch", "bmv2", "no answer")
    conditions = {
        Subject("switch", "leaf2"): Condition(DOWN, 17.5, "no answer"),
        Subject("link", "leaf1-leaf2"): Condition(UP, 2.0),
    }
    deployed = {"c": Deployed(campus(), MANIFEST, "now")}
    return Reading(1.0, (leaf, dead), (core,), deployed, conditions)


def collector(folder: Path) -> NetworkCollector:
    telemetry.record_deployment(folder, "net", "campus_edge", DELAYS, 10)
    return NetworkCollector("net", reading, folder)


def test_the_exposition_is_prometheus_and_has_the_series(tmp_path: Path) -> None:
    text = exposition(collector(tmp_path))
    values = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return values[f"orchestrator_{name}", tuple(sorted({"network": "net", **labels}.items()))]

    dead = {"device": "leaf2", "kind": "switch"}
    states = [value("condition", **dead, state=state) for state in (UP, SUSPECT, DOWN)]
    assert states == [0, 0, 1]
    assert value("condition_since_seconds", **dead) == 17.5
    assert value("condition", device="leaf1-leaf2", kind="link", state=UP) == 1

    assert value("device_up", device="leaf1", kind="switch", target="bmv2") == 1
    assert value("device_up", device="leaf2", kind="switch", target="bmv2") == 0
    assert value("table_entries", device="leaf1", table="acl.ipv4") == 3
    assert value("device_dropped_frames_total", device="leaf1", reason="stream_queue_full") == 5
    assert value("core_received_frames_total", device="server1", core="server1.1") == 9
    assert (
        value("core_dropped_frames_total", device="server1", core="server1.1", reason="nsh_ttl")
        == 2
    )
    nat = {"device": "server1", "core": "server1.1", "graph": "campus_edge", "nf": "edge_nat"}
    assert value("nf_worker_events_total", **nat, what="packets") == 71, "one NF, one series"
    assert not any(
        labels["nf"] == "edge_nat~2" for _, key in values if "nf" in (labels := dict(key))
    )
    assert value("global_reconfiguration_delay_seconds", graph="campus_edge") == 1.75
    assert value("synthesis_delay_seconds", graph="campus_edge") == 0.5
    for key in (MANIFEST.key0, MANIFEST.key1):
        assert str(key) not in text


def test_every_series_of_the_dashboard_exists(tmp_path: Path) -> None:
    from importlib import resources

    file = resources.files("orchestrator.observation") / "grafana_dashboard.json"
    board = json.loads(file.read_text())
    text = exposition(collector(tmp_path))
    used = set(re.findall(r"orchestrator_\w+", json.dumps(board["panels"])))
    there = set(re.findall(r"^(orchestrator_\w+)", text, re.MULTILINE))
    declared = set(re.findall(r"^# TYPE (orchestrator_\w+)", text, re.MULTILINE))
    assert used
    assert used <= there | declared
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_metrics_are_served_and_a_scrape_reads_anew(tmp_path: Path) -> None:
    from urllib.request import urlopen

    calls: list[int] = []

    def read() -> Reading:
        calls.append(1)
        return reading()

    address, server = serve(NetworkCollector("net", read, tmp_path, fresh_s=0), "127.0.0.1:0")
    try:
        for _ in range(2):
            with urlopen(f"http://{address}/metrics") as answer:
                assert b"orchestrator_device_up" in answer.read()
    finally:
        server.shutdown()
    assert len(calls) == 2
    with pytest.raises(InputError, match="HOST:PORT"):
        serve(NetworkCollector("net", read, tmp_path), "9500x")


@pytest.mark.parametrize(
    ("listen", "host"),
    [(":0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "0.0.0.0")],
)
def test_metrics_are_shown_elsewhere_only_when_asked_for(
    tmp_path: Path, listen: str, host: str
) -> None:
    address, server = serve(NetworkCollector("net", reading, tmp_path), listen)
    try:
        assert server.socket.getsockname()[0] == host
        assert address == f"{host}:{server.server_port}"
    finally:
        server.shutdown()


def test_logs_are_json_lines_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log"
    monkeypatch.setenv(telemetry.LOG_VARIABLE, str(file))
    telemetry.start(["tables", "leaf1"])
    telemetry.log("something", switch="leaf1", key0=MANIFEST.key0)
    telemetry.record_deployment(tmp_path, "net", "g", DELAYS, 3)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["command started", "something", "graph deployed"]
    assert lines[2]["synthesis_delay_s"] == 0.5
    assert str(MANIFEST.key0) not in file.read_text()
    monkeypatch.setenv(telemetry.LOG_VARIABLE, str(tmp_path / "no" / "folder"))
    with pytest.raises(InputError, match="No such file"):
        telemetry.start([])


def test_a_deployment_is_a_span_with_its_phases(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk: not installed")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    telemetry.record_deployment(tmp_path, "net", "g", DELAYS, 3)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {
        *("deploy", "synthesis_delay", "launch_delay", "offloading_installation_delay")
    }
    whole = spans["deploy"]
    assert whole.end_time - whole.start_time == 1_750_000_000
    assert spans["launch_delay"].parent.span_id == whole.context.span_id


@NEEDS_TSHARK
def test_tshark_reads_the_capture_as_nsh(tmp_path: Path) -> None:
    inner = parse_packet("tcp 10.0.1.11:40000 > 198.51.100.13:80")
    tag = Tag(dst_mac=0x020000050002, src_mac=0x020000010000, spi=16385, si=254, label=0xCAFE)
    file = io.BytesIO()
    writer = PcapngWriter(file)
    first = writer.interface("one", "leaf1 port 1 (h1)")
    second = writer.interface("two", "server1.1")
    writer.packet(first, 1_700_000_000_123_456_789, inner, direction=INBOUND)
    writer.packet(second, 1_700_000_000_123_456_790, encode(tag, inner), direction=OUTBOUND)
    path = tmp_path / "c.pcapng"
    path.write_bytes(file.getvalue())
    fields = ("frame.interface_name", "frame.time_epoch", "nsh.spi", "nsh.si", "ip.dst")
    shown = subprocess.run(
        ["tshark", "-r", str(path), "-T", "fields", *(x for f in fields for x in ("-e", f))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [line.split("\t") for line in shown] == [
        ["one", "1700000000.123456789", "", "", "198.51.100.13"],
        ["two", "1700000000.123456790", "16385", "254", "198.51.100.13"],
    ]
